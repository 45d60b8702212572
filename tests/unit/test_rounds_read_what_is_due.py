"""However much there is, a round reads only what has come due, and a scrape for metrics no more than it must.

Asked of SQLite's planner, which decides by the schema alone; PostgreSQL's has the same indexes, and decides by the rows.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

import disk_svc.repository.policy_rows
import disk_svc.repository.snapshot_rows
import snapshot_svc.repository
from disk_svc.models import DiskTable
from disk_svc.repository import snapshot_rows
from snapshot_svc.models import SnapshotTable
from svckit.database import Database
from svckit.saga import journal
from svckit.tables import SharedTable
from tests.support.databases import SqliteDatabases, create_tables


def _prepare(url: str) -> None:
    create_tables(url, DiskTable, SnapshotTable, SharedTable)


def plan_of(sqlite: SqliteDatabases, look: Callable[[Session], object]) -> list[str]:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with sqlite.fresh(_prepare) as url:
        database = Database(url, connections=1)
        with database.read() as session:
            sa.event.listen(session.connection(), "before_cursor_execute", note)
            look(session)
            statement, parameters = asked[0]
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row.detail for row in plan]
        database.dispose()
    return steps


@pytest.mark.parametrize(
    ("look", "index"),
    [
        (disk_svc.repository.policy_rows.due, "policies_by_next_slot (next_slot_time<?)"),
        (disk_svc.repository.snapshot_rows.expired_snapshots, "snapshots_that_expire (expire_time<?)"),
        (snapshot_svc.repository.expired, "instance_snapshots_that_expire (expire_time<?)"),
    ],
)
def test_a_round_walks_the_index_of_what_is_due_and_sorts_nothing(
    sqlite: SqliteDatabases, look: Callable[..., Any], index: str
):
    [step] = plan_of(sqlite, lambda session: look(session, region="here", now=datetime.now(UTC), limit=100))
    assert step.endswith(f"USING INDEX {index}")


def test_a_scrape_looks_at_unfinished_sagas_only(sqlite: SqliteDatabases):
    found, *grouped = plan_of(sqlite, lambda session: journal.count_unfinished(session, "here"))
    assert found == "SEARCH sagas USING INDEX sagas_due (due_at>?)"
    assert grouped == ["USE TEMP B-TREE FOR GROUP BY"]  # of those few


def test_a_scrape_counts_slots_in_an_index_and_reads_no_row_of_a_snapshot(sqlite: SqliteDatabases):
    steps = plan_of(sqlite, lambda session: snapshot_rows.disks_by_slots_taken(session, region="here"))
    of_snapshots = [step for step in steps if "disk_snapshots" in step]
    assert of_snapshots == ["SCAN disk_snapshots USING COVERING INDEX snapshots_by_disk"]
