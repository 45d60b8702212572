"""Stages are dear (three processes each), so tests share them: one that a test has left out of order is replaced.

What is marked `on_both_databases` runs on PostgreSQL too wherever both are tested: of each kind of death one test, and
what is about the database. `--database postgresql` runs everything there.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from stillpoint_cli.addresses import Service
from tests.faults.regions import Regions
from tests.faults.stage import DatabaseUrls, Stage
from tests.support.databases import PostgresqlDatabases, kinds_of
from tests.support.deployments import makes_its_own_tables

PATIENT_SECONDS = 30.0
"""The product's default."""

Stages = Callable[[float], Stage]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_both_databases: wherever both databases are tested")
    config.addinivalue_line("markers", "only_on_postgresql: SQLite is for one process of each service")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        kinds = kinds_of(metafunc.config)
        if metafunc.definition.get_closest_marker("only_on_postgresql"):
            kinds = ["postgresql"]
        elif len(kinds) > 1 and not metafunc.definition.get_closest_marker("on_both_databases"):
            kinds = ["sqlite"]
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def database_urls(request: pytest.FixtureRequest, database_kind: str) -> Iterator[Callable[[], DatabaseUrls]]:
    """Gives the databases of one deployment, where they are not files in its own folder."""
    if database_kind == "sqlite":
        yield dict
        return
    server: PostgresqlDatabases = request.getfixturevalue("postgresql")
    with ExitStack() as held:
        yield lambda: {service: held.enter_context(server.fresh(makes_its_own_tables)) for service in Service}


@pytest.fixture(scope="session")
def stages(
    tmp_path_factory: pytest.TempPathFactory, database_urls: Callable[[], DatabaseUrls]
) -> Iterator[Stages]:
    """Stages by snapshot_svc's deadline."""
    kept: dict[float, Stage] = {}

    def give(deadline_seconds: float) -> Stage:
        stage = kept.get(deadline_seconds)
        if stage is not None and not stage.in_order:
            stage.close()
            stage = None
        if stage is None:
            folder = tmp_path_factory.mktemp("stage") / "s"
            stage = kept[deadline_seconds] = Stage(
                folder, deadline_seconds=deadline_seconds, database_urls=database_urls()
            )
        stage.in_order = False
        return stage

    yield give
    for stage in kept.values():
        stage.close()


@pytest.fixture
def stage(stages: Stages) -> Iterator[Stage]:
    """With time enough before the point of no return."""
    given = stages(PATIENT_SECONDS)
    yield given
    given.gates.lose_all()


@pytest.fixture(scope="session")
def both(
    tmp_path_factory: pytest.TempPathFactory, database_urls: Callable[[], DatabaseUrls]
) -> Iterator[Regions]:
    regions = Regions(
        tmp_path_factory.mktemp("r"), deadline_seconds=PATIENT_SECONDS, database_urls=database_urls
    )
    yield regions
    regions.close()


@pytest.fixture
def regions(both: Regions) -> Iterator[Regions]:
    """Two regions, with time enough before the point of no return."""
    yield both
    both.proxy.messages_to_damage = 0
    both.south.director.failing_seal = None
    both.lose_all()
