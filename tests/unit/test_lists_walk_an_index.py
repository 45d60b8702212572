"""However a list is narrowed, it walks an index newest first and stops when its page is full: it never sorts what matches.

Asked of SQLite's planner, which decides by the schema alone; PostgreSQL's has the same indexes, and decides by the rows.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

import compute_svc.repository
import disk_svc.repository.disk_rows
import disk_svc.repository.snapshot_rows
import snapshot_svc.repository
from compute_svc.models import ComputeTable
from disk_svc.models import DiskTable
from snapshot_svc.models import SnapshotTable
from svckit.database import Database
from svckit.narrowing import Narrowing
from svckit.paging import Page
from tests.support.databases import SqliteDatabases, create_tables

NOW = datetime.now(UTC)
NARROWINGS = (
    Narrowing("", {}, None, None),
    Narrowing("name", {"a.b/c": "1", "d": ""}, NOW, NOW),
)
ALL = {"account_id": "local", "region": "here"}
INSTANCES = partial(compute_svc.repository.list_instances, state="")
DISKS = partial(
    disk_svc.repository.disk_rows.list_disks, instance_id="", state="", role="", source_snapshot_id=""
)
DISK_SNAPSHOTS = partial(
    disk_svc.repository.snapshot_rows.list_snapshots, disk_id="", instance_snapshot_id="", state="", kind=""
)
INSTANCE_SNAPSHOTS = partial(snapshot_svc.repository.list_snapshots, instance_id="", disk_id="", state="")


@pytest.fixture
def database(sqlite: SqliteDatabases) -> Iterator[Database]:
    with sqlite.fresh(_prepare) as url:
        database = Database(url, connections=1)
        yield database
        database.dispose()


def _prepare(url: str) -> None:
    create_tables(url, ComputeTable, DiskTable, SnapshotTable)


def first_step(database: Database, fetch: Callable[..., Any], **wanted: Any) -> tuple[str, list[str]]:
    """How SQLite finds the rows of the second page, and what it does after that."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with database.read() as session:
        sa.event.listen(session.connection(), "before_cursor_execute", note)
        fetch(session, Page(50, "x", ""), **wanted)
        statement, parameters = asked[0]
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        found, *rest = [row.detail for row in plan]
    return found, rest


@pytest.mark.parametrize("narrowing", NARROWINGS, ids=["alone", "with all that lists share"])
@pytest.mark.parametrize(
    ("fetch", "own", "index"),
    [
        (INSTANCES, {}, "account_id=? AND id<?"),
        (INSTANCES, {"state": "RUNNING"}, "account_id=? AND id<?"),
        (DISKS, {}, "account_id=? AND id<?"),
        (DISKS, {"state": "MOUNTED", "role": "DATA"}, "account_id=? AND id<?"),
        (DISKS, {"instance_id": "i-1"}, "instance_id=? AND id<?"),
        (DISKS, {"source_snapshot_id": "snap-1"}, "source_snapshot_id=? AND id<?"),
        (DISK_SNAPSHOTS, {}, "account_id=? AND id<?"),
        (DISK_SNAPSHOTS, {"state": "AVAILABLE", "kind": "MANUAL"}, "account_id=? AND id<?"),
        (DISK_SNAPSHOTS, {"disk_id": "disk-1", "kind": "MANUAL"}, "disk_id=? AND id<?"),
        (DISK_SNAPSHOTS, {"instance_snapshot_id": "isnap-1"}, "instance_snapshot_id=? AND id<?"),
        (INSTANCE_SNAPSHOTS, {}, "account_id=? AND id<?"),
        (INSTANCE_SNAPSHOTS, {"disk_id": "disk-1"}, "account_id=? AND id<?"),
        (INSTANCE_SNAPSHOTS, {"instance_id": "i-1"}, "instance_id=? AND id<?"),
    ],
)
def test_a_list_walks_an_index_from_the_page_before_and_sorts_nothing(
    database: Database, fetch: Callable[..., Any], own: dict[str, str], index: str, narrowing: Narrowing
):
    found, rest = first_step(database, fetch, **ALL, **own, narrowing=narrowing)
    assert found.startswith("SEARCH")
    assert found.endswith(f"{index})")
    assert not [step for step in rest if "SORT" in step or "ORDER BY" in step or step.startswith("SCAN")]
