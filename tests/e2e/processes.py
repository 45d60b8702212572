"""The product as its users start it: `stillpoint …` commands, `stillpoint up`, and a service by itself, each a process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillpoint_cli.addresses import DEFAULT_REGION, Addresses, Service, folder_of
from tests.support.servers import free_port
from tests.support.waiting import eventually

STILLPOINT = Path(sys.executable).with_name("stillpoint")
# For anything here, on a machine that is busy with something else.
PATIENCE_SECONDS = 60
# More would only wait for each other: a command is mostly its imports.
_AT_ONCE = 4


def environment(**settings: str) -> dict[str, str]:
    """This process's, without what a developer may have set or kept for a deployment of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STILLPOINT_")}
    kept["XDG_CONFIG_HOME"] = "/nowhere"
    return kept | {f"STILLPOINT_{name}": value for name, value in settings.items()}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a process left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def run(command: Sequence[object], *, env: dict[str, str], cwd: Path | None = None, typed: str = "") -> Ran:
    done = subprocess.run(
        [str(each) for each in command],
        input=typed,
        capture_output=True,
        encoding="utf-8",
        env=env,
        cwd=cwd,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class CommandLine:
    """`stillpoint` for the deployment that keeps its data in `folder`, and for this region of several."""

    def __init__(self, folder: Path, region: str = "", **settings: str) -> None:
        self.environment = environment(DIR=str(folder), **({"REGION": region} if region else {}), **settings)

    def __call__(self, *arguments: object, cwd: Path | None = None, typed: str = "") -> Ran:
        return run([STILLPOINT, *arguments], env=self.environment, cwd=cwd, typed=typed)

    def out(self, *arguments: object) -> str:
        """What a command prints that must succeed."""
        ran = self(*arguments)
        assert ran.code == 0, f"stillpoint {arguments} ended with {ran.code}: {ran.err}"
        return ran.out

    def rows(self, *arguments: object) -> list[Any]:
        """The objects that a command prints with --json, one a line."""
        return [json.loads(line) for line in self.out(*arguments, "--json").splitlines()]

    def json(self, *arguments: object) -> Any:
        """The only one."""
        (row,) = self.rows(*arguments)
        return row

    def out_of_each(self, commands: Sequence[Sequence[object]]) -> list[str]:
        """Runs them side by side."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(lambda command: self.out(*command), commands))


class Up:
    """A running `stillpoint up`, of these regions side by side or of one without a name."""

    def __init__(self, folder: Path, *regions: str) -> None:
        self.folder = folder
        self._homes = [folder_of(folder, region) for region in regions or [DEFAULT_REGION]]
        self._output = folder.with_name(f"{folder.name}.output")
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [
                    str(STILLPOINT),
                    "up",
                    "--free-ports",
                    f"--dir={folder}",
                    *(f"--region={region}" for region in regions),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
        self._modules: dict[int, str] = {}

    @property
    def services(self) -> dict[Service, int]:
        """The processes of the only region."""
        return {
            service: pid for pid, of in self._modules.items() for service in Service if service.module == of
        }

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def addresses(self) -> Addresses:
        addresses = Addresses.read(self.folder)
        assert addresses is not None, f"it does not run: {self.output}"
        return addresses

    def wait_until_all_serve(self) -> None:
        eventually(
            lambda: (
                all((home / "addresses.json").exists() for home in self._homes)
                or self._process.poll() is not None
            ),
            within_seconds=PATIENCE_SECONDS,
        )
        assert self._process.poll() is None, self.output
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._modules = {int(pid): _module(int(pid)) for pid in children}
        assert sorted(self._modules.values()) == sorted(
            service.module for service in Service for _ in self._homes
        )

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def services_left(self) -> list[int]:
        return [pid for pid, module in self._modules.items() if _module(pid) == module]

    def kill_what_is_left(self) -> None:
        if self._process.poll() is None:
            # Asked first: killed, it would leave the services that it has started.
            self._process.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in self.services_left():
            os.kill(pid, signal.SIGKILL)


def _module(pid: int) -> str:
    """What `python -m` runs in this process; empty when it runs no more."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return arguments[2] if arguments[1:2] == ["-m"] else ""


@contextmanager
def running_up(folder: Path, *regions: str) -> Iterator[Up]:
    """`stillpoint up` on this folder, serving. Whatever a test leaves of it is killed when the block ends."""
    up = Up(folder, *regions)
    try:
        up.wait_until_all_serve()
        yield up
    finally:
        up.kill_what_is_left()


def run_service(service: Service, folder: Path, **settings: str) -> Ran:
    """One service by itself, with everything of its own in `folder` but for these settings. It must end by itself."""
    of_its_own = {
        "DATABASE_URL": f"sqlite:///{folder / f'{service}.db'}",
        "PUBLIC_ADDRESS": f"127.0.0.1:{free_port()}",
        "INTERNAL_ADDRESS": f"127.0.0.1:{free_port()}",
        "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
        "STORE_PATH": str(folder / "store"),
        "MIGRATE_AT_START": "true",
    }
    return run([sys.executable, "-m", service.module], env=environment(**{**of_its_own, **settings}))
