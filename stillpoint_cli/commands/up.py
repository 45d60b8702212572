"""`stillpoint up`: the three services on this machine, until Ctrl-C."""

import shlex
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.table import Table

from stillpoint_cli.addresses import DEFAULT_FOLDER, Service
from stillpoint_cli.commands import make_app
from stillpoint_cli.errors import Failure
from stillpoint_cli.local import LocalDeployment
from stillpoint_cli.output import say, stdout

app = make_app()


@app.command()
def up(
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            envvar="STILLPOINT_DIR",
            file_okay=False,
            help="Where databases, blocks and logs are kept.",
        ),
    ] = DEFAULT_FOLDER,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Take any free ports instead of 50051-50053 and 50061-50063.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing unless something goes wrong.")
    ] = False,
) -> None:
    """Run the three services on this machine, on loopback only, until Ctrl-C.

    Everything is kept in the folder, and is there again the next time. While they run, other commands find the
    services by the file addresses.json in it. When one of them ends by itself, all are stopped.
    """
    stopped = threading.Event()
    # SIGHUP too: the services have sessions of their own and would outlive a terminal that is closed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stopped.set())
    with LocalDeployment(folder, free_ports=free_ports) as deployment:
        if not quiet:
            _print_panel(deployment, folder)
        while not stopped.wait(0.2):
            if dead := deployment.dead():
                raise Failure(deployment.describe_death(dead))
        if not quiet:
            say("Stopping …")


def _print_panel(deployment: LocalDeployment, folder: Path) -> None:
    facts = Table.grid(padding=(0, 2))
    for service in Service:
        endpoint = deployment.addresses.of(service)
        facts.add_row(service.module, endpoint.public, f"internal {endpoint.internal}")
    facts.add_row("folder", str(deployment.folder))
    facts.add_row("logs", str(deployment.folder / "logs"))
    stdout().print(Panel(facts, title="Stillpoint is running", title_align="left", expand=False))
    print("Try, in another terminal:")
    if folder != DEFAULT_FOLDER:
        print(f"  export STILLPOINT_DIR={shlex.quote(str(deployment.folder))}")
    print("  stillpoint instance create web-1 --system 10GiB --data 20GiB")
    print("Ctrl-C stops all three.", flush=True)
