"""What every list of resources that clients make is narrowed by: name, labels, and the time they were made."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from svckit.validation import Checks

Row = TypeVar("Row")


class Filter(Protocol):
    """The fields that the filter of each such list has, besides its own."""

    name: str

    @property
    def labels(self) -> Mapping[str, str]: ...

    @property
    def created_from(self) -> Timestamp: ...

    @property
    def created_before(self) -> Timestamp: ...

    def HasField(self, field_name: Any, /) -> bool: ...  # noqa: N802 - protobuf's name


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The rows of one name, with all of these labels, made from one moment on and before another; what is empty or None
    lets every row pass.
    """

    name: str
    labels: Mapping[str, str]
    created_from: datetime | None
    created_before: datetime | None

    @staticmethod
    def of(check: Checks, wanted: Filter) -> "Narrowing":
        def moment(field: str) -> datetime | None:
            return check.moment(f"filter.{field}", getattr(wanted, field)) if wanted.HasField(field) else None

        check.name("filter.name", wanted.name, required=False)
        check.labels("filter.labels", wanted.labels)
        return Narrowing(wanted.name, dict(wanted.labels), moment("created_from"), moment("created_before"))

    def apply(self, query: sa.Select[Row], table: Any) -> sa.Select[Row]:
        """`table` is the mapped class whose rows `query` selects."""
        if self.name:
            query = query.where(table.name == self.name)
        for key, value in self.labels.items():
            query = query.where(table.labels[key].as_string() == value)
        if self.created_from is not None:
            query = query.where(table.create_time >= self.created_from)
        if self.created_before is not None:
            query = query.where(table.create_time < self.created_before)
        return query
