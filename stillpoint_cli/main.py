"""Composes the command line: the root options, and which module has which command.

A command's module, and grpc with it, is imported when the command line names it. Listing the commands needs their one
line from here and nothing else, which is what keeps `stillpoint --help` quick.
"""

import importlib
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stillpoint_cli.addresses import Chosen, Service
from stillpoint_cli.parsing import parse_address
from stillpoint_cli.pasting import begin_as

COMMANDS = {
    "up": "Run the three services on this machine.",
    "instance": "Machines: create, update, start, stop, attach disks, delete.",
    "disk": "Disks: create, import, export, snapshot, roll back, delete.",
    "snapshot": "Snapshots: create, list, show, roll back, copy, delete.",
    "policy": "Automatic snapshots: of which disks, when, how long kept.",
    "operation": "What runs behind a request: list, show, watch, retry.",
    "events": "List what happened, newest first.",
    "account": "The standing of an account: show it, set it.",
    "login": "Keep a token for a deployment with a locked door.",
    "logout": "Forget that token.",
    "migrate": "Bring the schema of a service's database up to date.",
    "doctor": "Check that what must hold across the services does.",
    "dev-certs": "Make certificates and keys for trying a locked door.",
    "dev-token": "Print a token that those keys sign.",
}


class LazyCommands(TyperGroup):
    """The root command: imports a command when it runs, and turns what goes wrong in it into one message."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002 - likewise
        return TyperCommand(name=cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return None, None, rest  # a half-typed name, while the shell completes it
        if name != "up":  # whose services inherit it, and have a log for that
            # What goes wrong is said by the command; gRPC would print a line of its own before it.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        module = importlib.import_module(f"stillpoint_cli.commands.{name.replace('-', '_')}")
        return name, typer.main.get_command(module.app), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Loaded by now, if a command ran: this module alone must not pull grpc in.
            from stillpoint_cli.errors import explain  # noqa: PLC0415
            from stillpoint_cli.output import print_error  # noqa: PLC0415

            explanation = explain(error)
            if explanation is None:
                raise
            print_error(explanation)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    # Plain help: laying it out with rich takes longer to import than everything else together.
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and for this alone

        typer.echo(f"stillpoint {version('stillpoint')}")
        raise typer.Exit


@app.callback()
def find_services(
    ctx: typer.Context,
    region: Annotated[
        str,
        typer.Option(
            metavar="REGION",
            envvar="STILLPOINT_REGION",
            help="Which region, where `up` runs several of them.",
        ),
    ] = "",
    compute: Annotated[
        str | None,
        typer.Option(
            parser=parse_address,
            metavar="HOST:PORT",
            envvar="STILLPOINT_COMPUTE",
            help="Where compute_svc is: of several replicas, a name that stands for all, or each with commas between.",
        ),
    ] = None,
    disk: Annotated[
        str | None,
        typer.Option(
            parser=parse_address, metavar="HOST:PORT", envvar="STILLPOINT_DISK", help="Where disk_svc is."
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            parser=parse_address,
            metavar="HOST:PORT",
            envvar="STILLPOINT_SNAPSHOT",
            help="Where snapshot_svc is; as many as of compute_svc.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """One snapshot of a whole machine: every disk of an instance, at one moment, under one id.

    Start the services with `stillpoint up`, then, in another terminal:

      stillpoint instance create web-1 --system 10GiB --data 20GiB

    The other commands find them by the options below or, without those, by the file that `up` leaves in its folder
    ($STILLPOINT_DIR, else ./var), else where `login` was, else on the default ports. Times are local time, typed and printed.
    """
    public = {Service.COMPUTE: compute, Service.DISK: disk, Service.SNAPSHOT: snapshot}
    chosen = Chosen(region, {service: address for service, address in public.items() if address})
    begin_as(chosen, os.environ)
    ctx.obj = chosen
