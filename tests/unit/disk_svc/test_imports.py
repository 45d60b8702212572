"""Imports over a real database and a real store, at moments that processes hit only by chance."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from disk_svc.blockstore import Cut, LmdbBlockStore
from disk_svc.migrations import SCHEMA
from disk_svc.repository import import_rows, snapshot_rows
from disk_svc.service import store_check
from disk_svc.service.imports import Delivery, Imports, Incoming
from disk_svc.service.realm import Realm
from disk_svc.states import Kind
from svckit.database import Database
from svckit.errors import StepWithdrawn

MIB = 1 << 20


class WatchedStore(LmdbBlockStore):
    """Does something else just before it makes a volume, or cuts."""

    before_create: Callable[[], None] | None = None
    before_cut: Callable[[], None] | None = None

    def create_volume(self, volume_id: str, size_bytes: int, source_snapshot_id: str | None = None) -> None:
        if self.before_create is not None:
            self.before_create()
        super().create_volume(volume_id, size_bytes, source_snapshot_id)

    def cut(self, key: str, cuts: Sequence[Cut]) -> datetime:
        if self.before_cut is not None:
            self.before_cut()
        return super().cut(key, cuts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    store = WatchedStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def realm(tmp_path: Path, store: WatchedStore) -> Iterator[Realm]:
    database = Database(f"sqlite:///{tmp_path / 'disk.db'}", connections=4)
    SCHEMA.migrate(database)
    yield Realm(database, store, "here", {Kind.MANUAL: 4, Kind.AUTOMATIC: 4})
    database.dispose()


def begin(imports: Imports, key: str, copy_id: str, source_id: str, *, bases: Sequence[str] = ()) -> str:
    """The base that was chosen."""
    incoming = Incoming(copy_id, source_id, "copy", "", {}, MIB, datetime.now(UTC), bases)
    return imports.begin(Delivery(key, "op-d-1", "there", "local", ""), [incoming])[copy_id]


def assert_nothing_of(realm: Realm, key: str, copy_id: str) -> None:
    with realm.database.read() as session:
        assert import_rows.imports_of(session, key) == []
        found = snapshot_rows.find_snapshot(session, account_id="local", region="here", snapshot_id=copy_id)
    assert found is None
    assert list(store_check.differences(realm)) == []


def test_a_base_is_in_use_until_the_volume_that_begins_with_it_is_made(realm: Realm, store: WatchedStore):
    imports = Imports(realm)
    begin(imports, "op-d-1/begin", "snap-base", "snap-1")
    imports.finish("op-d-1/begin")

    def in_use() -> set[str]:
        with realm.database.read() as session:
            return snapshot_rows.sources_in_use(session, ["snap-base"])

    seen: list[set[str]] = []
    store.before_create = lambda: seen.append(in_use())
    assert begin(imports, "op-d-2/begin", "snap-copy", "snap-2", bases=["snap-1"]) == "snap-1"
    assert seen == [{"snap-base"}]
    assert in_use() == set()


def test_an_import_that_is_overtaken_by_its_undo_makes_no_volume(realm: Realm, store: WatchedStore):
    imports = Imports(realm)
    store.before_create = lambda: imports.withdraw("op-d-1/begin")
    with pytest.raises(StepWithdrawn):
        begin(imports, "op-d-1/begin", "snap-copy", "snap-1")
    assert_nothing_of(realm, "op-d-1/begin", "snap-copy")


def test_an_import_whose_end_is_overtaken_by_its_undo_makes_no_snapshot(realm: Realm, store: WatchedStore):
    imports = Imports(realm)
    begin(imports, "op-d-1/begin", "snap-copy", "snap-1")
    store.before_cut = lambda: imports.withdraw("op-d-1/begin")
    with pytest.raises(StepWithdrawn):
        imports.finish("op-d-1/begin")
    assert_nothing_of(realm, "op-d-1/begin", "snap-copy")
