"""Each service's revisions, on both databases."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import compute_svc.migrations
import disk_svc.migrations
import snapshot_svc.migrations
from svckit.database import Database
from svckit.migrations import EMPTY, Schema
from svckit.startup import CannotStart
from svckit.tables import SharedTable
from tests.support.databases import Databases, create_tables

SCHEMAS = [module.SCHEMA for module in (compute_svc.migrations, disk_svc.migrations, snapshot_svc.migrations)]


def nothing(_url: str) -> None:
    """A database without tables."""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    with databases.fresh(nothing) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, connections=4)
    yield database
    database.dispose()


@pytest.fixture(params=SCHEMAS, ids=lambda schema: schema.service)
def schema(request: pytest.FixtureRequest) -> Schema:
    chosen: Schema = request.param
    return chosen


def definitions(url: str) -> set[Any]:
    """Every table, column, index and constraint, in the database's own words."""
    in_words = {
        "sqlite": "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE '%alembic_version%'",
        "postgresql": """
            SELECT table_name, column_name, data_type || is_nullable || coalesce(column_default, '')
                FROM information_schema.columns
                WHERE table_schema = 'public' AND table_name <> 'alembic_version'
            UNION SELECT 'index', indexname, indexdef FROM pg_indexes
                WHERE schemaname = 'public' AND tablename <> 'alembic_version'
            UNION SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic_version%'
        """,
    }
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text(in_words[engine.dialect.name])).all()
    engine.dispose()
    # As lines: in which order a table's constraints are written means nothing, nor whether SQLite, which has made a table
    # anew, puts its name in quotation marks.
    return {
        (kind, name, frozenset(line.strip("\t ,") for line in words.replace('"', "").splitlines()))
        for kind, name, words in rows
    }


def test_the_revisions_make_exactly_what_the_models_say(
    schema: Schema, databases: Databases, database: Database, url: str
):
    schema.migrate(database)
    with databases.fresh(nothing) as made_at_once:
        create_tables(made_at_once, SharedTable, schema.tables)
        assert definitions(url) == definitions(made_at_once)


def test_every_revision_can_be_taken_back_and_made_again(schema: Schema, database: Database, url: str):
    revisions = [EMPTY, *schema.revisions]
    on_the_way_up = []
    for revision in revisions:
        schema.migrate(database, revision)
        on_the_way_up.append(definitions(url))
    on_the_way_down = []
    for revision in reversed(revisions):
        schema.migrate(database, revision)
        on_the_way_down.append(definitions(url))
    assert on_the_way_down == on_the_way_up[::-1]
    assert on_the_way_down[-1] == set()
    assert schema.migrate(database) == (EMPTY, schema.newest)


def test_an_empty_database_is_refused_and_told_what_to_run(schema: Schema, database: Database):
    with pytest.raises(CannotStart, match=f"has no tables yet.*run `stillpoint migrate {schema.service}`"):
        schema.make_ready(database, migrate=False)


def test_a_database_that_is_current_is_ready(schema: Schema, database: Database):
    schema.migrate(database)
    schema.make_ready(database, migrate=False)


def test_a_service_that_may_migrates_by_itself(schema: Schema, database: Database):
    schema.make_ready(database, migrate=True)
    schema.make_ready(database, migrate=False)


@pytest.mark.parametrize("may_migrate", [False, True])
def test_a_database_of_a_newer_version_is_refused(schema: Schema, database: Database, may_migrate: bool):
    schema.migrate(database)
    with database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CannotStart, match="9999, which this version does not know"):
        schema.make_ready(database, migrate=may_migrate)
    with pytest.raises(CannotStart, match="9999"):
        schema.migrate(database)


def test_a_revision_that_is_not_there_is_refused(schema: Schema, database: Database):
    with pytest.raises(CannotStart, match="there is no schema revision 0000: there are 0001"):
        schema.migrate(database, "0000")


def test_two_that_migrate_at_once_take_turns(schema: Schema, database: Database, url: str):
    moves: list[tuple[str, str]] = []

    def migrate() -> None:
        mine = Database(url, connections=1)
        moves.append(schema.migrate(mine))
        mine.dispose()

    rivals = [threading.Thread(target=migrate) for _ in range(2)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(moves) == sorted([(EMPTY, schema.newest), (schema.newest, schema.newest)])


def test_a_migration_that_fails_half_way_leaves_nothing(schema: Schema, database: Database, url: str):
    with database.write() as session:
        session.execute(sa.text("CREATE TABLE requests (id INTEGER)"))
    before = definitions(url)
    with pytest.raises(sa.exc.DatabaseError, match="requests"):
        schema.migrate(database)
    assert definitions(url) == before


def test_tables_without_a_revision_are_not_touched(schema: Schema, database: Database, url: str):
    schema.migrate(database)
    with database.write() as session:
        session.execute(sa.text("DROP TABLE alembic_version"))
    before = definitions(url)
    with pytest.raises(CannotStart, match="tables and no schema revision"):
        schema.make_ready(database, migrate=True)
    assert definitions(url) == before
