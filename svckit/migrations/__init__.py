"""The schema of a service's database: a chain of Alembic revisions, 0001, 0002, …, in the service's own folder.

A service serves on the schema that its code was written for, and on no other: it refuses to start, and says what to run.
Migrating is one transaction, on SQLite too: it happens as a whole or not at all. Two that migrate at once take turns, and
the second finds nothing left to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from svckit.barrier import ParticipantKey
from svckit.database import Database
from svckit.saga.journal import Event, Saga
from svckit.saga.requests import AcceptedRequest
from svckit.startup import CannotStart
from svckit.tables import SharedTable

if TYPE_CHECKING:
    from alembic.config import Config

SHARED_TABLES: tuple[type[SharedTable], ...] = (Saga, Event, AcceptedRequest, ParticipantKey)
"""In every service's database; named, so that whoever migrates has imported them."""

EMPTY = "base"
"""The revision of a database without tables."""

_TURN = 0x57111
"""Of PostgreSQL's advisory locks, the one that a migration holds."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Of one service: its own tables, and the folder of the revisions that make them and the shared ones."""

    service: str
    tables: type[DeclarativeBase]
    folder: Path

    @property
    def revisions(self) -> list[str]:
        """Oldest first."""
        return sorted(script.name.partition("_")[0] for script in self.folder.glob("[0-9]*.py"))

    @property
    def newest(self) -> str:
        return (EMPTY, *self.revisions)[-1]

    def make_ready(self, database: Database, *, migrate: bool) -> None:
        """For a service that starts. Raises CannotStart, which says what to run, unless the database is at the newest
        revision, or `migrate` lets the service bring it there.
        """
        with database.read() as session:
            here = _revision_of(session.connection())
        self._refuse_unknown(here)
        if here != self.newest and migrate:
            self.migrate(database)
        elif here != self.newest:
            state = "has no tables yet" if here == EMPTY else f"is at schema revision {here}"
            raise CannotStart(
                f"the database {state}, and this version needs {self.newest}: "
                f"run `stillpoint migrate {self.service}`"
            )

    def migrate(self, database: Database, revision: str = "") -> tuple[str, str]:
        """Bring a database to a revision, forwards or backwards; empty means the newest. Returns where it was and where it
        is. Raises CannotStart when this version does not know one of the two.
        """
        from alembic import command  # noqa: PLC0415 - slow, and a service that only starts does without

        there = revision or self.newest
        if there != EMPTY and there not in self.revisions:
            raise CannotStart(f"there is no schema revision {there}: there are {', '.join(self.revisions)}")
        with self._in_turn(database) as connection:
            here = _revision_of(connection)
            self._refuse_unknown(here)
            if here == EMPTY and sa.inspect(connection).has_table(Saga.__tablename__):
                raise CannotStart("the database has tables and no schema revision: nothing released made it")
            move = command.upgrade if self._place(there) >= self._place(here) else command.downgrade
            move(self._config(connection), there)
        return here, there

    def write_revision(self, database: Database, what: str) -> Path:
        """Write the revision that turns the newest schema, which `database` has, into what the models say now."""
        from alembic import command  # noqa: PLC0415 - as above

        number = f"{len(self.revisions) + 1:04}"
        with self._in_turn(database) as connection:
            script = command.revision(self._config(connection), what, autogenerate=True, rev_id=number)
        assert script is not None
        assert not isinstance(script, list)  # one folder, one chain
        return Path(script.path)

    def _place(self, revision: str) -> int:
        return [EMPTY, *self.revisions].index(revision)

    def _refuse_unknown(self, revision: str) -> None:
        if revision not in (EMPTY, *self.revisions):
            raise CannotStart(
                f"the database is at schema revision {revision}, which this version does not know: run a newer version, "
                f"or with that one `stillpoint migrate {self.service} --to {self.newest}`"
            )

    @contextmanager
    def _in_turn(self, database: Database) -> Iterator[sa.Connection]:
        with database.change_tables() as session:
            if not database.is_sqlite:
                session.execute(sa.select(sa.func.pg_advisory_xact_lock(_TURN)))
            yield session.connection()

    def _config(self, connection: sa.Connection) -> "Config":
        from alembic.config import Config  # noqa: PLC0415 - as above

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.set_main_option("version_locations", str(self.folder))
        config.set_main_option("path_separator", "os")
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        config.attributes["connection"] = connection
        config.attributes["metadata"] = [SharedTable.metadata, self.tables.metadata]
        return config


def _revision_of(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table("alembic_version"):
        return EMPTY
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or EMPTY
