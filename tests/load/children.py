"""Clients as processes of their own, so that they work beside the services and not beside the test.

Such a program is a module of this folder: it takes its arguments as one line of JSON, prints what it has to say as lines
of JSON, and ends with its standard input, or by itself.
"""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

_END_SECONDS = 60.0


class Child:
    def __init__(self, module: str, **arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.load.{module}", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"a client ended with exit code {self._process.wait(_END_SECONDS)}; its error is above"
        return json.loads(line)

    def tell_to_end(self) -> None:
        """It may have a last thing to say."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        code = self._process.wait(_END_SECONDS)
        assert error is not None or code == 0, f"a client ended with exit code {code}; its error is above"


def arguments() -> dict[str, Any]:
    """Of the program that this is."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def say(something: Any) -> None:
    print(json.dumps(something), flush=True)
