"""How long a snapshot is kept: the options that say when it expires."""

from typing import Annotated, NamedTuple

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint_cli.values import END_FORMS, parse_end

_FOREVER = "forever"


class Kept(NamedTuple):
    """What a snapshot's time is changed to; None is for ever."""

    until: Timestamp | None


def parse_until(text: str) -> Timestamp:
    try:
        return parse_end(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_kept(text: str) -> Kept:
    return Kept(None if text.strip().lower() == _FOREVER else parse_until(text))


KeepOption = Annotated[
    Timestamp | None,
    typer.Option(
        parser=parse_until,
        metavar="SPAN|TIME",
        help=f"How long it is kept before it is deleted by itself: {END_FORMS}; local time.",
    ),
]
NewKeepOption = Annotated[
    Kept | None,
    typer.Option(
        "--keep",
        parser=parse_kept,
        metavar=f"SPAN|TIME|{_FOREVER}",
        help=f"How long it is kept before it is deleted by itself: {END_FORMS}; local time; or {_FOREVER}.",
    ),
]
