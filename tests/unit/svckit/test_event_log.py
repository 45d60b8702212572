"""The log of events, read through its filters."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from stillpoint.operation.v1.event_service_pb2 import ListEventsRequest
from svckit import paging
from svckit.database import Database, table_of
from svckit.errors import PageTokenInvalid
from svckit.saga import journal
from svckit.saga.journal import Event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ANYTHING: dict[str, Any] = {
    "account_id": "local",
    "region": "here",
    "resource_id": "",
    "operation_id": "",
    "type": "",
    "actor": "",
    "time_from": None,
    "time_before": None,
}


def record(database: Database, *seconds_after_noon: float, **values: Any) -> None:
    """An event at each of these times, in this order."""
    event = {
        "account_id": "local",
        "region": "here",
        "actor": "ann",
        "type": "start_instance",
        "step": "",
        "undo": False,
        "attempt": 1,
        "resource_id": "i-1",
        "operation_id": "",
        "detail": "",
    }
    rows = [{**event, **values, "time": NOON + timedelta(seconds=after)} for after in seconds_after_noon]
    with database.write() as session:
        session.execute(sa.insert(table_of(Event)), rows)


def page(database: Database, size: int = 500, token: str = "", **wanted: Any) -> tuple[Sequence[Event], str]:
    request = ListEventsRequest(page_size=size, page_token=token)
    with database.read() as session:
        return journal.list_events(session, paging.Page.of(request), **{**ANYTHING, **wanted})


def seconds(events: Sequence[Event]) -> list[float]:
    return [(event.time - NOON).total_seconds() for event in events]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_events_are_in_the_order_of_their_times_and_of_their_places_where_those_are_the_same(
    database: Database, size: int
):
    record(database, 3, 1, 2, 2, 2, 0)
    events, token = page(database, size)
    listed = list(events)
    while token:
        events, token = page(database, size, token)
        listed += events
    assert seconds(listed) == [3, 2, 2, 2, 1, 0]
    places = [event.sequence for event in listed if event.time == NOON + timedelta(seconds=2)]
    assert places == sorted(places, reverse=True)


def test_a_range_of_time_has_its_beginning_and_not_its_end(database: Database):
    record(database, *range(5))
    between: dict[str, Any] = {
        "time_from": NOON + timedelta(seconds=1),
        "time_before": NOON + timedelta(seconds=3),
    }
    assert seconds(page(database, **between)[0]) == [2, 1]


def test_the_name_of_a_mutation_has_its_steps_and_a_step_is_had_alone(database: Database):
    named = {"type": "create_instance"}
    record(database, 1, step="accepted", **named)
    record(database, 2, step="create_disks", **named)
    record(database, 3, step="create_disks", undo=True, **named)
    record(database, 4, type="create_instance_snapshot", step="accepted")
    record(database, 5)
    of_type = {
        type_: seconds(page(database, type=type_)[0])
        for type_ in (
            "create_instance",
            "create_instance/create_disks",
            "create_instance/undo create_disks",
            "start_instance",
            "start_instance/",
            "create_",
        )
    }
    assert of_type == {
        "create_instance": [3, 2, 1],
        "create_instance/create_disks": [2],
        "create_instance/undo create_disks": [3],
        "start_instance": [5],
        "start_instance/": [5],
        "create_": [],
    }


def test_every_set_field_must_match(database: Database):
    record(database, 1, actor="bob")
    record(database, 2, resource_id="i-2")
    record(database, 3)
    assert seconds(page(database, actor="ann", resource_id="i-1", type="start_instance")[0]) == [3]


@pytest.mark.parametrize("after", [7, "", "7", "1/2/3", "x/1", f"{10**30}/1", f"1/{10**30}"])
def test_a_token_that_holds_no_time_and_place_is_refused(database: Database, after: str | int):
    forged = paging.Page.of(ListEventsRequest()).token_after(after)
    with pytest.raises(PageTokenInvalid):
        page(database, token=forged)


@pytest.mark.parametrize(
    ("filtered", "index"),
    [
        ({}, "events_by_account"),
        ({"resource_id": "i-1"}, "events_by_resource"),
        ({"operation_id": "op-c-1"}, "events_by_operation"),
        ({"type": "start_instance"}, "events_by_type"),
        ({"actor": "ann"}, "events_by_actor"),
    ],
)
@pytest.mark.parametrize("limited", [{}, {"time_from": NOON, "time_before": NOON + timedelta(days=1)}])
@pytest.mark.parametrize("token", ["", paging.Page.of(ListEventsRequest()).token_after("5/5")])
def test_a_filtered_page_is_a_walk_on_the_index_of_its_filter(
    sqlite_url: str, filtered: dict[str, Any], index: str, limited: dict[str, Any], token: str
):
    database = Database(sqlite_url, connections=1)
    statements: list[tuple[str, Any]] = []
    try:
        with database.read() as session:
            connection = session.connection()
            sa.event.listen(
                connection,
                "before_cursor_execute",
                lambda _connection, _cursor, statement, parameters, *_: statements.append(
                    (statement, parameters)
                ),
            )
            request = paging.Page.of(ListEventsRequest(page_token=token))
            journal.list_events(session, request, **{**ANYTHING, **filtered, **limited})
            [(statement, parameters)] = statements
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [row.detail for row in rows]
    finally:
        database.dispose()
    # Between two times the account's index is no worse: no more of it is walked than that.
    indexes = (
        {index, "events_by_account"} if limited and ("type" in filtered or "actor" in filtered) else {index}
    )
    assert plan[0].split()[4] in indexes, plan
    assert len(plan) == 1 or index == "events_by_operation"  # the few events of one operation are sorted
