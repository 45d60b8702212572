"""Keyset pages over rows that come and go."""

import base64
import json

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from stillpoint.operation.v1.event_service_pb2 import ListEventsRequest
from stillpoint.operation.v1.operation_service_pb2 import ListOperationsRequest
from svckit import paging
from svckit.database import Database, table_of
from svckit.errors import PageTokenInvalid
from tests.unit.svckit.sample import Item

FILTER = ListOperationsRequest.Filter(resource_id="disk-1")


def _insert(database: Database, *numbers: int) -> None:
    with database.write() as session:
        rows = [{"id": f"item-{number:03}", "number": number} for number in numbers]
        session.execute(sa.insert(table_of(Item)), rows)


def _delete(database: Database, *numbers: int) -> None:
    with database.write() as session:
        session.execute(sa.delete(table_of(Item)).where(Item.number.in_(numbers)))


def _page(
    database: Database,
    token: str = "",
    size: int = 10,
    key: InstrumentedAttribute[str] | InstrumentedAttribute[int] = Item.id,
) -> tuple[list[int], str]:
    request = ListOperationsRequest(filter=FILTER, page_size=size, page_token=token)
    with database.read() as session:
        rows, following = paging.fetch(session, sa.select(Item), key, paging.Page.of(request, request.filter))
    return [row.number for row in rows], following


@pytest.mark.parametrize("key", [Item.id, Item.number])
def test_no_row_is_skipped_or_repeated_while_others_come_and_go(
    database: Database, key: InstrumentedAttribute[str] | InstrumentedAttribute[int]
):
    _insert(database, *range(100, 150))
    seen, token = _page(database, key=key)
    newest = 200
    gone: set[int] = set()
    while token:
        # The row that the token names, one of each side, and two newer than all.
        going = {seen[-1], seen[0], seen[-1] - 3}
        _delete(database, *going)
        gone |= going
        _insert(database, newest, newest + 1)
        newest += 2
        rows, token = _page(database, token, key=key)
        seen += rows
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, reverse=True)
    assert set(range(100, 150)) - gone <= set(seen)
    assert not [number for number in seen if number >= 200]


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_the_last_page_has_no_token_and_no_page_is_empty_but_that_of_an_empty_list(
    database: Database, rows: int, pages: int
):
    if rows:
        _insert(database, *range(rows))
    token, sizes = "", []
    for turn in range(pages):
        assert turn == 0 or token
        numbers, token = _page(database, token)
        sizes.append(len(numbers))
    assert token == ""
    assert sum(sizes) == rows
    assert rows == 0 or 0 not in sizes


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (500, 500), (501, 500), (2_000_000_000, 500)])
def test_a_page_has_as_many_rows_as_asked_for_within_bounds(asked: int, given: int):
    assert paging.Page.of(ListOperationsRequest(page_size=asked)).size == given


def _forged(after: object) -> str:
    binding = paging.Page.of(ListOperationsRequest(filter=FILTER), FILTER).binding
    return base64.urlsafe_b64encode(json.dumps([binding, after]).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        "%%%%",
        "é",
        "AAAA",
        base64.urlsafe_b64encode(b"5").decode(),
        base64.urlsafe_b64encode(b'{"a": 1, "b": 2}').decode(),
        base64.urlsafe_b64encode(b"[1, 2, 3]").decode(),
        pytest.param(base64.urlsafe_b64encode(b"[" * 100_000).decode(), id="deeply nested"),
        _forged(None),
        _forged(1.5),
        _forged(["x"]),
        _forged(True),
        _forged(10**30),
        _forged("a\0b"),
        _forged("\ud800"),
        _forged(7),
    ],
)
def test_a_token_that_was_not_issued_is_refused(database: Database, token: str):
    with pytest.raises(PageTokenInvalid):
        _page(database, token)


@pytest.mark.parametrize("after", [True, 10**30, "item-1"])
def test_a_token_of_another_type_than_the_key_is_refused(database: Database, after: object):
    with pytest.raises(PageTokenInvalid):
        _page(database, _forged(after), key=Item.number)


def test_a_token_of_another_list_or_another_filter_is_refused(database: Database):
    _insert(database, *range(3))
    _, token = _page(database, size=1)
    other = ListOperationsRequest.Filter(resource_id="disk-2")
    with pytest.raises(PageTokenInvalid):
        paging.Page.of(ListOperationsRequest(page_token=token), other)
    with pytest.raises(PageTokenInvalid):
        paging.Page.of(ListOperationsRequest(page_token=token))
    with pytest.raises(PageTokenInvalid):
        paging.Page.of(ListEventsRequest(page_token=token), FILTER)
    assert paging.Page.of(ListOperationsRequest(page_token=token, page_size=9), FILTER).after == "item-002"


def test_a_filter_that_is_absent_and_one_that_is_empty_are_the_same():
    absent = paging.Page.of(ListOperationsRequest(), ListOperationsRequest().filter)
    assert absent.binding == paging.Page.of(ListOperationsRequest(), ListOperationsRequest.Filter()).binding
