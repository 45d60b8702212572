"""The embedded block store: one LMDB file, one writing thread, any number of readers.

The rooms behind it, from the outside in:

- commits.py: the queue and the thread that commits it in groups;
- operations.py: what each change does inside a transaction; catalogue.py: what exists;
- tree.py: the map from chunk number to chunk; versions.py: who descends from whom; reclaim.py: what may be freed;
- chunks.py, records.py, layout.py: how it all is stored; folder.py: the lock.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

import lmdb

from disk_svc.blockstore.catalogue import Catalogue
from disk_svc.blockstore.chunks import CHUNK_BYTES, split
from disk_svc.blockstore.commits import GroupCommit
from disk_svc.blockstore.errors import DataLoss, OutOfRange, StoreClosed, StoreError
from disk_svc.blockstore.folder import allocate_readers, locked, refusing_when_full
from disk_svc.blockstore.garbage import GarbageQueue
from disk_svc.blockstore.interface import (
    Cut,
    Extent,
    KeyEntry,
    Observer,
    Range,
    Restore,
    Scrubbed,
    SnapshotEntry,
    Usage,
    VolumeEntry,
    Writer,
)
from disk_svc.blockstore.layout import MAX_ID_BYTES, U64, Tables, Txn
from disk_svc.blockstore.operations import Operations
from disk_svc.blockstore.records import (
    SnapshotRecord,
    VolumeRecord,
    is_older,
    load,
    load_key,
    moment,
)
from disk_svc.blockstore.scrub import scrub_version
from disk_svc.blockstore.tree import Rotten, Tree
from disk_svc.blockstore.versions import decode_version

_log = logging.getLogger(__name__)

_MAX_READERS = 1024
_NEW_STORE_BYTES = 1024**2
"""More than a store without volumes takes."""
_PAGE_RECORDS = 500
_SCAN_CHUNKS = 64 * 1024
"""How much of a map one call of allocated or changed walks: a gigabyte's worth."""
_RECLAIM_KEYS = 512
"""A slice shares its transaction with writes; this many deletions keep them waiting for a few milliseconds."""
_RECLAIM_RETRY_SECONDS = 5.0

T = TypeVar("T")


class LmdbBlockStore:
    """See interface.py for the contract.

    `map_size_bytes` is the most the file may grow to, a limit and not an allocation. Below `reserve_bytes` of room
    writes, cuts and creates are refused. `background_reclaim=False` leaves reclaim to the caller, for tests.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        map_size_bytes: int = 1024**4,
        reserve_bytes: int = 64 * 1024**2,
        background_reclaim: bool = True,
    ) -> None:
        self._folder = Path(folder)
        self._reserve_bytes = reserve_bytes
        self._observer: Observer | None = None
        self._readers = 0
        self._closing = threading.Event()
        self._idle = threading.Condition()
        self._garbage = threading.Event()
        self._garbage.set()  # a queue may be left from the last time
        no_room = f"no room to open the block store in {folder}"
        with ExitStack() as opened, refusing_when_full(self._folder, _NEW_STORE_BYTES, no_room):
            opened.enter_context(locked(self._folder))
            allocate_readers(self._folder, _MAX_READERS)
            self._env = lmdb.open(
                str(self._folder),
                map_size=map_size_bytes,
                max_dbs=Tables.count(),
                max_readers=_MAX_READERS,
                max_spare_txns=16,
                metasync=True,
                sync=True,
                readahead=True,
            )
            opened.callback(self._env.close)
            self._page_bytes: int = self._env.stat()["psize"]
            self._tables = Tables.open(self._env)
            self._commits = GroupCommit(self._env, self._begin, self._garbage.set)
            opened.callback(self._commits.close)
            self._opened = opened.pop_all()
        self._reclaimer = threading.Thread(
            target=self._reclaim_forever, name="blockstore-reclaim", daemon=True
        )
        if background_reclaim:
            self._reclaimer.start()

    # Changes: each takes its place in the one queue.

    def create_volume(self, volume_id: str, size_bytes: int, source_snapshot_id: str | None = None) -> None:
        _check_ids(volume_id)
        _check_size(size_bytes)
        self._commits.run(
            lambda operations: operations.create_volume(volume_id, size_bytes, source_snapshot_id)
        )

    def resize_volume(self, volume_id: str, size_bytes: int) -> None:
        _check_size(size_bytes)
        self._commits.run(lambda operations: operations.resize_volume(volume_id, size_bytes))

    def delete_volume(self, volume_id: str) -> None:
        _check_ids(volume_id)
        self._commits.run(lambda operations: operations.delete_volume(volume_id))

    def cut(self, key: str, cuts: Sequence[Cut]) -> datetime:
        _check_ids(key, *(cut.snapshot_id for cut in cuts))
        _check_distinct(cut.snapshot_id for cut in cuts)
        return moment(self._commits.run(lambda operations: operations.cut(key, cuts)))

    def withdraw_cut(self, key: str) -> None:
        _check_ids(key)
        self._commits.run(lambda operations: operations.withdraw_cut(key))

    def seal(self, snapshot_ids: Sequence[str]) -> dict[str, StoreError | None]:
        return self._commits.run(lambda operations: operations.seal(snapshot_ids))

    def restore(self, key: str, restores: Sequence[Restore]) -> None:
        _check_ids(key)
        _check_distinct(restore.volume_id for restore in restores)
        self._commits.run(lambda operations: operations.restore(key, restores))

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        _check_ids(*snapshot_ids)
        self._commits.run(lambda operations: operations.delete_snapshots(snapshot_ids))

    def fence(self, volume_ids: Sequence[str]) -> None:
        self._commits.run(lambda operations: operations.fence(volume_ids))

    def write(self, writer: Writer, extents: Sequence[Extent]) -> Future[None]:
        if any(extent.offset_bytes < 0 for extent in extents):
            refused: Future[None] = Future()
            refused.set_exception(OutOfRange("an offset is negative"))
            return refused
        pieces = [piece for extent in extents for piece in split(extent.offset_bytes, extent.data)]
        end_bytes = max((extent.offset_bytes + len(extent.data) for extent in extents), default=0)
        size_bytes = sum(piece.room_bytes for piece in pieces)
        if self._observer is not None:
            self._observer.has_written(sum(len(extent.data) for extent in extents))
        return self._commits.submit(
            lambda operations: operations.write(writer, pieces, end_bytes), size_bytes
        )

    def reclaim(self, limit_keys: int) -> bool:
        return self._commits.run(lambda operations: operations.reclaim(limit_keys))

    def forget(self, before: datetime) -> int:
        earliest = before.timestamp()
        forgotten = 0
        for table in ("volumes", "snapshots", "keys"):
            for page in self._pages(table):
                old = [(table, key) for key, value in page if is_older(table, value, earliest)]
                if old:
                    forgotten += self._commits.run(_forgetting(old, earliest))
        return forgotten

    # Reads: each is one short transaction of its own, and waits for nobody.

    def open_writer(self, volume_id: str) -> Writer:
        with self._reading() as txn:
            volume = Catalogue(txn, self._tables).volume(volume_id)
        return Writer(volume_id, volume.generation, volume.size_bytes)

    def size_bytes(self, object_id: str) -> int:
        with self._reading() as txn:
            return Catalogue(txn, self._tables).content(object_id).size_bytes

    def read(self, object_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        with self._reading() as txn:
            content = Catalogue(txn, self._tables).content(object_id)
            end_bytes = offset_bytes + length_bytes
            if offset_bytes < 0 or length_bytes < 0 or end_bytes > content.size_bytes:
                raise OutOfRange(f"{object_id} has {content.size_bytes} bytes")
            first, end = offset_bytes // CHUNK_BYTES, -(-end_bytes // CHUNK_BYTES)
            tree = Tree(txn, self._tables)
            parts: list[bytes] = []
            done = first
            try:
                for chunk_no, birth in tree.differing(content.root, 0, range(first, end)):
                    if chunk_no > done:
                        parts.append(bytes((chunk_no - done) * CHUNK_BYTES))
                    parts.append(tree.chunk(birth, chunk_no))
                    done = chunk_no + 1
            except Rotten as rot:
                raise DataLoss(object_id, max(rot.offset_bytes, first * CHUNK_BYTES)) from rot
        if self._observer is not None:
            self._observer.has_read(length_bytes)
        parts.append(bytes((end - done) * CHUNK_BYTES))
        start = offset_bytes - first * CHUNK_BYTES
        whole = b"".join(parts)
        return whole[start : start + length_bytes] if len(whole) != length_bytes else whole

    def allocated(self, object_id: str, offset_bytes: int, limit_ranges: int) -> list[Range]:
        with self._reading() as txn:
            return self._ranges(txn, object_id, 0, offset_bytes, limit_ranges)

    def changed(
        self, base_snapshot_id: str, object_id: str, offset_bytes: int, limit_ranges: int
    ) -> list[Range]:
        with self._reading() as txn:
            base = Catalogue(txn, self._tables).snapshot_content(base_snapshot_id)
            return self._ranges(txn, object_id, base.root, offset_bytes, limit_ranges)

    def inventory(self) -> Iterator[VolumeEntry | SnapshotEntry | KeyEntry]:
        for page in self._pages("volumes"):
            for key, value in page:
                volume = load(VolumeRecord, value)
                if isinstance(volume, VolumeRecord):
                    yield VolumeEntry(
                        key.decode(), volume.size_bytes, volume.generation, volume.source_snapshot_id
                    )
        for page in self._pages("snapshots"):
            for key, value in page:
                snapshot = load(SnapshotRecord, value)
                if isinstance(snapshot, SnapshotRecord):
                    sealed = snapshot.root_checksum is not None
                    yield SnapshotEntry(
                        key.decode(),
                        snapshot.volume_id,
                        snapshot.size_bytes,
                        snapshot.cut_key,
                        moment(snapshot.cut),
                        sealed,
                    )
        for page in self._pages("keys"):
            for key, value in page:
                record = load_key(value)
                yield KeyEntry(key.decode(), record.kind, moment(record.time))

    def observe(self, observer: Observer) -> None:
        self._observer = self._commits.observer = observer

    def usage(self) -> Usage:
        with self._reading() as txn:
            info = self._env.info()
            return Usage(
                used_bytes=self._tables.used_pages(txn) * self._page_bytes,
                free_bytes=max(0, self._spare_bytes(txn)),
                reclaim_queue_length=len(GarbageQueue(txn, self._tables)),
                file_bytes=(info["last_pgno"] + 1) * self._page_bytes,
                limit_bytes=info["map_size"],
            )

    def scrub(self) -> Iterator[Scrubbed]:
        for page in self._pages("versions"):
            for key, value in page:
                if decode_version(value).state.live:
                    yield from scrub_version(self._reading, self._tables, U64.unpack(key)[0])

    def close(self) -> None:
        with self._idle:
            self._closing.set()
            self._idle.wait_for(lambda: self._readers == 0)
        self._garbage.set()
        if self._reclaimer.is_alive():
            self._reclaimer.join()
        self._opened.close()

    # Inside.

    @contextmanager
    def _reading(self) -> Iterator[Txn]:
        """A read transaction. LMDB's map must not go away under one, so `close` waits for it."""
        with self._idle:
            if self._closing.is_set():
                raise StoreClosed
            self._readers += 1
        try:
            with self._env.begin() as txn:
                yield txn
        finally:
            with self._idle:
                self._readers -= 1
                if self._closing.is_set():
                    self._idle.notify_all()

    def _begin(self, txn: Txn) -> Operations:
        return Operations(txn, self._tables, self._spare_bytes(txn))

    def _spare_bytes(self, txn: Txn) -> int:
        """The room above the reserve: free pages in the file, and what the file may still grow by."""
        info = self._env.info()
        file_bytes = (info["last_pgno"] + 1) * self._page_bytes
        free_bytes = file_bytes - self._tables.used_pages(txn) * self._page_bytes
        disk = os.statvfs(self._folder)
        growth_bytes = min(info["map_size"] - file_bytes, disk.f_bavail * disk.f_frsize)
        return free_bytes + growth_bytes - self._reserve_bytes

    def _ranges(
        self, txn: Txn, object_id: str, base_root: int, offset_bytes: int, limit_ranges: int
    ) -> list[Range]:
        content = Catalogue(txn, self._tables).content(object_id)
        if offset_bytes >= content.size_bytes:
            return []  # the last chunk may reach beyond the size, and beyond the last answer
        first, end = max(0, offset_bytes) // CHUNK_BYTES, -(-content.size_bytes // CHUNK_BYTES)
        runs: list[list[int]] = []
        try:
            found = Tree(txn, self._tables).differing(content.root, base_root, range(first, end))
            for chunk_no, _ in islice(found, _SCAN_CHUNKS):
                if runs and runs[-1][1] == chunk_no:
                    runs[-1][1] += 1
                elif len(runs) == limit_ranges:
                    break
                else:
                    runs.append([chunk_no, chunk_no + 1])
        except Rotten as rot:
            raise DataLoss(object_id, rot.offset_bytes) from rot
        ranges = []
        for start, stop in runs:
            start_bytes = max(offset_bytes, start * CHUNK_BYTES)
            ranges.append(Range(start_bytes, min(content.size_bytes, stop * CHUNK_BYTES) - start_bytes))
        return ranges

    def _pages(self, table: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """A table's records, a page in a transaction."""
        after = b""
        while True:
            with self._reading() as txn, txn.cursor(getattr(self._tables, table)) as cursor:
                more = cursor.set_range(after) if after else cursor.first()
                page = list(islice(cursor.iternext(), _PAGE_RECORDS)) if more else []
            if not page:
                return
            yield page
            after = page[-1][0] + b"\x00"

    def _reclaim_forever(self) -> None:
        while not self._closing.is_set():
            self._garbage.wait()
            self._garbage.clear()
            try:
                while not self._closing.is_set() and self.reclaim(_RECLAIM_KEYS):
                    pass
            except StoreClosed:
                return
            except Exception:  # noqa: BLE001  not worth the thread: what failed stays in the queue
                _log.exception("reclaim failed and will be tried again")
                self._garbage.set()
                self._closing.wait(_RECLAIM_RETRY_SECONDS)


def _forgetting(old: Sequence[tuple[str, bytes]], before: float) -> Callable[[Operations], int]:
    return lambda operations: operations.forget(old, before)


def _check_ids(*ids: str) -> None:
    for given in ids:
        if not 0 < len(given.encode()) <= MAX_ID_BYTES:
            raise ValueError(f"an id or key has 1 to {MAX_ID_BYTES} bytes: {given!r}")


def _check_size(size_bytes: int) -> None:
    if size_bytes <= 0:
        raise ValueError(f"a size is positive: {size_bytes}")


def _check_distinct(ids: Iterator[str]) -> None:
    listed = list(ids)
    if len(set(listed)) != len(listed):
        raise ValueError(f"an id is named twice: {listed}")
