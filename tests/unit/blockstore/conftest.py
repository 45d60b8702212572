from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from disk_svc.blockstore import BlockStore, LmdbBlockStore

# Each opens a store in a folder; whatever implements the interface is listed here and passes behaviour.
STORES: dict[str, Callable[[Path], BlockStore]] = {"lmdb": LmdbBlockStore}


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], BlockStore]]:
    """Closes the store, if one is open, and opens it again."""
    opened: list[BlockStore] = []

    def again() -> BlockStore:
        if opened:
            opened[-1].close()
        opened.append(STORES[request.param](tmp_path / "store"))
        return opened[-1]

    yield again
    if opened:
        opened[-1].close()


@pytest.fixture
def store(reopen: Callable[[], BlockStore]) -> BlockStore:
    return reopen()
