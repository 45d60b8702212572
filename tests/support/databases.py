"""Databases for tests, real ones: a SQLite file, and a PostgreSQL server that this process starts.

A test asks for `databases` and runs once on each kind. `fresh(prepare)` gives it a database of its own for as long as
the `with` block lasts; `prepare(url)` makes the tables, once per session, in a template that the fresh one copies. A
test of whole services asks for `database_kind`.

`--database` chooses a kind, `--postgres` where the server comes from.
"""

import itertools
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from tests.support import postgresql as postgresql_servers
from tests.support.postgresql import PostgresqlServer, WheelServer

Prepare = Callable[[str], None]

KINDS = ("sqlite", "postgresql")

_used = pytest.StashKey[str]()
"""What is told of the PostgreSQL server that was started."""


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
    """Databases of one server."""

    kind = "postgresql"

    def __init__(self, server: PostgresqlServer, administration: "psycopg.Connection[Any]") -> None:
        self._server = server
        self._administration = administration
        self._numbers = itertools.count()
        self._templates: dict[Prepare, str] = {}

    @property
    def major_version(self) -> int:
        """Of the server."""
        return self._administration.info.server_version // 10_000

    @contextmanager
    def fresh(self, prepare: Prepare) -> Iterator[str]:
        if prepare not in self._templates:
            template = f"template_{len(self._templates)}"
            self._create(template, "template0")
            prepare(self._server.url(template))
            self._templates[prepare] = template
        name = f"test_{next(self._numbers)}"
        self._create(name, self._templates[prepare])
        yield self._server.url(name)
        # FORCE: a test that failed may have left connections, and hundreds of databases would fill the disk.
        self._administration.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _create(self, name: str, template: str) -> None:
        self._administration.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())


def create_tables(url: str, *bases: type[DeclarativeBase]) -> None:
    """What the models say, without the revisions that get there."""
    engine = sa.create_engine(url)
    for base in bases:
        base.metadata.create_all(engine)
    engine.dispose()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stillpoint")
    group.addoption(
        "--database",
        choices=("both", *KINDS),
        default="both",
        help="run the tests that have a database on this kind, and of tests/unit no others; both: on each, but of "
        "tests/faults only those on PostgreSQL that are marked so",
    )
    group.addoption(
        "--postgres",
        choices=postgresql_servers.CHOICES,
        default="wheel",
        help="where PostgreSQL comes from: a wheel, a container (where no Docker engine answers the wheel all the same), "
        "or auto: a container where an engine answers",
    )


def pytest_configure() -> None:
    # A run that is ended from outside (`timeout`, a CI that gives up) stops its servers, and removes its container, too.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=128 + signal.SIGTERM))


def pytest_report_header(config: pytest.Config) -> str:
    kinds = kinds_of(config)
    return "databases: " + ", ".join(
        "SQLite" if kind == "sqlite" else postgresql_servers.chosen(config)[1] for kind in kinds
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _used in config.stash:
        terminalreporter.section("databases")
        terminalreporter.write_line(config.stash[_used])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("database") == "both":
        return
    others = [item for item in items if not _has_a_database(item, config.getoption("database"))]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def kinds_of(config: pytest.Config) -> list[str]:
    chosen: str = config.getoption("database")
    return list(KINDS) if chosen == "both" else [chosen]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that asks for `databases`, directly or through a fixture of its own, runs on each kind."""
    if "databases" in metafunc.fixturenames:
        metafunc.parametrize("databases", kinds_of(metafunc.config), indirect=True, scope="session")


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    chosen: Databases = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """Of the services that a test works with; each suite says on which kinds it runs."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[PostgresqlDatabases]:
    """One server for the whole session."""
    source, told = postgresql_servers.chosen(request.config)
    start = postgresql_servers.in_a_container if source == "container" else postgresql_servers.from_the_wheel
    with start() as server, server.connect() as administration:
        version = administration.info.parameter_status("server_version")
        request.config.stash[_used] = f"{told}: version {version}"
        yield PostgresqlDatabases(server, administration)


@pytest.fixture(scope="session")
def _stoppable() -> Iterator[WheelServer]:
    with postgresql_servers.from_the_wheel() as server:
        yield server


@pytest.fixture
def own_postgresql(_stoppable: WheelServer) -> Iterator[WheelServer]:
    """A server that nobody else needs now: the test may stop it."""
    yield _stoppable
    _stoppable.start()


def _has_a_database(item: pytest.Item, kind: str) -> bool:
    fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
    if "own_postgresql" in fixtures or item.get_closest_marker("only_on_postgresql"):
        return kind == "postgresql"
    return "unit" not in item.path.parts or "databases" in fixtures
