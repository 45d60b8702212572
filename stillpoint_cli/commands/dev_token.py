"""`stillpoint dev-token`: a token that the key of `stillpoint dev-certs` signs."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from stillpoint_cli.certs import Certs
from stillpoint_cli.commands import make_app
from stillpoint_cli.parsing import one_of
from svckit.auth.roles import OF_TOKENS
from svckit.validation import is_resource_id

app = make_app()

_SPAN = re.compile(r"([1-9]\d{0,8})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)


def _parse_life(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a span: write 30m, 12h or 7d")
    life = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if life > _LONGEST:
        raise typer.BadParameter(f"{text} is longer than {_LONGEST.days}d")
    return life


def _parse_account(text: str) -> str:
    if not is_resource_id(text):
        raise typer.BadParameter(
            f"{text!r} is no account: it has small letters, digits and hyphens, 64 at most"
        )
    return text


@app.command()
def dev_token(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Which `stillpoint dev-certs` has filled.")
    ],
    account: Annotated[
        str, typer.Option(parser=_parse_account, metavar="ACCOUNT", help="Whose it is to be.")
    ],
    roles: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            parser=one_of({role.value: role.value for role in sorted(OF_TOKENS)}),
            metavar="ROLE",
            help="What it lets do: user, or admin, which includes it. Once more for several.  [default: user]",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[str, typer.Option(help="Who it names in logs and events.")] = "somebody",
    life: Annotated[
        timedelta, typer.Option(parser=_parse_life, metavar="SPAN", help="How long it is good for.")
    ] = "7d",  # type: ignore[assignment] # typer parses what stands here
) -> None:
    """Print a token for trying a locked door, and nothing else: into `stillpoint login`, or a file."""
    print(Certs(folder).token(account, roles or ["user"], subject=subject, life=life))
