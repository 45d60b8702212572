"""Checks of a request's form: gathers every malformed field, then refuses once with all of them."""

import re
from collections.abc import Iterable
from typing import Self

from svckit.errors import FieldProblem, InvalidRequest

_NAME_MAX = 65
_DISK_MIN_BYTES = 1 << 20
_DISK_MAX_BYTES = 64 << 40
_DISK_UNIT_BYTES = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(r"[a-z0-9-]{1,64}")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,62}")


def is_region_name(text: str) -> bool:
    return _REGION.fullmatch(text) is not None


class Checks:
    """Use as `with Checks() as check:`; leaving the block raises InvalidRequest when anything was found."""

    def __init__(self) -> None:
        self._problems: list[FieldProblem] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._problems:
            sentences = "; ".join(f"{p.field} {p.description}" for p in self._problems)
            raise InvalidRequest(sentences, fields=self._problems)

    def problem(self, field: str, description: str) -> None:
        self._problems.append(FieldProblem(field, description))

    def that(self, holds: bool, field: str, description: str) -> None:  # noqa: FBT001 - reads as a sentence
        if not holds:
            self.problem(field, description)

    def request_id(self, value: str) -> None:
        if not value:
            return
        # One spelling only: two spellings of one UUID would be two requests.
        self.that(_UUID.fullmatch(value.lower()) is not None, "request_id", "is not a UUID")

    def resource_id(self, field: str, value: str, *, required: bool = True) -> None:
        """Only the form: an id of the right form that names nothing is NOT_FOUND, said by who looks it up."""
        if not value:
            self.that(not required, field, "is empty")
        else:
            self.that(_ID.fullmatch(value) is not None, field, "is not an id")

    def name(self, field: str, value: str, *, required: bool = True) -> None:
        if not value:
            self.that(not required, field, "is empty")
            return
        self.that(len(value) <= _NAME_MAX, field, f"is longer than {_NAME_MAX} characters")
        self.that(
            value == value.strip() and not _CONTROL.search(value),
            field,
            "has outer blanks or control characters",
        )

    def destination(self, field: str, value: str, *, here: str) -> None:
        """A region to copy to from this one; whether there is such a region is said by who looks it up."""
        if not value:
            self.problem(field, "is empty")
            return
        self.that(is_region_name(value), field, "is not a region's name")
        self.that(value != here, field, "is this region")

    def enum_value(self, field: str, value: int, known: Iterable[int], *, required: bool = False) -> None:
        self.that(value in known, field, "is not a value of its enum")
        self.that(not required or value != 0, field, "is not set")

    def disk_size(self, field: str, value: int, *, may_be_zero: bool = False) -> None:
        """A size in bytes; zero may mean "as large as the snapshot"."""
        if may_be_zero and value == 0:
            return
        self.that(
            _DISK_MIN_BYTES <= value <= _DISK_MAX_BYTES and value % _DISK_UNIT_BYTES == 0,
            field,
            f"is not a multiple of {_DISK_UNIT_BYTES} between 1 MiB and 64 TiB",
        )

    def page_size(self, value: int) -> None:
        self.that(value >= 0, "page_size", "is negative")
