"""Checks of a request's form: gathers every malformed field, then refuses once with all of them."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp

from svckit.clock import from_timestamp
from svckit.errors import FieldProblem, InvalidRequest

_NAME_MAX = 65
_NAME_MARKS = frozenset("0123456789-_/. ")
_DESCRIPTION_MAX = 256
_SENTENCE_MAX = 256
_LABELS_MAX = 16
_DISK_MIN_BYTES = 1 << 20
_DISK_MAX_BYTES = 64 << 40
_DISK_UNIT_BYTES = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9._/-]{0,62}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9._/-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(r"[a-z0-9-]{1,64}")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,62}")


def is_region_name(text: str) -> bool:
    return _REGION.fullmatch(text) is not None


def is_resource_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


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
            value[0].isalpha()
            and not value.endswith(" ")
            and all(character.isalpha() or character in _NAME_MARKS for character in value),
            field,
            "is not a letter, then letters, digits, - _ / . and inner blanks",
        )

    def description(self, field: str, value: str) -> None:
        self.that(len(value) <= _DESCRIPTION_MAX, field, f"is longer than {_DESCRIPTION_MAX} characters")
        self.that(not _CONTROL_BUT_NEWLINE.search(value), field, "has control characters other than newline")

    def labels(self, field: str, value: Mapping[str, str]) -> None:
        self.that(len(value) <= _LABELS_MAX, field, f"has more than {_LABELS_MAX}")
        for key in sorted(value)[:_LABELS_MAX]:
            self.that(
                _LABEL_KEY.fullmatch(key) is not None,
                field,
                f"has the key {key!r}, which is not 1 to 63 characters of [a-z][a-z0-9._/-]*",
            )
            self.that(
                _LABEL_VALUE.fullmatch(value[key]) is not None,
                field,
                f"has a value of {key!r} that is not at most 63 characters of [A-Za-z0-9._/-]*",
            )

    def line(self, field: str, value: str) -> None:
        """Text to compare with; there is none that it must be."""
        self.that(not _CONTROL.search(value), field, "has control characters")

    def sentence(self, field: str, value: str) -> None:
        """One that is kept for who reads it later."""
        self.that(bool(value.strip()), field, "is empty")
        self.that(len(value) <= _SENTENCE_MAX, field, f"is longer than {_SENTENCE_MAX} characters")
        self.line(field, value)

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

    def moment(self, field: str, value: Timestamp) -> datetime | None:
        """The moment; None, and a problem, for a timestamp that is none."""
        try:
            return from_timestamp(value)
        except (ValueError, OverflowError):
            self.problem(field, "is not a moment from year 1 to year 9999")
            return None

    def page_size(self, value: int) -> None:
        self.that(value >= 0, "page_size", "is negative")


def must_be_ahead(field: str, moment: datetime | None, now: datetime) -> None:
    """Asked at admission, not of the form: a request that is repeated after its moment still gets its first answer."""
    if moment is not None and moment <= now:
        raise InvalidRequest(
            f"{field} is not in the future", fields=[FieldProblem(field, "is not in the future")]
        )
