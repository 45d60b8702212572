"""One database behind a URL: durability, units of work, moments."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from svckit.database import Database, insert_unless_exists, rows_changed, table_of
from svckit.saga.journal import Event
from tests.unit.svckit.sample import Item

RIVALS = 8

_ITEMS = table_of(Item)
_SECOND_WRITER = """
import sys, sqlalchemy as sa
from svckit.database import Database, table_of
from tests.unit.svckit.sample import Item
database = Database(sys.argv[1], connections=1)
print("writing", flush=True)
with database.write() as session:
    number = session.scalar(sa.select(Item.number))
    session.execute(sa.update(table_of(Item)).values(number=number + 1))
"""


def _insert(database: Database, name: str, number: int = 0) -> bool:
    with database.write() as session:
        return insert_unless_exists(session, _ITEMS, {"id": name, "number": number})


def test_sqlite_is_set_to_lose_nothing_and_to_wait(sqlite_url: str):
    database = Database(sqlite_url, connections=2)
    expected = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30000, "foreign_keys": 1}
    for unit in (database.write, database.read):
        with unit() as session:
            found = {name: session.scalar(sa.text(f"PRAGMA {name}")) for name in expected}
            assert found == expected
    database.dispose()


def test_all_who_open_a_new_file_at_once_get_in(tmp_path: Path):
    def opened(number: int) -> str:
        database = Database(f"sqlite:///{tmp_path / f'{number // RIVALS}.db'}", connections=1)
        with database.write() as session:
            mode: str = session.scalar(sa.text("PRAGMA journal_mode"))
        database.dispose()
        return mode

    with ThreadPoolExecutor(RIVALS) as rivals:
        assert set(rivals.map(opened, range(RIVALS * 100))) == {"wal"}


def test_a_second_writer_in_another_process_waits_for_the_first_and_loses_nothing(
    url: str, database: Database
):
    if not database.is_sqlite:
        pytest.skip("PostgreSQL's writers wait for rows, not for the database")
    _insert(database, "counter", 0)
    command = [sys.executable, "-c", _SECOND_WRITER, url]
    root = Path(__file__).parents[3]
    with database.write() as session:
        number = session.scalar(sa.select(Item.number))
        assert number == 0
        child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.3)
        session.execute(sa.update(_ITEMS).values(number=number + 1))
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors
    with database.read() as session:
        assert session.scalar(sa.select(Item.number)) == 2


def test_a_reader_does_not_wait_for_a_writer_and_sees_nothing_of_it_before_its_commit(database: Database):
    with database.write() as session:
        insert_unless_exists(session, _ITEMS, {"id": "a", "number": 1})
        with database.read() as reader:
            assert reader.scalars(sa.select(Item.id)).all() == []
    with database.read() as reader:
        assert reader.scalars(sa.select(Item.id)).all() == ["a"]


def test_whatever_is_raised_in_a_unit_of_work_rolls_it_back(database: Database):
    with pytest.raises(KeyboardInterrupt), database.write() as session:  # noqa: PT012 - as one transaction
        insert_unless_exists(session, _ITEMS, {"id": "a", "number": 1})
        raise KeyboardInterrupt
    with database.read() as reader:
        assert reader.scalars(sa.select(Item.id)).all() == []


def test_an_insert_says_whether_the_row_is_new(database: Database):
    assert _insert(database, "a", 1)
    assert not _insert(database, "a", 2)
    with database.read() as session:
        assert session.scalar(sa.select(Item.number)) == 1


def test_a_count_of_changed_rows_is_the_count_of_rows_that_matched(database: Database):
    for name in "abc":
        _insert(database, name)
    with database.write() as session:
        change = sa.update(_ITEMS).where(Item.id > "a").values(number=1)
        assert rows_changed(session.execute(change)) == 2
        assert rows_changed(session.execute(change.where(Item.id > "z"))) == 0
        assert rows_changed(session.execute(sa.delete(_ITEMS))) == 3


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 7, 2, 23, 4, 5, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_a_moment_comes_back_aware_in_utc_and_to_the_microsecond(database: Database, moment: datetime):
    names = ("account_id", "region", "actor", "type", "step", "resource_id", "operation_id", "detail")
    row = {"time": moment, "undo": False, "attempt": 1, **dict.fromkeys(names, "")}
    with database.write() as session:
        session.execute(sa.insert(table_of(Event)), row)
    with database.read() as session:
        kept = session.scalars(sa.select(Event.time)).one()
        assert session.scalar(sa.select(sa.func.count()).where(Event.time <= moment)) == 1
        assert session.scalar(sa.select(sa.func.count()).where(Event.time < moment)) == 0
    assert kept == moment
    assert kept.tzinfo is UTC
