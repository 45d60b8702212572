"""What only the LMDB store promises: its lock, its reserve, its checksums, its file, its queue."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from disk_svc.blockstore import (
    Cut,
    DataLoss,
    Extent,
    Fenced,
    LmdbBlockStore,
    OutOfSpace,
    Range,
    Restore,
    StoreLocked,
    UnknownFormat,
)
from disk_svc.blockstore.compact import compact
from disk_svc.blockstore.layout import NODE_KEY, PAIR
from disk_svc.blockstore.operations import Operations
from tests.unit.blockstore.helpers import MIB, damages, write
from tests.unit.blockstore.inside import assert_nothing_leaked

CHUNK = 16 * 1024
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., LmdbBlockStore]]:
    stores: list[LmdbBlockStore] = []

    def again(**settings: Any) -> LmdbBlockStore:
        for store in stores:
            store.close()
        stores.append(LmdbBlockStore(tmp_path, **settings))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


def child(program: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


# One process


def test_a_second_process_is_refused_and_told_who_has_the_store(tmp_path: Path) -> None:
    store = LmdbBlockStore(tmp_path)
    program = "import sys; from disk_svc.blockstore import LmdbBlockStore; LmdbBlockStore(sys.argv[1])"
    with child(program, tmp_path) as second:
        _, complaint = second.communicate()
    assert second.returncode != 0
    assert (
        f"StoreLocked: {tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}"
        in complaint.decode()
    )
    with pytest.raises(StoreLocked):
        compact(tmp_path)
    store.close()
    LmdbBlockStore(tmp_path).close()


def test_an_unknown_format_is_refused_and_left_alone(
    opened: Callable[..., LmdbBlockStore], tmp_path: Path
) -> None:
    opened().close()
    with lmdb.open(str(tmp_path), max_dbs=1) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(b"format", b"99", db=meta)
    with pytest.raises(UnknownFormat):
        opened()
    with pytest.raises(UnknownFormat):  # the lock was let go
        opened()


# Crashes

WRITING = """
import sys
from disk_svc.blockstore import Cut, Extent, LmdbBlockStore
store = LmdbBlockStore(sys.argv[1])
store.create_volume("v", 2**30)
writer = store.open_writer("v")
waiting = []
for n in range(1, 10**9):
    data = n.to_bytes(8, "big") * 2500
    waiting.append((n, store.write(writer, [Extent(n % 50 * 20000, data), Extent(2**29 + n % 50 * 20000, data)])))
    if n % 20 == 0:
        store.cut(f"k{n}", [Cut("v", f"s{n}")])
        store.delete_snapshots([f"s{n - 60}"])
    if len(waiting) >= 8:
        done, future = waiting.pop(0)
        future.result()
        print(done, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 23, 111, 240])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    with child(WRITING, tmp_path) as victim:
        assert victim.stdout
        lines = [victim.stdout.readline() for _ in range(acknowledged)]
        victim.send_signal(signal.SIGKILL)
        last = int((lines + victim.stdout.readlines())[-1])
    store = LmdbBlockStore(tmp_path, background_reclaim=False)
    try:
        for n in range(max(1, last - 49), last + 1):
            one, other = (store.read("v", half + n % 50 * 20000, 20000) for half in (0, 2**29))
            assert one == other, "half of a write"
            found = int.from_bytes(one[:8], "big")
            assert one == found.to_bytes(8, "big") * 2500
            assert found == n or (found > last and found % 50 == n % 50)
        assert not damages(store)
        while store.reclaim(100):
            pass
        assert_nothing_leaked(store)
    finally:
        store.close()


# Rot


def flip(folder: Path, value: bytes, at: int) -> None:
    """One bit of a value, wherever its bytes are in the file: pages that LMDB has copied keep their old content."""
    data = (folder / "data.mdb").read_bytes()
    rotten = value[:at] + bytes([value[at] ^ 0x10]) + value[at + 1 :]
    assert value in data
    (folder / "data.mdb").write_bytes(data.replace(value, rotten))


def value_of(store: LmdbBlockStore, table: str, key: bytes) -> bytes:
    with store._env.begin() as txn:
        value = txn.get(key, db=getattr(store._tables, table))
    assert value
    return value


@pytest.mark.parametrize(
    "content", [random.Random(1).randbytes(CHUNK), b"compressible" * 1500], ids=["raw", "zstd"]
)
@pytest.mark.parametrize("at", [0, 8, 9, 30])
def test_a_flipped_bit_in_a_chunk_is_data_loss_and_never_data(
    opened: Callable[..., LmdbBlockStore], tmp_path: Path, content: bytes, at: int
) -> None:
    store = opened()
    store.create_volume("v", MIB)
    write(store, "v", 3 * CHUNK, content[:CHUNK])
    write(store, "v", 9 * CHUNK, b"sound")
    store.cut("k", [Cut("v", "s")])
    value = value_of(store, "chunks", PAIR.pack(1, 3))
    store.close()
    flip(tmp_path, value, at)
    store = opened()
    for name in ("v", "s"):
        with pytest.raises(DataLoss) as loss:
            store.read(name, 3 * CHUNK + 5, 1)
        assert (loss.value.object_id, loss.value.offset_bytes) == (name, 3 * CHUNK)
    assert store.read("v", 9 * CHUNK, 5) == b"sound"
    assert [(loss.object_id, loss.offset_bytes) for loss in damages(store)] == [("s", 3 * CHUNK)]
    writer = store.open_writer("v")
    part = store.write(writer, [Extent(0, b"x"), Extent(3 * CHUNK + 1, b"x")])
    beside = store.write(writer, [Extent(5 * CHUNK, b"y")])
    with pytest.raises(DataLoss):
        part.result()
    beside.result()
    assert store.read("v", 0, 1) + store.read("v", 5 * CHUNK, 1) == b"\0y"
    write(store, "v", 3 * CHUNK, bytes([7]) * CHUNK)  # a whole chunk heals it
    assert store.read("v", 3 * CHUNK, 1) == b"\7"


def test_a_flipped_bit_in_a_node_is_data_loss_in_reads_seals_and_scrubs_and_reclaim_goes_on(
    opened: Callable[..., LmdbBlockStore], tmp_path: Path
) -> None:
    store = opened()
    store.create_volume("v", MIB)
    write(store, "v", 0, b"x")
    store.cut("k", [Cut("v", "s")])
    value = value_of(store, "nodes", NODE_KEY.pack(1, 5, 0))
    store.close()
    flip(tmp_path, value, 100)
    store = opened(background_reclaim=False)
    for call in (
        lambda: store.read("s", 0, 1),
        lambda: store.allocated("s", 0, 1),
        lambda: store.write(store.open_writer("v"), [Extent(0, b"x")]).result(),
    ):
        with pytest.raises(DataLoss):
            call()
    assert isinstance(store.seal(["s"])["s"], DataLoss)
    assert [loss.object_id for loss in damages(store)] == ["s"]
    store.create_volume("good", MIB)
    write(store, "good", 0, b"good")
    with pytest.raises(DataLoss):
        store.restore("back", [Restore("good", "s")])
    assert store.read("good", 0, 4) == b"good"
    store.create_volume("other", MIB)
    write(store, "other", 0, b"x")
    for volume in ("v", "other", "good"):
        store.delete_volume(volume)
    store.delete_snapshots(["s"])
    while store.reclaim(10):
        pass
    assert store.usage().reclaim_queue_length == 0


def test_a_chunk_under_another_chunks_key_is_data_loss(opened: Callable[..., LmdbBlockStore]) -> None:
    store = opened()
    store.create_volume("v", MIB)
    write(store, "v", 0, b"a" * 2 * CHUNK)
    with store._env.begin(write=True) as txn:
        txn.put(
            PAIR.pack(1, 0), txn.get(PAIR.pack(1, 1), b"", db=store._tables.chunks), db=store._tables.chunks
        )
    with pytest.raises(DataLoss):
        store.read("v", 0, 1)


# Space


def fill(store: LmdbBlockStore, volume_id: str) -> int:
    """Writes until there is no space; how many MiB that took."""
    writer = store.open_writer(volume_id)
    for n in range(1000):
        failure = store.write(writer, [Extent(n * MIB, random.Random(n).randbytes(MIB))]).exception()
        if failure:
            assert isinstance(failure, OutOfSpace)
            return n
    raise AssertionError


@pytest.mark.parametrize("reserve_mib", [8, 0])
def test_a_full_store_refuses_writes_and_gives_space_back(
    opened: Callable[..., LmdbBlockStore], reserve_mib: int
) -> None:
    store = opened(map_size_bytes=48 * MIB, reserve_bytes=reserve_mib * MIB)
    store.create_volume("v", 1024 * MIB)
    store.cut("k", [Cut("v", "s")])
    fitted = fill(store, "v")
    assert fitted >= 20
    assert store.read("v", 5 * MIB, MIB) == random.Random(5).randbytes(MIB)
    assert store.allocated("v", 0, 5) == [Range(0, fitted * MIB)], "a part of the refused write was applied"
    if reserve_mib:
        for refused in (
            lambda: store.create_volume("w", MIB),
            lambda: store.cut("k2", [Cut("v", "t")]),
        ):
            with pytest.raises(OutOfSpace):
                refused()
        assert isinstance(store.seal(["s"])["s"], OutOfSpace)
        store.fence(["v"])
        store.restore("r", [Restore("v", "s")])
        while store.reclaim(1000):
            pass
        assert fill(store, "v") >= fitted - 2


def test_a_change_that_does_not_fit_does_not_fail_its_neighbours(
    opened: Callable[..., LmdbBlockStore],
) -> None:
    store = opened(map_size_bytes=32 * MIB, reserve_bytes=0)
    store.create_volume("v", 1024 * MIB)
    writer = store.open_writer("v")
    small = [store.write(writer, [Extent(i * MIB, b"small")]) for i in range(3)]
    # Too large for the map, and let through by the estimate: LMDB itself has to say no.
    store._spare_bytes = lambda txn: 2**40  # type: ignore[method-assign]
    large = store.write(writer, [Extent(100 * MIB, random.Random(0).randbytes(40 * MIB))])
    small += [store.write(writer, [Extent(i * MIB, b"small")]) for i in range(3, 6)]
    assert isinstance(large.exception(), OutOfSpace)
    assert [future.result() for future in small] == [None] * 6
    assert store.read("v", 100 * MIB, MIB) == bytes(MIB)
    assert store.read("v", 5 * MIB, 5) == b"small"


def test_compact_shrinks_the_file_and_keeps_the_content(
    opened: Callable[..., LmdbBlockStore], tmp_path: Path
) -> None:
    store = opened()
    store.create_volume("v", 64 * MIB)
    store.create_volume("w", MIB)
    write(store, "v", 0, random.Random(0).randbytes(20 * MIB))
    write(store, "w", 5, b"kept")
    store.delete_volume("v")
    while store.reclaim(10_000):
        pass
    store.close()
    assert compact(tmp_path) > 15 * MIB
    assert (tmp_path / "data.mdb").stat().st_size < MIB
    assert opened().read("w", 5, 4) == b"kept"


# The queue


def hold_the_queue(store: LmdbBlockStore) -> threading.Event:
    """Keeps the committing thread in a change until the event is set."""
    entered, go_on = threading.Event(), threading.Event()

    def change(_: Operations) -> None:
        entered.set()
        go_on.wait()

    store._commits.submit(change)
    entered.wait()
    return go_on


def test_a_write_that_was_cancelled_in_time_is_not_applied_and_ends_nothing(
    opened: Callable[..., LmdbBlockStore],
) -> None:
    store = opened()
    store.create_volume("v", MIB)
    writer = store.open_writer("v")
    go_on = hold_the_queue(store)
    late = store.write(writer, [Extent(0, b"x")])
    assert late.cancel()
    kept = store.write(writer, [Extent(1, b"y")])
    go_on.set()
    kept.result()
    assert store.read("v", 0, 2) == b"\0y"


def test_writes_wait_while_too_many_bytes_are_queued(opened: Callable[..., LmdbBlockStore]) -> None:
    store = opened()
    store.create_volume("v", 1024 * MIB)
    writer = store.open_writer("v")
    go_on = hold_the_queue(store)
    queued: list[int] = []
    data = random.Random(0).randbytes(8 * MIB)

    def write_much() -> None:
        for n in range(12):
            store.write(writer, [Extent(n * 8 * MIB, data)])
            queued.append(n)

    thread = threading.Thread(target=write_much)
    thread.start()
    thread.join(1.5)
    assert thread.is_alive()
    assert len(queued) <= 9
    go_on.set()
    thread.join()
    store.fence(["v"])
    assert store.read("v", 88 * MIB, 8 * MIB) == data
    with pytest.raises(Fenced):
        store.write(writer, [Extent(0, b"x")]).result()
