from collections.abc import Iterator

import pytest

from svckit.database import Database
from tests.support.databases import Databases, SqliteDatabases
from tests.unit.svckit.sample import World, prepare


@pytest.fixture
def world(databases: Databases) -> Iterator[World]:
    with databases.fresh(prepare) as url:
        world = World(url)
        yield world
        world.close()


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    with databases.fresh(prepare) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, connections=16)
    yield database
    database.dispose()


@pytest.fixture
def sqlite_url(sqlite: SqliteDatabases) -> Iterator[str]:
    with sqlite.fresh(prepare) as url:
        yield url
