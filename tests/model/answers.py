"""Answers as the model gives them, and the product's in a form in which the two can be compared."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.error_tables import REASONS
from tests.contract.refusals import refused

SOME_TIME = Timestamp(seconds=1)
"""Of a moment is only compared whether it is there."""
SOME_OPERATION = "op-"
LONG_AGO = Timestamp(seconds=int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()))
FAR_AHEAD = Timestamp(seconds=int(datetime(2201, 1, 1, tzinfo=UTC).timestamp()))

FULL = "SNAPSHOT_QUOTA_EXCEEDED"
_SEVERAL = "PRECONDITIONS"
_DOCUMENTED = {name: reason for (_, name), reason in REASONS.items() if name != _SEVERAL}
_KINDS = {"Instance": "instance", "Disk": "disk", "DiskSnapshot": "snapshot"}


@dataclass(frozen=True, order=True, slots=True)
class Bar:
    """One thing that stands in the way: a documented reason, and what has it; nothing where the reason says all."""

    reason: str
    subject: str = ""

    @classmethod
    def on(cls, thing: Any, reason: str) -> Self:
        return cls(reason, f"{_KINDS[type(thing).__name__]}/{thing.id}")


class Refused(Exception):
    """A refusal, as the contract says it is told: the one thing that bars, or everything that does."""

    def __init__(self, *bars: Bar, asked: str = "", fields: Iterable[str] = ()) -> None:
        """`asked` is the service that has to answer for several; `fields` are those that a single bar makes malformed."""
        documented = [_DOCUMENTED[bar.reason] for bar in bars]
        domains = {reason.domain for reason in documented}
        self.full = sorted(bar.subject for bar in bars if bar.reason == FULL)
        self.violations = sorted(
            (bar.reason, bar.subject) for bar in bars if bar.subject and bar.reason != FULL
        )
        self.fields: list[str] = []
        if len(bars) == 1 or not self.violations:
            [self.code] = documented[0].codes
            self.reason, self.domain = bars[0].reason, documented[0].domain
            self.fields = sorted(fields) if self.reason in ("SIZE_TOO_SMALL", "INVALID_REQUEST") else []
        else:
            self.code, self.reason = "FAILED_PRECONDITION", _SEVERAL
            self.domain = domains.pop() if len(domains) == 1 else f"{asked}.stillpoint"
        super().__init__(self.code, self.reason, self.domain, self.violations, self.full, self.fields)

    @classmethod
    def by_any(cls, bars: Iterable[Bar], *, asked: str = "", fields: Iterable[str] = ()) -> None:
        if found := list(bars):
            raise cls(*found, asked=asked, fields=fields)

    @classmethod
    def malformed(cls, *fields: str) -> Self:
        return cls(Bar("INVALID_REQUEST"), fields=fields)

    @property
    def number(self) -> int:
        """Of the code."""
        number: int = grpc.StatusCode[self.code].value[0]
        return number

    def is_what(self, error: grpc.RpcError) -> None:
        """Fails unless this is what the product said."""
        with refused(self.code, self.reason, self.domain) as said:
            raise error
        told = (sorted(said.violations), sorted(said.quotas), sorted(set(said.fields)))
        expected = (self.violations, self.full, self.fields)
        assert told == expected, f"the product named {told}\nby the rules: {expected}"


def plain(shown: Any) -> Any:
    """A copy in which only that remains which the model knows."""
    if not isinstance(shown, Message):
        return shown
    copy = type(shown)()
    copy.CopyFrom(shown)
    _forget(copy)
    return copy


def _forget(message: Any) -> None:
    for field, value in message.ListFields():
        match field.name:
            case "create_time" | "update_time" | "cut_time":
                value.CopyFrom(SOME_TIME)
            case "operation_id":
                message.operation_id = SOME_OPERATION
            case "untouched_disk_ids" | "detached_disk_ids":
                value.sort()
            case "error":
                _forget_words(value)
            case _ if isinstance(value, Message):
                _forget(value)
            case _ if field.message_type and not field.message_type.GetOptions().map_entry:
                for each in value:
                    _forget(each)


def _forget_words(error: Any) -> None:
    error.message = ""
    error.metadata.clear()
    for violation in error.violations:
        violation.description = ""
