"""`stillpoint doctor`: prints what stillpoint_cli.doctor finds."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from stillpoint_cli.addresses import Service
from stillpoint_cli.bars import byte_bar
from stillpoint_cli.commands import make_app
from stillpoint_cli.connections import Connections
from stillpoint_cli.describing import parse_time
from stillpoint_cli.doctor import Channels, Result, examine, scrub
from stillpoint_cli.output import JsonOption, print_json, printable, stdout
from stillpoint_cli.values import MOMENT_FORMS

app = make_app()

FAULTS = 1
NOT_ASKED = 2


@app.command()
def doctor(
    context: typer.Context,
    every_byte: Annotated[
        bool,
        typer.Option("--scrub", help="Also read every stored byte and compare it with its checksum."),
    ] = False,
    older_than: Annotated[
        Timestamp | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME|AGE",
            help=f"Also report what has been in progress since before: {MOMENT_FORMS}; local time.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check across the three services that everything that must hold does hold.

    What a running operation holds is in progress, not a fault, until its step has been tried ten times in vain; what looks
    wrong is looked at up to three times. A copy may run for hours: how long is too long, only you can say (--older-than).
    Exits 0 when all is well, 1 when there are faults, 2 when there are none so far but a service could not be asked.
    As JSON, a line for each check. The internal addresses come from STILLPOINT_COMPUTE_INTERNAL and
    STILLPOINT_DISK_INTERNAL, or are found as the public ones are.

    Where the doors are locked, the internal ports let in the certificate that STILLPOINT_INTERNAL_CERTIFICATE,
    STILLPOINT_INTERNAL_KEY and STILLPOINT_INTERNAL_CA name; what operations hold is judged for the account of the token.
    """
    connections = Connections.of(context)
    channels = Channels(
        compute=connections.public(Service.COMPUTE),
        compute_internal=connections.internal(Service.COMPUTE),
        disk=connections.public(Service.DISK),
        disk_internal=connections.internal(Service.DISK),
        snapshot=connections.public(Service.SNAPSHOT),
        one_account=connections.is_locked(Service.SNAPSHOT),
    )
    results = []
    for result in _checks(channels, older_than, every_byte=every_byte, show=not as_json):
        print_json(asdict(result)) if as_json else _print_result(result)
        results.append(result)
    code = exit_code(results)
    if not as_json:
        _print_verdict(results, code)
    raise typer.Exit(code)


def _checks(
    channels: Channels, older_than: Timestamp | None, *, every_byte: bool, show: bool
) -> Iterator[Result]:
    yield from examine(channels, long_before=older_than.ToDatetime(UTC) if older_than else None)
    if every_byte:
        yield _scrub(channels, show=show)


def _scrub(channels: Channels, *, show: bool) -> Result:
    with byte_bar(show=show, goes=True) as bar:
        task = bar.add_task("reading every byte", total=None)
        return scrub(channels, lambda length_bytes: bar.advance(task, length_bytes))


def exit_code(results: Iterable[Result]) -> int:
    """A fault that was found is certain, whatever else could not be asked."""
    code = 0
    for result in results:
        if result.findings:
            return FAULTS
        if result.not_asked:
            code = NOT_ASKED
    return code


def _print_result(result: Result) -> None:
    if result.not_asked:
        stdout().print(Text.assemble(("? ", "yellow"), f"{result.check}: could not be checked"))
        _print_indented(result.not_asked)
        return
    mark = ("✗ ", "bold red") if result.findings else ("✓ ", "green")
    faults = f", {len(result.findings)} at fault" if result.findings else ""
    stdout().print(Text.assemble(mark, f"{result.check}: {result.looked_at}{faults}"))
    for finding in result.findings:
        _print_indented(finding.problem)


def _print_indented(text: str) -> None:
    for line in text.splitlines():
        stdout().print(Text(f"    {printable(line)}"))


def _print_verdict(results: list[Result], code: int) -> None:
    faults = sum(len(result.findings) for result in results)
    verdict = {
        0: Text("All is well.", style="green"),
        FAULTS: Text(f"{faults} fault{'s' if faults > 1 else ''}.", style="bold red"),
        NOT_ASKED: Text("No faults so far, but not everything could be checked.", style="yellow"),
    }
    stdout().print(verdict[code])
