"""A disk that is really full, under SQLite and under the log."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from svckit.database import Database, DatabaseFull, insert_unless_exists, table_of
from tests.support.small_disk import SmallDisk, small_disk
from tests.unit.svckit.sample import Item, prepare

_ITEMS = table_of(Item)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        yield disk


@pytest.fixture
def url(disk: SmallDisk) -> str:
    url = f"sqlite:///{disk.folder / 'rows.db'}"
    prepare(url)
    used = Database(url, connections=1)
    assert count(used) == 0
    used.dispose()
    return url


def add_until_full(database: Database, name: str) -> int:
    """In transactions of two; how many there were before one was refused."""
    for number in range(10_000):
        try:
            with database.write() as session:
                for half in "ab":
                    insert_unless_exists(session, _ITEMS, {"id": f"{name}{number}{half}", "number": number})
        except DatabaseFull:
            return number
    raise AssertionError("there is always room")


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(_ITEMS)) or 0


def test_a_transaction_that_finds_no_room_is_refused_whole_and_goes_through_when_there_is_some(
    disk: SmallDisk, url: str
):
    database = Database(url, connections=2)
    written = add_until_full(database, "first")
    assert written > 10
    assert count(database) == 2 * written
    disk.fill()
    assert add_until_full(database, "second") == 0
    disk.resize(4 << 20)
    assert add_until_full(database, "third") > 10
    database.dispose()


def test_who_opens_a_database_where_there_is_no_room_is_told_so(disk: SmallDisk, url: str):
    disk.fill()
    database = Database(url, connections=1)
    with pytest.raises(DatabaseFull):
        count(database)
    disk.empty()
    assert count(database) == 0
    database.dispose()


def test_a_service_that_cannot_start_for_want_of_room_says_so_in_a_line(url: str, disk: SmallDisk):
    disk.fill()
    code = (
        "import sys; from svckit.database import Database; from svckit.startup import run_main\n"
        "def main():\n"
        "    with Database(sys.argv[1], connections=1).read() as session: session.connection()\n"
        "run_main('sample_svc', main)"
    )
    ended = subprocess.run([sys.executable, "-c", code, url], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("sample_svc: the database has no room: ")
    assert ended.stderr.count("\n") == 1


def test_a_log_that_takes_no_more_fails_nobody_who_has_something_to_say():
    code = (
        "import logging, structlog; from svckit.logs import configure_logging\n"
        "configure_logging(service='sample', level='info', form='json')\n"
        "for _ in range(1000): structlog.get_logger().warning('lost', why='x' * 100)\n"
        "logging.getLogger('library').warning('lost too')\n"
        "print('went on')"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code], check=False, stdout=subprocess.PIPE, stderr=full, text=True
        )
    assert ended.stdout == "went on\n"
