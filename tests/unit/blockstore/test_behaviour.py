"""What every block store must do, in sentences; see interface.py. Nothing here knows which store it is."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from disk_svc.blockstore import (
    AlreadyUsed,
    BlockStore,
    Cut,
    Extent,
    Fenced,
    OutOfRange,
    Restore,
    SnapshotEntry,
    UnknownObject,
    UnknownSnapshot,
    UnknownVolume,
    VolumeEntry,
    Withdrawn,
)
from tests.unit.blockstore.helpers import MIB, noise, write

# Volumes


def test_a_new_volume_reads_zero(store: BlockStore) -> None:
    store.create_volume("v", 5 * MIB + 7)
    assert store.read("v", 0, 5 * MIB + 7) == bytes(5 * MIB + 7)
    assert store.size_bytes("v") == 5 * MIB + 7
    assert store.allocated("v", 0, 10) == []


@pytest.mark.parametrize("offset_bytes", [0, 1, 16383, 16384, 2 * MIB - 5, 4 * 1024**4 - 3 * MIB])
@pytest.mark.parametrize("length_bytes", [1, 4096, 16384, 2 * MIB + 5])
def test_what_is_written_is_read(store: BlockStore, offset_bytes: int, length_bytes: int) -> None:
    store.create_volume("v", 4 * 1024**4)
    write(store, "v", offset_bytes, noise(length_bytes))
    assert store.read("v", offset_bytes, length_bytes) == noise(length_bytes)
    before = min(offset_bytes, 100)
    around = store.read("v", offset_bytes - before, before + length_bytes + 100)
    assert around == bytes(before) + noise(length_bytes) + bytes(100)


def test_extents_are_written_in_order(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    writer = store.open_writer("v")
    store.write(writer, [Extent(10, b"aaaa"), Extent(12, b"bb"), Extent(13, b"c")]).result()
    assert store.read("v", 9, 6) == b"\0aabc\0"


def test_writes_survive_a_reopen(reopen: Callable[[], BlockStore]) -> None:
    store = reopen()
    store.create_volume("v", MIB)
    write(store, "v", 5, b"data")
    assert reopen().read("v", 0, 10) == b"\0\0\0\0\0data\0"


def test_creating_a_volume_again_does_nothing(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    write(store, "v", 0, b"x")
    store.resize_volume("v", 2 * MIB)
    store.create_volume("v", MIB)
    assert store.read("v", 0, 1) == b"x"
    assert store.size_bytes("v") == 2 * MIB


def test_creating_a_volume_again_with_other_arguments_is_refused(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    with pytest.raises(AlreadyUsed):
        store.create_volume("v", 2 * MIB)
    store.cut("k", [Cut("v", "s")])
    with pytest.raises(AlreadyUsed):
        store.create_volume("v", MIB, "s")
    with pytest.raises(AlreadyUsed):
        store.create_volume("s", MIB)


def test_creating_a_deleted_volume_is_withdrawn(store: BlockStore) -> None:
    store.delete_volume("never")
    with pytest.raises(Withdrawn):
        store.create_volume("never", MIB)
    store.create_volume("v", MIB)
    store.delete_volume("v")
    store.delete_volume("v")
    with pytest.raises(Withdrawn):
        store.create_volume("v", MIB)


def test_a_resize_only_grows_and_reads_zero(store: BlockStore) -> None:
    store.create_volume("v", 100)
    write(store, "v", 0, b"\1" * 100)
    store.resize_volume("v", MIB)
    store.resize_volume("v", MIB)
    assert store.read("v", 90, 20) == b"\1" * 10 + bytes(10)
    with pytest.raises(OutOfRange):
        store.resize_volume("v", MIB - 1)
    with pytest.raises(OutOfRange):
        store.resize_volume("v", 2**60)
    with pytest.raises(UnknownVolume):
        store.resize_volume("w", MIB)


def test_beyond_the_end_nothing_is_read_or_written(store: BlockStore) -> None:
    store.create_volume("v", 100)
    writer = store.open_writer("v")
    for offset, length in ((100, 1), (99, 2), (-1, 1)):
        with pytest.raises(OutOfRange):
            store.read("v", offset, length)
        with pytest.raises(OutOfRange):
            store.write(writer, [Extent(0, b"x"), Extent(offset, bytes(length))]).result()
    assert store.read("v", 0, 100) == bytes(100)
    assert store.read("v", 100, 0) == b""


def test_an_open_writer_may_write_what_a_resize_added(store: BlockStore) -> None:
    store.create_volume("v", 100)
    writer = store.open_writer("v")
    store.resize_volume("v", 200)
    store.write(writer, [Extent(150, b"x")]).result()
    assert store.read("v", 150, 1) == b"x"


def test_what_does_not_exist_is_unknown(store: BlockStore) -> None:
    store.create_volume("v", 100)
    store.cut("k", [Cut("v", "s")])
    store.delete_volume("v")
    store.delete_snapshots(["s"])
    for object_id in ("v", "s", "never"):
        for call in (
            lambda i: store.read(i, 0, 1),
            lambda i: store.allocated(i, 0, 1),
            store.size_bytes,
            store.open_writer,
            lambda i: store.changed(i, i, 0, 1),
            lambda i: store.create_volume("new", 100, i),
        ):
            with pytest.raises(UnknownObject):
                call(object_id)


@pytest.mark.parametrize("bad", ["", "x" * 501])
def test_ids_that_cannot_be_are_the_callers_bug(store: BlockStore, bad: str) -> None:
    with pytest.raises(ValueError, match="id"):
        store.create_volume(bad, MIB)
    with pytest.raises(ValueError, match="size"):
        store.create_volume("v", 0)


# Snapshots


def test_a_snapshot_keeps_what_was_and_no_more(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    write(store, "v", 0, b"before")
    store.cut("k", [Cut("v", "s")])
    write(store, "v", 0, b"after!")
    write(store, "v", 500_000, b"new")
    store.resize_volume("v", 2 * MIB)
    assert store.read("s", 0, 6) == b"before"
    assert store.read("s", 500_000, 3) == bytes(3)
    assert store.size_bytes("s") == MIB
    assert store.read("v", 0, 6) == b"after!"


def test_a_cut_again_answers_the_moment_recorded(reopen: Callable[[], BlockStore]) -> None:
    store = reopen()
    store.create_volume("v", MIB)
    before = datetime.now(UTC)
    moment = store.cut("k", [Cut("v", "s")])
    assert before <= moment <= datetime.now(UTC)
    write(store, "v", 0, b"x")
    assert store.cut("k", [Cut("v", "s")]) == moment
    assert store.read("s", 0, 1) == b"\0"
    store.delete_volume("v")
    assert reopen().cut("k", [Cut("v", "s")]) == moment


def test_a_cut_takes_all_or_none(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    with pytest.raises(UnknownVolume):
        store.cut("k", [Cut("v", "s"), Cut("w", "t")])
    assert list(store.inventory()) == [VolumeEntry("v", MIB, 1, None)]
    store.cut("k", [Cut("v", "s"), Cut("v", "t")])
    assert store.size_bytes("s") == store.size_bytes("t") == MIB


def test_a_cut_with_a_key_or_an_id_that_is_taken_is_refused(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s")])
    store.restore("r", [Restore("v", "s")])
    for key, snapshot_id in (("k", "other"), ("other", "s"), ("other", "v"), ("r", "other")):
        with pytest.raises(AlreadyUsed):
            store.cut(key, [Cut("v", snapshot_id)])
    with pytest.raises(AlreadyUsed):
        store.withdraw_cut("r")


def test_a_withdrawn_cut_is_gone_and_does_not_come_late(reopen: Callable[[], BlockStore]) -> None:
    store = reopen()
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s"), Cut("v", "t")])
    for key in ("k", "k", "never"):
        store.withdraw_cut(key)
    store = reopen()
    for key in ("k", "never"):
        with pytest.raises(Withdrawn):
            store.cut(key, [Cut("v", "s")])
        with pytest.raises(Withdrawn):
            store.restore(key, [Restore("v", "s")])
    with pytest.raises(Withdrawn):
        store.cut("other", [Cut("v", "t")])
    assert not [entry for entry in store.inventory() if isinstance(entry, SnapshotEntry)]


def test_a_snapshot_outlives_its_volume_and_its_descendants_outlive_it(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    write(store, "v", 0, noise(MIB))
    store.cut("k", [Cut("v", "s")])
    store.delete_volume("v")
    assert store.read("s", 0, MIB) == noise(MIB)
    store.create_volume("clone", 2 * MIB, "s")
    store.delete_snapshots(["s", "never"])
    store.delete_snapshots(["s"])
    assert store.read("clone", 0, 2 * MIB) == noise(MIB) + bytes(MIB)
    write(store, "clone", 3, b"own")
    assert store.read("clone", 0, 7) == noise(MIB)[:3] + b"own" + noise(MIB)[6:7]


def test_a_clone_is_not_smaller_than_its_source(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s")])
    with pytest.raises(OutOfRange):
        store.create_volume("clone", MIB - 1, "s")
    with pytest.raises(UnknownSnapshot):
        store.create_volume("clone", MIB, "v")


def test_seal_answers_for_each_snapshot(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    write(store, "v", 0, b"x")
    store.cut("k", [Cut("v", "s"), Cut("v", "t")])
    store.delete_snapshots(["t"])
    for _ in range(2):
        results = store.seal(["s", "t", "never"])
        assert results["s"] is None
        assert isinstance(results["t"], UnknownSnapshot)
        assert isinstance(results["never"], UnknownSnapshot)
    (entry,) = (entry for entry in store.inventory() if isinstance(entry, SnapshotEntry))
    assert entry.sealed


# Restore


def test_a_restore_brings_every_volume_back_at_once(store: BlockStore) -> None:
    for volume in "ab":
        store.create_volume(volume, MIB)
        write(store, volume, 0, noise(MIB))
    store.cut("k", [Cut("a", "sa"), Cut("b", "sb")])
    for volume in "ab":
        store.resize_volume(volume, 2 * MIB)
        write(store, volume, 0, b"\1" * 2 * MIB)
    store.cut("later", [Cut("a", "later")])
    store.restore("r", [Restore("a", "sa"), Restore("b", "sb")])
    for volume in "ab":
        assert store.read(volume, 0, 2 * MIB) == noise(MIB) + bytes(MIB)
    assert store.read("later", 0, 2 * MIB) == b"\1" * 2 * MIB


def test_a_restore_again_does_nothing_even_after_writes(reopen: Callable[[], BlockStore]) -> None:
    store = reopen()
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s")])
    store.restore("r", [Restore("v", "s")])
    write(store, "v", 0, b"since")
    store.delete_snapshots(["s"])
    store = reopen()
    store.restore("r", [Restore("v", "s")])
    assert store.read("v", 0, 5) == b"since"
    with pytest.raises(AlreadyUsed):
        store.restore("r", [Restore("v", "t")])


def test_a_restore_is_all_or_none(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s")])
    write(store, "v", 0, b"new")
    writer = store.open_writer("v")
    with pytest.raises(UnknownSnapshot):
        store.restore("r", [Restore("v", "never")])
    with pytest.raises(UnknownVolume):
        store.restore("r", [Restore("v", "s"), Restore("never", "s")])
    store.write(writer, [Extent(3, b"!")]).result()
    assert store.read("v", 0, 4) == b"new!"


# Fences


@pytest.mark.parametrize("how", ["fence", "restore", "delete"])
def test_old_writers_end_and_change_nothing(store: BlockStore, how: str) -> None:
    store.create_volume("v", MIB)
    store.cut("k", [Cut("v", "s")])
    writer = store.open_writer("v")
    match how:
        case "fence":
            store.fence(["v", "never"])
        case "restore":
            store.restore("r", [Restore("v", "s")])
        case _:
            store.delete_volume("v")
    with pytest.raises(Fenced):
        store.write(writer, [Extent(0, b"late")]).result()
    if how != "delete":
        assert store.read("v", 0, 4) == bytes(4)
        write(store, "v", 0, b"new!")


def test_a_refused_write_does_not_spoil_its_neighbours(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    old = store.open_writer("v")
    store.fence(["v"])
    new = store.open_writer("v")
    futures = [store.write(old if i % 3 else new, [Extent(i * 10, b"x")]) for i in range(60)]
    futures.append(store.write(new, [Extent(MIB, b"x")]))
    for i, future in enumerate(futures[:60]):
        assert isinstance(future.exception(), Fenced) is bool(i % 3)
    assert isinstance(futures[-1].exception(), OutOfRange)
    assert store.read("v", 0, 600) == (b"x" + bytes(29)) * 20
