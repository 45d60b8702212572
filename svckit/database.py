"""One database behind a URL, SQLite or PostgreSQL: `write()` and `read()` are the units of work.

A use case writes inside one `with database.write() as session:` block: it commits when the block ends and rolls back
when anything is raised, a refusal too. State changes are conditional UPDATEs whose row count decides, so the rules
hold on both databases and with any number of replicas.

A database that is away is DatabaseAway, and one that has no room is DatabaseFull, whichever statement notices. Of a
transaction that was under way when it went away nobody knows whether it was committed, so whoever asked for it asks again;
whoever found no room does the same, when there is some.

The Session is a typed connection: reads give detached rows (values, never changed), writes are Core statements. The
unit of work is not used, it costs two to five times as much.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

_SQLITE_BEGIN = "sqlite_begin"

_POOL_SECONDS = 5.0
"""How long a transaction waits for a free connection. There is one for each thread, so it does not wait."""

_SQLITE_PATIENCE_SECONDS = 30.0
"""How long one waits for another process that writes."""

_POSTGRESQL_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
"""Seconds and milliseconds: a machine that is gone says nothing, and libpq's and the kernel's own patience is minutes.
What the URL says counts more.
"""

_AWAY = ("08", "53", "57", "58")
"""Classes of PostgreSQL's states: no connection, no resources, an operator's or the system's intervention."""

_POSTGRESQL_TAKEN = "23505"
_SQLITE_TAKEN = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)

_POSTGRESQL_FULL = "53100"
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""The second is the file beside the log by which processes share it: who opens the database may have to make it."""


class DatabaseUnusable(Exception):
    """For now: nothing is wrong with what was asked of it, and the same can be asked again."""


class DatabaseAway(DatabaseUnusable):
    """The database does not answer, or its connection broke. A transaction that was being committed may have been."""


class DatabaseFull(DatabaseUnusable):
    """There is no room for what was to be written. What is there can be read."""


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware UTC moment on both databases; SQLite keeps it without its zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """The engine of one service's database.

    `url` is an SQLAlchemy URL: `sqlite:////path/to/file.db` or `postgresql+psycopg://…`. `connections` bounds the pool: one for
    each thread that works with it.
    """

    def __init__(self, url: str | sa.URL, *, connections: int) -> None:
        parsed = sa.make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        patience = {} if self.is_sqlite else _POSTGRESQL_PATIENCE
        self._engine = sa.create_engine(
            parsed,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            # A server that was restarted leaves every pooled connection stale; without this each would fail a request.
            # It costs a transaction a tenth of a millisecond.
            pool_pre_ping=not self.is_sqlite,
            connect_args={name: value for name, value in patience.items() if name not in parsed.query},
        )
        # SQLite has one writer at a time. Its own waiting is by polling, which lets unlucky threads starve for
        # 100 ms and more; a queue in this process does better. It guards nothing: another process may write all the same.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()
        writing = changing = self._engine
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
            writing = self._engine.execution_options(**{_SQLITE_BEGIN: ["BEGIN IMMEDIATE"]})
            # Foreign keys are turned off between transactions, or not at all.
            changing = self._engine.execution_options(
                **{_SQLITE_BEGIN: ["PRAGMA foreign_keys=OFF", "BEGIN IMMEDIATE"]}
            )
        # A row that is read again after a Core UPDATE in the same transaction is what it is now, not what the session
        # remembers of it.
        fresh = {"populate_existing": True}
        self._write = sessionmaker(writing, autoflush=False, expire_on_commit=False, execution_options=fresh)
        self._change = sessionmaker(changing, autoflush=False, expire_on_commit=False)
        self._read = sessionmaker(
            self._engine, autoflush=False, expire_on_commit=False, execution_options=fresh
        )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; durable when the block has ended."""
        with _noticing_that_it_is_unusable(), self._turn, self._write.begin() as session:
            yield session

    @contextmanager
    def change_tables(self) -> Iterator[Session]:
        """A transaction that may also make, change and drop tables. To change a table SQLite makes it anew and drops the
        old one, as one deletes rows: foreign keys that are on would delete what refers to it, or refuse.
        """
        try:
            with _noticing_that_it_is_unusable(), self._turn, self._change.begin() as session:
                yield session
                if self.is_sqlite:
                    broken = session.execute(sa.text("PRAGMA foreign_key_check")).all()
                    assert not broken, f"rows refer to rows that are not there: {broken}"
        finally:
            self._engine.dispose()  # for a connection with foreign keys off must serve nobody else

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with _noticing_that_it_is_unusable(), self._read.begin() as session:
            yield session

    @property
    def connections_in_use(self) -> int:
        pool = self._engine.pool
        assert isinstance(pool, sa.QueuePool)
        return pool.checkedout()

    def dispose(self) -> None:
        self._engine.dispose()


@contextmanager
def _noticing_that_it_is_unusable() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise DatabaseAway(f"no connection was free for {_POOL_SECONDS:g} s") from error
    except sa.exc.DBAPIError as error:
        said = " ".join(str(error.orig).split())
        if _says_that_it_is_full(error):
            raise DatabaseFull(said) from error
        if _says_that_it_is_away(error):
            raise DatabaseAway(said) from error
        raise


def says_that_it_is_taken(error: sa.exc.IntegrityError) -> bool:
    """A row with this key is there; other rules of the tables are broken by who wrote the statement."""
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode in _SQLITE_TAKEN
    return getattr(error.orig, "sqlstate", None) == _POSTGRESQL_TAKEN


def _says_that_it_is_full(error: sa.exc.DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", None) in _SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == _POSTGRESQL_FULL


def _says_that_it_is_away(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    # None is psycopg's word for what no server has said: there was none to say it. SQLite's errors have no such word.
    state = getattr(error.orig, "sqlstate", "")
    return isinstance(error, sa.exc.OperationalError) and (state is None or state[:2] in _AWAY)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the begin event below decides, not the driver
    cursor = connection.cursor()
    _use_wal(cursor)
    # FULL: what is promised is durable before it is answered. NORMAL may lose the last commits at a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={_SQLITE_PATIENCE_SECONDS * 1000:.0f}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """The file remembers it, so only who opens a new one has work here. Of two who do that at once SQLite fails one without
    letting it wait, since both hold what the other waits for.
    """
    give_up = time.monotonic() + _SQLITE_PATIENCE_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    # A plain BEGIN that turns into a writer half way can fail with SQLITE_BUSY at once, without waiting.
    for statement in connection.get_execution_options().get(_SQLITE_BEGIN, ["BEGIN"]):
        connection.exec_driver_sql(statement)


def table_of(mapped: type[DeclarativeBase]) -> sa.Table:
    """The table of a mapped class, for Core statements."""
    table = mapped.__table__
    assert isinstance(table, sa.Table)
    return table


def insert_unless_exists(session: Session, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False when its key is already there. Waits for a rival transaction to end, and never fails."""
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(table).values(values).on_conflict_do_nothing()
    # Without the option SQLAlchemy closes psycopg's cursor and forgets the count of an INSERT: it is then -1.
    done = session.execute(statement, execution_options={"preserve_rowcount": True})
    return rows_changed(done) == 1


def rows_changed(result: sa.Result[Any]) -> int:
    """How many rows an UPDATE, DELETE or INSERT changed."""
    assert isinstance(result, sa.CursorResult)
    assert result.rowcount >= 0, "the driver's count was not kept"
    return result.rowcount
