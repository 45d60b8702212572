"""Prints what a command answers: tables and cards for a person, protobuf JSON for a program.

Answers go to stdout; progress, hints and errors to stderr, so that a pipe gets the answer and nothing else.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import islice
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stillpoint_cli.addresses import Service
from stillpoint_cli.parsing import at_least, one_of

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs, one object per line.")]
ServiceOption = Annotated[
    Service | None,
    typer.Option(
        parser=one_of({service.value: service for service in Service}),
        metavar="SERVICE",
        help=f"Only those of this service: {', '.join(Service)}.",
    ),
]
LimitOption = Annotated[
    int,
    typer.Option(parser=at_least(0), metavar="COUNT", help="How many at most; 0 lists everything."),
]

# So many rows share their column widths. A longer list is printed in parts rather than gathered first.
ROWS_PER_TABLE = 500

RowT = TypeVar("RowT")
Columns = Mapping[str, Callable[[RowT], str | Text]]

_STYLES = {
    "AVAILABLE": "green",
    "RUNNING": "green",
    "MOUNTED": "green",
    "SUCCEEDED": "green",
    "GOOD": "green",
    "STOPPED": "yellow",
    "STOPPED_NO_CHARGE": "yellow",
    "DETACHED": "yellow",
    "ERROR": "bold red",
    "ERROR_ROLLBACK": "bold red",
    "FAILED": "bold red",
    "ABANDONED": "bold red",
    "COMPENSATING": "red",
    "IN_DEBT": "bold red",
}


# Nothing that is printed is cut or folded to the terminal's width: half an id is of no use to anybody. A table takes the
# width it needs, and the terminal wraps a line that is longer than itself.
_UNBOUNDED = 10_000


@cache
def stdout() -> Console:
    return Console(width=_UNBOUNDED, highlight=False, markup=False, emoji=False)


@cache
def stderr() -> Console:
    return Console(stderr=True, width=_UNBOUNDED, highlight=False, markup=False, emoji=False)


@cache
def live() -> Console:
    """For progress bars and spinners, which redraw their line and so must know the terminal's width."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_error(message: str) -> None:
    first, _, rest = printable(message, keep="\n").partition("\n")
    stderr().print(Text.assemble(("Error: ", "bold red"), first, f"\n{rest}" if rest else ""))


def say(message: str) -> None:
    """A remark for a person, beside the answer."""
    stderr().print(Text(printable(message), style="dim"))


def print_json(message: Message | Mapping[str, Any]) -> None:
    print(
        json.dumps(as_dict(message) if isinstance(message, Message) else message, ensure_ascii=False),
        flush=True,
    )


def as_dict(message: Message) -> dict[str, Any]:
    """With the field names of the proto and every field present, so that a program needs no defaults of its own."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def print_list(
    rows: Iterable[RowT],
    columns: Columns[RowT],
    *,
    limit: int,
    as_json: bool,
    nothing: str,
    to_json: Callable[[RowT], Message | Mapping[str, Any]],
) -> None:
    """At most `limit` rows, fetched as they are printed; one row more is asked for, to say whether there are more."""
    source = iter(rows)
    wanted = islice(source, limit or None)
    if as_json:
        for row in wanted:
            print_json(to_json(row))
        return
    printed = 0
    while batch := list(islice(wanted, ROWS_PER_TABLE)):
        stdout().print(make_table(batch, columns))
        printed += len(batch)
    if not printed:
        say(nothing)
    elif next(source, None) is not None:
        say(f"These are the first {printed}; --limit 0 lists all.")


def make_table(rows: Iterable[RowT], columns: Columns[RowT]) -> Table:
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        table.add_row(*(cell(make(row)) for make in columns.values()))
    return table


def print_card(title: str, fields: Mapping[str, str | Text]) -> None:
    """One resource: its name, then a line per field that has a value."""
    card = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    card.add_column(style="dim")
    for name, value in fields.items():
        if value:
            card.add_row(name, cell(value))
    stdout().print(Text(printable(title), style="bold"))
    stdout().print(card)


def cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(printable(value))


def printable(text: str, keep: str = "") -> str:
    """Names come from other people: a control character in one must not reach this terminal."""
    return "".join(
        character if character in keep or not unicodedata.category(character).startswith("C") else "�"
        for character in text
    )


def enum_name(name_of: Callable[[Any], str], value: int, prefix: str) -> str:
    try:
        return name_of(value).removeprefix(prefix)
    except ValueError:
        return str(value)  # a newer service's


def styled(name: str) -> Text:
    """A state in its colour; what is in progress, and what this client does not know, is cyan."""
    return Text(name, style=_STYLES.get(name, "cyan"))
