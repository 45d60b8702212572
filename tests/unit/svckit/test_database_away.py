"""A PostgreSQL server that goes away and comes back, under the connections that are kept open to it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

import svckit.database
from svckit.database import Database, DatabaseAway, insert_unless_exists, table_of
from tests.support.postgresql import WheelServer
from tests.unit.svckit.sample import Item, prepare

CONNECTIONS = 6

_ITEMS = table_of(Item)


@pytest.fixture
def database(own_postgresql: WheelServer) -> Iterator[Database]:
    url = own_postgresql.make_database()
    prepare(url)
    database = Database(url, connections=CONNECTIONS)
    yield database
    database.dispose()


def use_all_connections(database: Database) -> None:
    """Each of them in a transaction of its own, at the same time."""
    everybody = threading.Barrier(CONNECTIONS, timeout=15)

    def use(number: int) -> None:
        unit = database.write if number % 2 else database.read
        with unit() as session:
            session.execute(sa.select(Item.id))
            everybody.wait()

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(use, range(CONNECTIONS)))


def ids(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(sa.select(Item.id)))


def test_after_a_restart_no_transaction_fails_for_a_connection_from_before(
    database: Database, own_postgresql: WheelServer
):
    use_all_connections(database)
    own_postgresql.stop()
    own_postgresql.start()
    use_all_connections(database)


def test_while_the_server_is_away_reading_and_writing_say_so_and_then_go_on(
    database: Database, own_postgresql: WheelServer
):
    use_all_connections(database)
    own_postgresql.stop()
    for unit in (database.read, database.write, database.change_tables):
        with pytest.raises(DatabaseAway), unit() as session:
            session.execute(sa.select(Item.id))
    own_postgresql.start()
    assert ids(database) == []
    use_all_connections(database)


def test_a_transaction_that_the_server_dies_under_is_away_and_rolled_back(
    database: Database, own_postgresql: WheelServer
):
    with pytest.raises(DatabaseAway), database.write() as session:  # noqa: PT012 - as one transaction
        insert_unless_exists(session, _ITEMS, {"id": "a", "number": 1})
        own_postgresql.stop()
        insert_unless_exists(session, _ITEMS, {"id": "b", "number": 1})
    with pytest.raises(DatabaseAway), database.write() as session:  # noqa: PT012 - the commit notices
        own_postgresql.start()
        insert_unless_exists(session, _ITEMS, {"id": "c", "number": 1})
        own_postgresql.stop()
    own_postgresql.start()
    assert ids(database) == []


def test_a_session_that_an_administrator_ends_is_away_too(database: Database):
    with pytest.raises(DatabaseAway), database.write() as session:  # noqa: PT012 - as one transaction
        number = session.scalar(sa.text("SELECT pg_backend_pid()"))
        with database.read() as administrator:
            administrator.execute(sa.text("SELECT pg_terminate_backend(:number)"), {"number": number})
        session.execute(sa.select(Item.id))


def test_who_finds_no_free_connection_is_not_kept_waiting(
    own_postgresql: WheelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(svckit.database, "_POOL_SECONDS", 0.1)
    database = Database(own_postgresql.url("postgres"), connections=1)
    with database.read() as session:
        session.execute(sa.select(1))
        with pytest.raises(DatabaseAway, match=r"no connection was free for 0\.1 s"):
            with database.read() as other:
                other.execute(sa.select(1))
    database.dispose()


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT nothing FROM nowhere", sa.exc.ProgrammingError),
        ("INSERT INTO items (id) VALUES (NULL)", sa.exc.IntegrityError),
        ("SELECT 1 / 0", sa.exc.DataError),
    ],
)
def test_what_is_wrong_with_a_statement_is_no_absence(
    database: Database, statement: str, error: type[Exception]
):
    with pytest.raises(error), database.write() as session:
        session.execute(sa.text(statement))


def test_a_deadlock_is_no_absence(database: Database):
    with database.write() as session:
        for name in ("a", "b"):
            insert_unless_exists(session, _ITEMS, {"id": name, "number": 1})
    both_hold_one = threading.Barrier(2, timeout=15)

    def lock(names: str) -> type[BaseException] | None:
        try:
            with database.write() as session:
                for name in names:
                    session.execute(sa.update(_ITEMS).where(Item.id == name).values(number=2))
                    if name == names[0]:
                        both_hold_one.wait()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return type(error)
        return None

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(lock, ("ab", "ba"))) == {None, sa.exc.OperationalError}
