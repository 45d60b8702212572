"""One database behind a URL, SQLite or PostgreSQL: `write()` and `read()` are the units of work.

A use case writes inside one `with database.write() as session:` block: it commits when the block ends and rolls back
when anything is raised, a refusal too. State changes are conditional UPDATEs whose row count decides, so the rules
hold on both databases and with any number of replicas.

The Session is a typed connection: reads give detached rows (values, never changed), writes are Core statements. The
unit of work is not used, it costs two to five times as much.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

_SQLITE_BEGIN = "sqlite_begin"


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

    `url` is an SQLAlchemy URL: `sqlite:////path/to/file.db` or `postgresql+psycopg://…`. `connections` bounds the pool.
    """

    def __init__(self, url: str | sa.URL, *, connections: int) -> None:
        self._engine = sa.create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=False)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite has one writer at a time. Its own waiting is by polling, which lets unlucky threads starve for
        # 100 ms and more; a queue in this process does better. It guards nothing: another process may write all the same.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()
        writing = self._engine
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
            writing = self._engine.execution_options(**{_SQLITE_BEGIN: "BEGIN IMMEDIATE"})
        # A row that is read again after a Core UPDATE in the same transaction is what it is now, not what the session
        # remembers of it.
        fresh = {"populate_existing": True}
        self._write = sessionmaker(writing, autoflush=False, expire_on_commit=False, execution_options=fresh)
        self._read = sessionmaker(
            self._engine, autoflush=False, expire_on_commit=False, execution_options=fresh
        )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; durable when the block has ended."""
        with self._turn, self._write.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with self._read.begin() as session:
            yield session

    def dispose(self) -> None:
        self._engine.dispose()


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the begin event below decides, not the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: what is promised is durable before it is answered. NORMAL may lose the last commits at a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A plain BEGIN that turns into a writer half way can fail with SQLITE_BUSY at once, without waiting.
    connection.exec_driver_sql(connection.get_execution_options().get(_SQLITE_BEGIN, "BEGIN"))


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
