"""The store on a file system that is really full. What would end the process is done in one of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from disk_svc.blockstore import Cut, Extent, LmdbBlockStore, OutOfSpace
from disk_svc.blockstore.compact import compact
from tests.support.small_disk import SmallDisk, small_disk
from tests.unit.blockstore.helpers import MIB, damages, noise, write

READERS = 200
"""LMDB notes 62 of them in the first page of its table, and 64 in each other one."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 24 * MIB) as disk:
        yield disk


def opened(disk: SmallDisk) -> LmdbBlockStore:
    return LmdbBlockStore(disk.folder / "store", reserve_bytes=0, background_reclaim=False)


def run(code: str, disk: SmallDisk) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, with `disk` and what this module has; what it throws ends it with 1."""
    here = (
        "import sys; from tests.unit.blockstore.test_full_disk import *; disk = SmallDisk(Path(sys.argv[1]))"
    )
    return subprocess.run(
        [sys.executable, "-c", f"{here}; {code}", disk.folder], check=False, capture_output=True, text=True
    )


def fill_and_read_at_once(disk: SmallDisk) -> None:
    store = opened(disk)
    store.create_volume("v", MIB)
    disk.fill()
    with ExitStack() as reading:
        for _ in range(READERS):
            reading.enter_context(store._reading())
        assert store.read("v", 0, 4096) == bytes(4096)
    store.close()


def test_readers_that_are_more_than_ever_do_not_end_the_process_when_the_disk_is_full(disk: SmallDisk):
    ended = run("fill_and_read_at_once(disk)", disk)
    assert ended.returncode == 0, ended.stderr


def test_a_store_that_has_no_room_to_be_made_says_so(disk: SmallDisk):
    disk.fill()
    ended = run("opened(disk)", disk)
    assert ended.returncode == 1
    assert "OutOfSpace: no room to open the block store in " in ended.stderr
    disk.empty()
    opened(disk).close()


def test_a_store_is_opened_read_and_closed_on_a_disk_that_has_not_a_byte_left(disk: SmallDisk):
    store = opened(disk)
    store.create_volume("v", MIB)
    write(store, "v", 0, b"kept")
    store.close()
    # Who holds the folder writes down who he is; here without the page that his predecessor had.
    (disk.folder / "store" / "lock").write_text("")
    disk.fill()
    assert disk.free_bytes == 0
    for _ in range(2):
        store = opened(disk)
        assert store.read("v", 0, 4) == b"kept"
        store.close()


def test_a_disk_that_fills_up_under_a_commit_refuses_that_commit_whole_and_no_other(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
):
    store = opened(disk)
    # The estimate lets everything through, as it does while a neighbour takes the room that it has just seen.
    monkeypatch.setattr(store, "_spare_bytes", lambda _txn: 2**40)
    store.create_volume("v", 1024 * MIB)
    kept = 0
    while not (failure := store.write(store.open_writer("v"), [piece(kept)]).exception()):
        kept += 1
    assert isinstance(failure, OutOfSpace)
    assert kept > 10
    disk.fill()
    assert isinstance(store.write(store.open_writer("v"), [piece(kept)]).exception(), OutOfSpace)
    assert [found.length_bytes for found in store.allocated("v", 0, 9)] == [kept * MIB]

    disk.empty()
    disk.resize(48 * MIB)
    store.cut("k", [Cut("v", "s")])
    write(store, "v", kept * MIB, b"again")
    store.close()
    store = opened(disk)
    assert store.read("s", 0, kept * MIB) == b"".join(piece(number).data for number in range(kept))
    assert store.read("v", kept * MIB, 6) == b"again\0"
    assert damages(store) == []
    store.close()


def piece(number: int) -> Extent:
    """A MiB that says which it is and does not get smaller by compression."""
    return Extent(number * MIB, number.to_bytes(4) + noise(MIB - 4))


def test_a_compaction_that_finds_no_room_leaves_the_store_and_the_room_as_they_were(disk: SmallDisk):
    store = opened(disk)
    store.create_volume("v", 64 * MIB)
    write(store, "v", 0, noise(14 * MIB))
    store.close()
    free_bytes = disk.free_bytes
    with pytest.raises(OutOfSpace, match="no room"):
        compact(disk.folder / "store")
    assert disk.free_bytes == free_bytes
    disk.resize(64 * MIB)
    compact(disk.folder / "store")
    store = opened(disk)
    assert store.read("v", 0, 14 * MIB) == noise(14 * MIB)
    store.close()
