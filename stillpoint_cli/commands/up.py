"""`stillpoint up`: the three services on this machine, in one region or several, until Ctrl-C."""

import shlex
import signal
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.table import Table

from stillpoint_cli.addresses import (
    DEFAULT_FOLDER,
    DEFAULT_REGION,
    FOLDERS_OF_ITS_OWN,
    Chosen,
    Service,
    folder_of,
)
from stillpoint_cli.certs import Certs
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.dev_certs import describe_use
from stillpoint_cli.errors import Failure
from stillpoint_cli.local import LocalDeployment, addresses_for
from stillpoint_cli.output import say, stdout
from svckit.validation import is_region_name

app = make_app()


@app.command()
def up(  # noqa: PLR0917 - typer passes them by name
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            envvar="STILLPOINT_DIR",
            file_okay=False,
            help="Where databases, blocks and logs are kept.",
        ),
    ] = DEFAULT_FOLDER,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="REGION",
            help="Run this region rather than `local`; once more for each that shall run beside it, on ports 100 higher.",
            show_default=False,
        ),
    ] = None,
    free_ports: Annotated[
        bool,
        typer.Option(
            "--free-ports", help="Take any free ports instead of 50051-50053, 50061-50063 and 50071-50073."
        ),
    ] = False,
    certs: Annotated[
        Path | None,
        typer.Option(
            "--certs",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Lock the doors, with what `stillpoint dev-certs` has put there.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing unless something goes wrong.")
    ] = False,
) -> None:
    """Run the three services on this machine, on loopback only, until Ctrl-C.

    Everything is kept in the folder (of a region other than `local`, in a folder of its name in it), and is there again
    the next time. While they run, other commands find the services by the file addresses.json in it. Between regions that
    run side by side snapshots can be copied. When one of the services ends by itself, all are stopped.
    """
    stopped = threading.Event()
    # SIGHUP too: the services have sessions of their own and would outlive a terminal that is closed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stopped.set())
    chosen = context.ensure_object(Chosen).region
    regions = _checked(regions or [chosen or DEFAULT_REGION])
    addresses = dict(zip(regions, addresses_for(len(regions), free_ports=free_ports), strict=True))
    locks = _made(certs) if certs is not None else None
    deployments = [
        LocalDeployment(
            folder_of(folder, region),
            region=region,
            addresses=addresses[region],
            peers={peer: addresses[peer] for peer in regions if peer != region},
            certs=locks,
        )
        for region in regions
    ]
    with ExitStack() as running:
        for deployment in deployments:
            running.enter_context(deployment)
        if not quiet:
            _print_panel(deployments, folder, locks)
        while not stopped.wait(0.2):
            for deployment in deployments:
                if dead := deployment.dead():
                    raise Failure(deployment.describe_death(dead))
        if not quiet:
            say("Stopping …")


def _checked(regions: list[str]) -> list[str]:
    for region in regions:
        if not is_region_name(region):
            raise typer.BadParameter(
                f"{region!r} is no name: it has small letters, digits and hyphens, a letter first.",
                param_hint="--region",
            )
        if region in FOLDERS_OF_ITS_OWN:
            raise typer.BadParameter(f"{region} is the name of a folder here.", param_hint="--region")
        if regions.count(region) > 1:
            raise typer.BadParameter(f"{region} is named twice.", param_hint="--region")
    return regions


def _made(folder: Path) -> Certs:
    certs = Certs(folder.resolve())
    if not certs.ca.exists():
        raise Failure(
            f"{folder} has no certificates; `stillpoint dev-certs {shlex.quote(str(folder))}` makes them"
        )
    return certs


def _print_panel(deployments: Sequence[LocalDeployment], folder: Path, certs: Certs | None) -> None:
    facts = Table.grid(padding=(0, 2))
    for number, deployment in enumerate(deployments):
        if number:
            facts.add_row()
        facts.add_row("region", deployment.region)
        for service in Service:
            endpoint = deployment.addresses.of(service)
            facts.add_row(service.module, endpoint.public, f"internal {endpoint.internal}")
        facts.add_row("folder", str(deployment.folder))
        facts.add_row("logs", str(deployment.folder / "logs"))
    stdout().print(Panel(facts, title="Stillpoint is running", title_align="left", expand=False))
    print("Try, in another terminal:")
    if folder != DEFAULT_FOLDER:
        print(f"  export STILLPOINT_DIR={shlex.quote(str(folder.resolve()))}")
    if len(deployments) > 1:
        print(f"  export STILLPOINT_REGION={deployments[0].region}")
    if certs is not None:
        print(describe_use(certs))
    print("  stillpoint instance create web-1 --system 10GiB --data 20GiB")
    print("Ctrl-C stops all.", flush=True)
