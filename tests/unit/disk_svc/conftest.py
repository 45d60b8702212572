from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from disk_svc.blockstore import BlockStore, LmdbBlockStore
from tests.support.databases import Databases
from tests.unit.disk_svc.replica import Replica, prepare

MakeReplica = Callable[[], Replica]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    store = LmdbBlockStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def make_replica(databases: Databases, store: BlockStore) -> Iterator[MakeReplica]:
    """Replicas of one service, on each kind of database."""
    made: list[Replica] = []
    with databases.fresh(prepare) as url:

        def make() -> Replica:
            made.append(Replica(url, store))
            return made[-1]

        yield make
        for replica in made:
            replica.close()


@pytest.fixture
def replica(make_replica: MakeReplica) -> Replica:
    return make_replica()
