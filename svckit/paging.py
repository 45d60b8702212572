"""Keyset pages: newest first along an ordered unique column, so that a page never skips or repeats a row while others
come and go. A token holds the last key of the page before and is bound to the list and its filter.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.orm import InstrumentedAttribute, Session

from svckit.errors import PageTokenInvalid

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)

Row = TypeVar("Row")


class ListRequest(Protocol):
    """The fields that every list request has."""

    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for: `after` is the last key of the page before."""

    size: int
    after: str | int | None
    binding: str

    @staticmethod
    def of(request: ListRequest, list_filter: Message | None = None) -> "Page":
        """Raises PageTokenInvalid for a token that this list with this filter did not issue."""
        content = list_filter.SerializeToString(deterministic=True) if list_filter is not None else b""
        named = type(request).__name__.encode() + b"\0" + content
        binding = hashlib.sha256(named).hexdigest()[:16]
        after: str | int | None = None
        if request.page_token:
            try:
                bound_to, after = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
            except (ValueError, TypeError, RecursionError) as error:
                raise PageTokenInvalid from error
            if bound_to != binding or not _may_be_key(after):
                raise PageTokenInvalid
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        return Page(size, after, binding)

    def token_after(self, key: str | int) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.binding, key]).encode()).decode()


def _may_be_key(after: object) -> bool:
    """A token may be forged, and then hold what no column can take: that is refused here, not by the database."""
    if isinstance(after, str):
        return after.isprintable()
    return type(after) is int and abs(after) < 1 << 63


def fetch(
    session: Session, query: sa.Select[Row], key: InstrumentedAttribute[Any], page: Page
) -> tuple[Sequence[Row], str]:
    """One page of `query`, newest first by `key`, and the token of the next page (empty when this is the last).

    Reads one row more than the page to know whether there is a next one; never the whole list.
    """
    if page.after is not None:
        if type(page.after) is not key.type.python_type:
            raise PageTokenInvalid
        query = query.where(key < page.after)
    rows = session.scalars(query.order_by(key.desc()).limit(page.size + 1)).all()
    if len(rows) <= page.size:
        return rows, ""
    rows = rows[: page.size]
    return rows, page.token_after(getattr(rows[-1], key.key))


def fetch_by_time(
    session: Session,
    query: sa.Select[Row],
    time: InstrumentedAttribute[datetime],
    key: InstrumentedAttribute[int],
    page: Page,
) -> tuple[Sequence[Row], str]:
    """As `fetch`, newest first by `time`, and by the unique `key` where two times are the same."""
    if page.after is not None:
        query = query.where(sa.tuple_(time, key) < sa.tuple_(*_moment_and_key(page.after)))
    rows = session.scalars(query.order_by(time.desc(), key.desc()).limit(page.size + 1)).all()
    if len(rows) <= page.size:
        return rows, ""
    rows = rows[: page.size]
    microseconds = (getattr(rows[-1], time.key) - _EPOCH) // _MICROSECOND
    return rows, page.token_after(f"{microseconds}/{getattr(rows[-1], key.key)}")


def _moment_and_key(after: str | int) -> tuple[datetime, int]:
    try:
        microseconds, key = (int(part) for part in str(after).split("/"))
        moment = _EPOCH + microseconds * _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise PageTokenInvalid from error
    if not _may_be_key(key):
        raise PageTokenInvalid
    return moment, key
