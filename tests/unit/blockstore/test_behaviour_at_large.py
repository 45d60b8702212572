"""What every block store must do while much goes on at once, and for those who look after it; see interface.py."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from disk_svc.blockstore import (
    BlockStore,
    Cut,
    Extent,
    KeyEntry,
    Range,
    Restore,
    SnapshotEntry,
    StoreClosed,
    VolumeEntry,
)
from tests.unit.blockstore.helpers import MIB, damages, noise, write

# One moment


def test_no_cut_holds_a_write_without_the_one_that_was_answered_before_it(store: BlockStore) -> None:
    for volume in "ab":
        store.create_volume(volume, MIB)
    done = threading.Event()

    def dependent_writes() -> None:
        n = 0
        while not done.is_set():
            n += 1
            for volume in "ab":
                write(store, volume, 0, n.to_bytes(8, "big"))

    writers = [threading.Thread(target=dependent_writes)]
    writers[0].start()
    try:
        for i in range(100):
            store.cut(f"k{i}", [Cut("b", f"b{i}"), Cut("a", f"a{i}")])
    finally:
        done.set()
        writers[0].join()
    seen = []
    for i in range(100):
        a, b = (int.from_bytes(store.read(f"{volume}{i}", 0, 8), "big") for volume in "ab")
        assert b <= a <= b + 1
        seen.append(a)
    assert seen == sorted(seen)
    assert seen[-1] > 10


def test_threads_that_read_write_and_cut_at_once_see_whole_writes(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    failures: list[BaseException] = []
    done = threading.Event()

    def watched(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not done.is_set():
                    work()
            except BaseException as failure:  # noqa: BLE001  the test's own thread raises it
                failures.append(failure)

        return run

    def read() -> None:
        assert len(set(store.read("v", 0, 100_000))) == 1

    letters = iter(range(1, 10**9))
    threads = [threading.Thread(target=watched(read)) for _ in range(2)]
    threads += [
        threading.Thread(target=watched(lambda: write(store, "v", 0, bytes([next(letters) % 256]) * 100_000)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for i in range(20):
        store.cut(f"k{i}", [Cut("v", f"s{i}")])
        assert len(set(store.read(f"s{i}", 0, 100_000))) == 1
        store.delete_snapshots([f"s{i - 2}"])
    done.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# Ranges


def test_allocated_names_what_is_stored_merged_and_clipped(store: BlockStore) -> None:
    store.create_volume("v", 10 * MIB + 5)
    write(store, "v", 16384, b"\1" * 16384 * 3)
    write(store, "v", 10 * MIB, b"\1" * 5)
    write(store, "v", 5 * MIB, bytes(MIB))
    expected = [Range(16384, 3 * 16384), Range(10 * MIB, 5)]
    assert store.allocated("v", 0, 10) == expected
    assert store.allocated("v", 0, 1) == expected[:1]
    assert store.allocated("v", expected[0].end_bytes, 10) == expected[1:]
    assert store.allocated("v", 20000, 1) == [Range(20000, 4 * 16384 - 20000)]
    assert store.allocated("v", 10 * MIB + 5, 10) == []


def test_changed_names_what_was_written_since(store: BlockStore) -> None:
    store.create_volume("v", 10 * MIB)
    write(store, "v", 0, noise(MIB))
    store.cut("k", [Cut("v", "s")])
    assert store.changed("s", "v", 0, 10) == []
    write(store, "v", 20000, b"x")
    write(store, "v", 9 * MIB, b"x")
    write(store, "v", 32768, bytes(16384))
    store.cut("k2", [Cut("v", "s2")])
    store.create_volume("clone", 20 * MIB, "s2")
    write(store, "clone", 15 * MIB, b"x")
    expected = [Range(16384, 32768), Range(9 * MIB, 16384)]
    assert store.changed("s", "v", 0, 10) == expected
    assert store.changed("s2", "s", 0, 10) == expected
    assert store.changed("s", "clone", 0, 10) == [*expected, Range(15 * MIB, 16384)]
    assert store.changed("s", "clone", 10 * MIB, 1) == [Range(15 * MIB, 16384)]


# Doctor


def test_the_inventory_names_all_there_is(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    moment = store.cut("k", [Cut("v", "s")])
    store.create_volume("clone", MIB, "s")
    store.restore("r", [Restore("v", "s")])
    store.withdraw_cut("never")
    entries = list(store.inventory())
    assert VolumeEntry("clone", MIB, 1, "s") in entries
    assert VolumeEntry("v", MIB, 2, None) in entries
    assert SnapshotEntry("s", "v", MIB, "k", moment, sealed=False) in entries
    assert {(entry.key, entry.kind) for entry in entries if isinstance(entry, KeyEntry)} == {
        ("k", "cut"),
        ("r", "restore"),
        ("never", "withdrawn"),
    }
    assert len(entries) == 6


def test_the_inventory_goes_page_by_page(store: BlockStore) -> None:
    for i in range(3):
        store.create_volume(f"v{i}", MIB)
        store.cut(f"k{i}", [Cut(f"v{i}", f"s{i}-{j}") for j in range(400)])
    assert sum(isinstance(entry, SnapshotEntry) for entry in store.inventory()) == 1200


def test_forget_drops_old_keys_and_tombstones_only(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    store.delete_volume("gone")
    store.cut("k", [Cut("v", "s"), Cut("v", "t")])
    store.delete_snapshots(["t"])
    store.withdraw_cut("never")
    assert store.forget(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert store.forget(datetime.now(UTC) + timedelta(seconds=1)) == 4
    store.create_volume("gone", MIB)
    store.cut("never", [Cut("v", "t")])
    assert store.size_bytes("s") == MIB


def test_deleting_everything_gives_the_space_back(store: BlockStore) -> None:
    store.create_volume("v", 8 * MIB)
    empty = store.usage()
    for i in range(3):
        write(store, "v", 0, noise(8 * MIB))
        store.cut(f"k{i}", [Cut("v", f"s{i}")])
    full = store.usage()
    assert full.used_bytes > empty.used_bytes + 24 * MIB
    store.delete_snapshots(["s0", "s1", "s2"])
    store.delete_volume("v")
    while store.reclaim(1000):
        pass
    after = store.usage()
    assert after.reclaim_queue_length == 0
    assert after.used_bytes < empty.used_bytes + MIB // 4


def test_an_observer_is_told_what_is_read_written_and_committed(store: BlockStore) -> None:
    class Told:
        read_bytes = written_bytes = changes = 0
        seconds: list[float]

        def has_read(self, length_bytes: int) -> None:
            self.read_bytes += length_bytes

        def has_written(self, length_bytes: int) -> None:
            self.written_bytes += length_bytes

        def has_committed(self, changes: int, seconds: float) -> None:
            self.changes += changes
            self.seconds.append(seconds)

    told = Told()
    told.seconds = []
    store.observe(told)
    store.create_volume("v", MIB)
    write(store, "v", 100, noise(5000))
    store.read("v", 0, 7000)
    assert (told.written_bytes, told.read_bytes) == (5000, 7000)
    # Two are ours, one after the other; a store that has just been opened may add a look for what is to be reclaimed.
    assert told.changes in (2, 3)
    assert all(0 < seconds < 60 for seconds in told.seconds)
    assert 2 <= len(told.seconds) <= told.changes


def test_usage_says_what_the_file_system_holds_of_the_store_and_may_come_to_hold(store: BlockStore) -> None:
    store.create_volume("v", 8 * MIB)
    write(store, "v", 0, noise(8 * MIB))
    usage = store.usage()
    assert 8 * MIB < usage.used_bytes <= usage.file_bytes < usage.limit_bytes
    store.delete_volume("v")
    while store.reclaim(1000):
        pass
    assert store.usage().file_bytes >= usage.file_bytes  # what is freed is written again, and not given back


def test_a_sound_store_scrubs_clean(store: BlockStore) -> None:
    store.create_volume("v", 64 * MIB)
    write(store, "v", 0, noise(20 * MIB))
    store.cut("k", [Cut("v", "s")])
    store.seal(["s"])
    write(store, "v", MIB, noise(MIB))
    assert damages(store) == []


def test_a_closed_store_says_so(store: BlockStore) -> None:
    store.create_volume("v", MIB)
    writer = store.open_writer("v")
    waiting = [store.write(writer, [Extent(i, b"x")]) for i in range(20)]
    store.close()
    store.close()
    assert [future.result() for future in waiting] == [None] * 20
    for call in (lambda: store.read("v", 0, 1), lambda: store.fence(["v"]), lambda: store.write(writer, [])):
        with pytest.raises(StoreClosed):
            call()
