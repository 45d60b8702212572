"""A migration has rows under it: none is lost on the way up, nor on the way back, on either database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

import compute_svc.migrations
import disk_svc.migrations
import snapshot_svc.migrations
from svckit.database import Database
from svckit.migrations import EMPTY, Schema
from svckit.startup import CannotStart
from tests.support.databases import Databases

ROWS = 3
_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_VALUES: list[tuple[type[sa.types.TypeEngine[Any]], Callable[[int], Any]]] = [
    (sa.JSON, lambda number: {"number": number}),
    (sa.Boolean, lambda _number: False),
    (sa.Integer, lambda number: number),
    (sa.DateTime, lambda number: _MOMENT + timedelta(days=number)),
    (sa.LargeBinary, lambda number: bytes([number])),
]

Rows = dict[str, list[dict[str, Any]]]


class _Sample(DeclarativeBase):
    """No models: the revisions say what there is."""


SAMPLE = Schema("sample", _Sample, Path(__file__).parent / "sample_revisions")
"""A chain that changes a table to which another one refers, which no service's chain need do today."""

SCHEMAS = [
    SAMPLE,
    *(module.SCHEMA for module in (compute_svc.migrations, disk_svc.migrations, snapshot_svc.migrations)),
]
EACH_REVISION = [
    pytest.param(schema, revision, id=f"{schema.service}-{revision}")
    for schema in SCHEMAS
    for revision in schema.revisions
]


def nothing(_url: str) -> None:
    """A database without tables."""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    with databases.fresh(nothing) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, connections=2)
    yield database
    database.dispose()


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def fill(url: str) -> None:
    """Rows in every table, and something in every column that a constraint lets it be in. Rows with the same number belong together."""
    with connected(url) as connection:
        for table in _tables(connection):
            rows = [
                {column.name: _value(column, number) for column in table.columns}
                for number in range(1, ROWS + 1)
            ]
            connection.execute(sa.insert(table), rows)


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """Those that others refer to come first."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _value(column: sa.Column[Any], number: int) -> Any:
    if column.name == "retention_days":
        return None  # where there is a retention_count
    return next((make(number) for kind, make in _VALUES if isinstance(column.type, kind)), str(number))


def contents(url: str) -> Rows:
    with connected(url) as connection:
        found = {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in _tables(connection)
        }
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


@pytest.mark.parametrize(("schema", "revision"), EACH_REVISION)
def test_what_is_there_at_a_revision_is_there_at_the_newest_and_after_the_way_back(
    schema: Schema, revision: str, database: Database, url: str
):
    schema.migrate(database, revision)
    fill(url)
    before = contents(url)
    assert {len(rows) for rows in before.values()} == {ROWS}
    schema.migrate(database)
    assert {name: len(rows) for name, rows in contents(url).items() if name in before} == dict.fromkeys(
        before, ROWS
    )
    schema.migrate(database, revision)
    assert contents(url) == before


def test_a_migration_that_the_rows_stand_in_the_way_of_changes_nothing(database: Database, url: str):
    SAMPLE.migrate(database, "0001")
    fill(url)
    with database.write() as session:
        session.execute(sa.text("UPDATE things SET size = NULL WHERE id = '2'"))
    before = contents(url)
    with pytest.raises(sa.exc.IntegrityError):
        SAMPLE.migrate(database)
    assert contents(url) == before
    with pytest.raises(CannotStart, match="is at schema revision 0001, and this version needs 0002"):
        SAMPLE.make_ready(database, migrate=False)


def test_after_a_migration_foreign_keys_count_again(database: Database, url: str):
    SAMPLE.migrate(database)
    with pytest.raises(sa.exc.IntegrityError), database.write() as session:
        session.execute(sa.text("INSERT INTO parts (id, thing_id) VALUES ('1', 'nothing')"))
    assert SAMPLE.migrate(database, EMPTY) == ("0002", EMPTY)
