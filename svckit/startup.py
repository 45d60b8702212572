"""What keeps a service from starting is one line for a person, and exit code 1; anything else is a traceback."""

import sys
from collections.abc import Callable

from pydantic import ValidationError


class CannotStart(Exception):
    """The sentence says what is in the way."""


def run_main(service: str, main: Callable[[], None]) -> None:
    """Run a composition root."""
    try:
        main()
    except ValidationError as error:
        sys.exit("\n".join(f"{service}: {_sentence(problem)}" for problem in _problems(error)))
    except CannotStart as error:
        sys.exit(f"{service}: {error}")


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    return [
        (".".join(str(part) for part in problem["loc"]), problem["msg"])
        for problem in error.errors(include_url=False, include_input=False)
    ]


def _sentence(problem: tuple[str, str]) -> str:
    setting, message = problem
    return f"STILLPOINT_{setting.upper()}: {message.removeprefix('Value error, ')}"
