"""However much there is, a round reads only what has come due.

Asked of SQLite's planner, which decides by the schema alone; PostgreSQL's has the same indexes, and decides by the rows.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

import disk_svc.repository.policy_rows
import disk_svc.repository.snapshot_rows
import snapshot_svc.repository
from disk_svc.models import DiskTable
from snapshot_svc.models import SnapshotTable
from svckit.database import Database
from tests.support.databases import SqliteDatabases, create_tables


def _prepare(url: str) -> None:
    create_tables(url, DiskTable, SnapshotTable)


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
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with sqlite.fresh(_prepare) as url:
        database = Database(url, connections=1)
        with database.read() as session:
            sa.event.listen(session.connection(), "before_cursor_execute", note)
            look(session, region="here", now=datetime.now(UTC), limit=100)
            statement, parameters = asked[0]
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            [step] = [row.detail for row in plan]
        database.dispose()
    assert step.endswith(f"USING INDEX {index}")
