"""The store against a model that is nothing but dicts, through random histories.

Two things must hold at every rest: each object reads as the model says, and once reclaim has nothing left to do, the
file holds exactly the nodes and chunks that a walk of every live version reaches: nothing leaked, nothing missing.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from disk_svc.blockstore import Cut, Extent, LmdbBlockStore, OutOfRange, Restore
from tests.unit.blockstore.helpers import damages
from tests.unit.blockstore.inside import assert_nothing_leaked

CHUNK = 16 * 1024
# Neighbours in a leaf, in the next leaf, and under other nodes of the levels above.
PLACES = (0, 1, 127, 128, 199, 16383, 16384, 19_999, 2**21 + 3, 2**28 + 5)
SIZES = (200 * CHUNK, 200 * CHUNK - 77, 20_000 * CHUNK, 2**30 * CHUNK)

# Nothing here is about durability, and a history is hundreds of commits.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

places = st.sampled_from(PLACES)
fills = st.integers(0, 3)  # 0 makes a hole


class Model:
    """An object's content: fill by place for whole chunks, bytes where something else was written."""

    def __init__(self, size_bytes: int, chunks: dict[int, bytes] | None = None) -> None:
        self.size_bytes = size_bytes
        self.chunks = dict(chunks or {})

    def copy(self, size_bytes: int = 0) -> "Model":
        return Model(max(size_bytes, self.size_bytes), self.chunks)

    def chunk(self, place: int) -> bytes:
        return self.chunks.get(place, bytes(CHUNK))

    def write(self, offset: int, data: bytes) -> None:
        place, start = divmod(offset, CHUNK)
        old = self.chunk(place)
        new = old[:start] + data + old[start + len(data) :]
        self.chunks.pop(place, None)
        if any(new):
            self.chunks[place] = new


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="blockstore-", dir=IN_MEMORY))
        self.store = self.open()
        self.volumes: dict[str, Model] = {}
        self.snapshots: dict[str, Model] = {}
        self.count = 0

    def open(self) -> LmdbBlockStore:
        return LmdbBlockStore(self.folder, map_size_bytes=2**30, background_reclaim=False)

    def teardown(self) -> None:
        try:
            self.everything_reads_right()
            self.drain()
            self.everything_reads_right()
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def pick(self, data: st.DataObject, among: dict[str, Model]) -> str:
        return data.draw(st.sampled_from(sorted(among)))

    @precondition(lambda self: len(self.volumes) < 6)
    @rule(size=st.sampled_from(SIZES))
    def create(self, size: int) -> None:
        volume = self.name("v")
        self.store.create_volume(volume, size)
        self.volumes[volume] = Model(size)

    @precondition(lambda self: self.snapshots and len(self.volumes) < 6)
    @rule(data=st.data())
    def clone(self, data: st.DataObject) -> None:
        volume, snapshot = self.name("v"), self.pick(data, self.snapshots)
        self.store.create_volume(volume, self.snapshots[snapshot].size_bytes, snapshot)
        self.volumes[volume] = self.snapshots[snapshot].copy()

    @precondition(lambda self: self.volumes)
    @rule(data=st.data(), where=st.lists(places, min_size=1, max_size=4), fill=fills)
    def write(self, data: st.DataObject, where: list[int], fill: int) -> None:
        volume = self.pick(data, self.volumes)
        model = self.volumes[volume]
        where = [place for place in where if (place + 1) * CHUNK <= model.size_bytes]
        content = bytes([fill]) * CHUNK
        extents = [Extent(place * CHUNK, content) for place in where]
        self.store.write(self.store.open_writer(volume), extents).result()
        for place in where:
            model.write(place * CHUNK, content)

    @precondition(lambda self: self.volumes)
    @rule(
        data=st.data(),
        where=places,
        start=st.integers(0, CHUNK - 1),
        length=st.integers(1, CHUNK),
        fill=fills,
    )
    def write_a_part(self, data: st.DataObject, where: int, start: int, length: int, fill: int) -> None:
        volume = self.pick(data, self.volumes)
        content = bytes([fill]) * min(length, CHUNK - start)
        extent = Extent(where * CHUNK + start, content)
        future = self.store.write(self.store.open_writer(volume), [extent])
        if extent.offset_bytes + len(content) > self.volumes[volume].size_bytes:
            with pytest.raises(OutOfRange):
                future.result()
        else:
            future.result()
            self.volumes[volume].write(extent.offset_bytes, content)

    @precondition(lambda self: self.volumes and len(self.snapshots) < 12)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.volumes)), min_size=1, max_size=3))
        cuts = [Cut(volume, self.name("s")) for volume in chosen]
        self.store.cut(self.name("cut"), cuts)
        for cut in cuts:
            self.snapshots[cut.snapshot_id] = self.volumes[cut.volume_id].copy()

    @precondition(lambda self: self.volumes and len(self.snapshots) < 12)
    @rule(data=st.data(), fill=fills, place=st.sampled_from(PLACES[:4]))
    def cut_and_write_in_one_transaction(self, data: st.DataObject, fill: int, place: int) -> None:
        volume, snapshot = self.pick(data, self.volumes), self.name("s")
        writer = self.store.open_writer(volume)
        before = self.store.write(writer, [Extent(place * CHUNK, b"\x07" * CHUNK)])
        self.store.cut(self.name("cut"), [Cut(volume, snapshot)])
        after = self.store.write(writer, [Extent(place * CHUNK, bytes([fill]) * CHUNK)])
        before.result()
        after.result()
        self.volumes[volume].write(place * CHUNK, b"\x07" * CHUNK)
        self.snapshots[snapshot] = self.volumes[volume].copy()
        self.volumes[volume].write(place * CHUNK, bytes([fill]) * CHUNK)

    @precondition(lambda self: self.volumes and self.snapshots)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        chosen = data.draw(
            st.lists(st.sampled_from(sorted(self.volumes)), min_size=1, max_size=2, unique=True)
        )
        restores = [Restore(volume, self.pick(data, self.snapshots)) for volume in chosen]
        self.store.restore(self.name("restore"), restores)
        for each in restores:
            size = self.volumes[each.volume_id].size_bytes
            self.volumes[each.volume_id] = self.snapshots[each.snapshot_id].copy(size)

    @precondition(lambda self: self.volumes)
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def resize(self, data: st.DataObject, size: int) -> None:
        volume = self.pick(data, self.volumes)
        if size < self.volumes[volume].size_bytes:
            with pytest.raises(OutOfRange):
                self.store.resize_volume(volume, size)
        else:
            self.store.resize_volume(volume, size)
            self.volumes[volume].size_bytes = size

    @precondition(lambda self: self.volumes)
    @rule(data=st.data())
    def delete_volume(self, data: st.DataObject) -> None:
        volume = self.pick(data, self.volumes)
        self.store.delete_volume(volume)
        del self.volumes[volume]

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def delete_snapshots(self, data: st.DataObject) -> None:
        chosen = data.draw(
            st.lists(st.sampled_from(sorted(self.snapshots)), min_size=1, max_size=3, unique=True)
        )
        self.store.delete_snapshots(chosen)
        for snapshot in chosen:
            del self.snapshots[snapshot]

    @rule(limit=st.integers(1, 7))
    def reclaim_a_slice(self, limit: int) -> None:
        self.store.reclaim(limit)

    @rule()
    def drain(self) -> None:
        while self.store.reclaim(3):
            pass
        assert_nothing_leaked(self.store)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        base, other = self.pick(data, self.snapshots), self.pick(data, self.volumes | self.snapshots)
        theirs, mine = self.snapshots[base], (self.volumes | self.snapshots)[other]
        reported = set(self.chunks_in(self.store.changed, base, other))
        end = mine.size_bytes
        differing = {
            place
            for place in PLACES
            if mine.chunk(place)[: max(0, end - place * CHUNK)]
            != theirs.chunk(place)[: max(0, end - place * CHUNK)]
        }
        assert differing <= reported <= set(PLACES)

    def chunks_in(self, method: Any, *ids: str) -> list[int]:
        """Every chunk a ranges method names, asked for in the smallest steps."""
        found: list[int] = []
        offset = 0
        while ranges := method(*ids, offset, 1):
            (one,) = ranges
            assert one.offset_bytes >= offset
            found.extend(range(one.offset_bytes // CHUNK, -(-one.end_bytes // CHUNK)))
            offset = one.end_bytes
        return found

    @invariant()
    def the_latest_reads_right(self) -> None:
        for objects in (self.volumes, self.snapshots):
            for name in list(objects)[-1:]:
                self.reads_right(name, objects[name])

    def everything_reads_right(self) -> None:
        assert not damages(self.store)
        for name, model in (self.volumes | self.snapshots).items():
            self.reads_right(name, model)
            assert self.chunks_in(self.store.allocated, name) == sorted(model.chunks)

    def reads_right(self, name: str, model: Model) -> None:
        assert self.store.size_bytes(name) == model.size_bytes
        for place in PLACES:
            length = min(CHUNK, model.size_bytes - place * CHUNK)
            if length > 0:
                assert self.store.read(name, place * CHUNK, length) == model.chunk(place)[:length]
        around = self.store.read(name, 126 * CHUNK + 5, 3 * CHUNK)
        expected = b"".join(model.chunk(place) for place in range(126, 130))
        assert around == expected[5 : 5 + 3 * CHUNK]


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
