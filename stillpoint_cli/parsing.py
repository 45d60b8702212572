"""Parsers for what is typed, which refuse in one style, and by saying what would be understood."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import typer

ValueT = TypeVar("ValueT")


def one_of(values: Mapping[str, ValueT]) -> Callable[[str], ValueT]:
    """The value of a name, which is typed in small letters or capitals, with `-` or `_`."""
    names = {_plain(name): value for name, value in values.items()}

    def parse(text: str) -> ValueT:
        if _plain(text) not in names:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(values)}")
        return names[_plain(text)]

    return parse


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise typer.BadParameter(f"{text!r} is not a whole number from {least} on")
        return number

    return parse


def parse_address(text: str) -> str:
    """`host:port`, or several with commas between, as one text without spaces."""
    addresses = [address.strip() for address in text.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise typer.BadParameter(f"{address!r} is not HOST:PORT")
    return ",".join(addresses)
