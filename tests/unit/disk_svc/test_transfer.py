"""What is sent of a snapshot, and in which windows: from a real store to the real receiving side, without a network."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from disk_svc.blockstore import Cut, Extent, LmdbBlockStore
from disk_svc.clients import Importers
from disk_svc.migrations import SCHEMA
from disk_svc.service import transfer
from disk_svc.service.imports import Delivery, Imports, Incoming
from disk_svc.service.realm import Realm
from disk_svc.service.transfer import Transfer
from disk_svc.states import Kind
from svckit.database import Database
from svckit.saga import More, Run

MIB = 1 << 20
CHUNK = 16 * 1024
KEY = "op-d-1/begin"


class OverThere:
    """The other region, called directly."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports
        self.messages: list[list[Extent]] = []

    def write(self, _run: Run, copy_snapshot_id: str, messages: Iterator[list[Extent]]) -> None:
        volume = self._imports.open_writer(KEY, copy_snapshot_id)
        for extents in messages:
            self.messages.append(extents)
            volume.write(extents).result()

    def digest(self, _run: Run, copy_snapshot_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        return self._imports.digest(KEY, copy_snapshot_id, offset_bytes, length_bytes)


class World:
    """A store here, and a region over there that receives `snap-copy`."""

    def __init__(self, folder: Path) -> None:
        self.here = LmdbBlockStore(folder / "here")
        self.there = LmdbBlockStore(folder / "there")
        self._database = Database(f"sqlite:///{folder / 'there.db'}", connections=4)
        SCHEMA.migrate(self._database)
        self.imports = Imports(
            Realm(self._database, self.there, "there", {Kind.MANUAL: 4, Kind.AUTOMATIC: 4})
        )
        self.over_there = OverThere(self.imports)
        self._transfer = Transfer(self.here, cast("Importers", self.over_there))

    def close(self) -> None:
        self.here.close()
        self.there.close()
        self._database.dispose()

    def snapshot(self, snapshot_id: str, size_bytes: int, *extents: tuple[int, bytes]) -> None:
        """Of the one disk, which is made when it is not there, after these were written."""
        self.here.create_volume("disk-1", size_bytes)
        writer = self.here.open_writer("disk-1")
        for offset, data in extents:
            self.here.write(writer, [Extent(offset, data)]).result()
        self.here.cut(f"key of {snapshot_id}", [Cut("disk-1", snapshot_id)])

    def slices(self, size_bytes: int, base_id: str = "") -> list[More]:
        """Sends `snap-1` to the end; what each slice came to."""
        incoming = Incoming("snap-copy", "snap-1", "copy", "", {}, size_bytes, datetime.now(UTC), [])
        self.imports.begin(Delivery(KEY, "op-d-1", "here", "local", ""), [incoming])
        snapshot = {"snapshot_id": "snap-1", "copy_snapshot_id": "snap-copy", "size_bytes": size_bytes}
        done: list[More] = []
        data = {"bases": [base_id]}
        while True:
            run = Run(
                "op-d-1",
                "copy",
                "local",
                "snap-1",
                {"region": "there", "snapshots": [snapshot]},
                data,
                None,
            )
            more = self._transfer.slice(run)
            if more is None:
                return done
            done.append(more)
            data = {**data, **more.data}

    def same(self, offset_bytes: int, length_bytes: int) -> bool:
        copy = self.there.read("import-snap-copy", offset_bytes, length_bytes)
        return copy == self.here.read("snap-1", offset_bytes, length_bytes)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_a_disk_that_is_all_holes_is_one_window_and_no_message(world: World):
    world.snapshot("snap-1", 1 << 42)
    [only] = world.slices(1 << 42)
    assert (only.progress.completed_bytes, only.progress.sent_bytes) == (1 << 42, 0)
    assert world.over_there.messages == []


def test_holes_are_jumped_over_wherever_the_data_is(world: World):
    size = 1 << 42
    places = (0, 1 << 30, size - CHUNK)
    world.snapshot("snap-1", size, *((place, os.urandom(CHUNK)) for place in places))
    [only] = world.slices(size)
    assert only.progress.sent_bytes == 3 * CHUNK
    assert all(world.same(place, CHUNK) for place in places)


def test_small_ranges_share_a_message_and_large_ones_are_divided(world: World):
    scattered = [(2 * number * CHUNK, os.urandom(CHUNK)) for number in range(100)]
    world.snapshot("snap-1", 16 * MIB, *scattered, (8 * MIB, os.urandom(3 * MIB)))
    [only] = world.slices(16 * MIB)
    sizes = [sum(len(extent.data) for extent in message) for message in world.over_there.messages]
    assert sum(sizes) == only.progress.sent_bytes == 100 * CHUNK + 3 * MIB
    assert max(sizes) <= MIB
    assert len(sizes) == 5
    assert world.same(0, 16 * MIB)


def test_each_slice_is_a_window_of_so_much_data_and_the_next_begins_where_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "_WINDOW_BYTES", MIB)
    world.snapshot("snap-1", 8 * MIB, (0, os.urandom(3 * MIB // 2)), (4 * MIB, os.urandom(MIB)))
    slices = world.slices(8 * MIB)
    reached = [(each.progress.completed_bytes, each.progress.sent_bytes) for each in slices]
    assert reached == [(MIB, MIB), (4 * MIB + MIB // 2, 2 * MIB), (8 * MIB, 5 * MIB // 2)]
    assert world.same(0, 8 * MIB)


def test_a_slow_line_ends_a_window_and_what_is_left_goes_with_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    # So slow that the time is over with the first message.
    monkeypatch.setattr(transfer, "_WINDOW_SECONDS", -1.0)
    world.snapshot("snap-1", 8 * MIB, (0, os.urandom(8 * MIB)))
    slices = world.slices(8 * MIB)
    assert [each.progress.completed_bytes // MIB for each in slices] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert slices[-1].progress.sent_bytes == 8 * MIB
    assert world.same(0, 8 * MIB)


def test_a_base_over_there_that_is_not_what_it_should_be_is_found_and_mended(world: World):
    """The other side says that it has the base, and has nothing."""
    world.snapshot("snap-base", 2 * MIB, (0, os.urandom(MIB)))
    world.snapshot("snap-1", 2 * MIB, (MIB, os.urandom(CHUNK)))
    [only] = world.slices(2 * MIB, base_id="snap-base")
    # What differs, in vain, and then all of it: what is stored, and once more what differs.
    assert only.progress.sent_bytes == CHUNK + (MIB + CHUNK) + CHUNK
    assert world.same(0, 2 * MIB)
