"""Corners of reclaim that took thought; test_model.py searches for the others."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from disk_svc.blockstore import Cut, Extent, LmdbBlockStore, Restore
from tests.unit.blockstore.inside import assert_nothing_leaked, stored_keys

CHUNK = 16 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbBlockStore]:
    store = LmdbBlockStore(tmp_path, background_reclaim=False)
    yield store
    store.close()


def write(store: LmdbBlockStore, volume_id: str, chunk_no: int, fill: bytes) -> None:
    store.write(store.open_writer(volume_id), [Extent(chunk_no * CHUNK, fill * CHUNK)]).result()


def drain(store: LmdbBlockStore) -> None:
    while store.reclaim(1):
        pass
    assert_nothing_leaked(store)


def test_a_node_that_a_head_replaced_does_not_take_its_path_from_a_walk_that_comes_later(
    store: LmdbBlockStore,
) -> None:
    """If the entry of a replaced node deleted that node alone, chunk 0 of `base` would be lost below it here."""
    store.create_volume("v", 2**30)
    write(store, "v", 0, b"0")
    store.cut("k1", [Cut("v", "base")])
    write(store, "v", 1, b"1")  # its own leaf, that shares chunk 0 with base
    store.cut("k2", [Cut("v", "middle")])
    store.create_volume("u", 2**30, "middle")
    store.delete_snapshots(["middle"])
    drain(store)  # now a ghost between base and two heads
    store.create_volume("w", 2**30, "base")
    store.delete_volume("w")  # in the queue: base's nodes, by way of w
    write(store, "v", 0, b"2")  # in the queue: middle's nodes, by way of v; chunk 0 is held by base
    store.delete_snapshots(["base"])
    assert store.reclaim(3)  # as w is walked, chunk 0 is still held by u
    store.delete_volume("u")
    drain(store)
    assert store.read("v", 0, 1) + store.read("v", CHUNK, 1) == b"21"


def test_two_clones_of_a_deleted_snapshot_do_not_free_what_the_other_reads(store: LmdbBlockStore) -> None:
    store.create_volume("v", 2**30)
    write(store, "v", 0, b"0")
    store.cut("k", [Cut("v", "s")])
    for clone in ("a", "b"):
        store.create_volume(clone, 2**30, "s")
    store.delete_volume("v")
    store.delete_snapshots(["s"])
    drain(store)
    write(store, "a", 0, b"a")
    drain(store)
    assert store.read("b", 0, 1) == b"0"
    store.delete_volume("b")
    drain(store)
    assert len(stored_keys(store)[1]) == 1


def test_rollbacks_to_and_fro_leave_nothing_behind(store: LmdbBlockStore) -> None:
    store.create_volume("v", 2**30)
    for i in range(4):
        write(store, "v", 0, bytes([i + 1]))
        write(store, "v", 1000 * i, bytes([i + 1]))
        store.cut(f"k{i}", [Cut("v", f"s{i}")])
    for n, i in enumerate((1, 3, 0, 2, 2)):
        store.restore(f"r{n}", [Restore("v", f"s{i}")])
        write(store, "v", 5, b"x")
        assert store.read("v", 0, 1) == bytes([i + 1])
        store.reclaim(2)
    store.delete_snapshots(["s0", "s1", "s2", "s3"])
    drain(store)
    assert store.read("v", 0, 1) == b"\3"
    store.delete_volume("v")
    drain(store)
    assert stored_keys(store) == (set(), set())


def test_reclaim_goes_on_after_a_restart_by_itself(tmp_path: Path) -> None:
    store = LmdbBlockStore(tmp_path, background_reclaim=False)
    store.create_volume("v", 2**30)
    for chunk_no in range(300):
        write(store, "v", chunk_no, b"x")
    store.delete_volume("v")
    assert store.reclaim(10)
    store.close()
    store = LmdbBlockStore(tmp_path)
    deadline = time.monotonic() + 10
    while store.usage().reclaim_queue_length and time.monotonic() < deadline:
        time.sleep(0.01)
    assert_nothing_leaked(store)
    assert stored_keys(store) == (set(), set())
    store.close()


def test_a_big_tree_is_not_walked_again_for_each_slice(
    store: LmdbBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_volume("v", 2**34)
    writer = store.open_writer("v")
    for future in [
        store.write(writer, [Extent((leaf * 128 + i) * CHUNK, b"x" * CHUNK) for i in range(4)])
        for leaf in range(256)
    ]:
        future.result()
    store.delete_volume("v")
    slices = 1
    while store.reclaim(50):
        slices += 1
    assert_nothing_leaked(store)
    assert slices <= (256 * 4 + 256 + 2 + 3) / 50 + 2
