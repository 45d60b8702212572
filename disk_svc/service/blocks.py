"""The bytes of disks and snapshots: what may be read and written, and where from."""

from concurrent.futures import Future
from dataclasses import dataclass

from disk_svc.blockstore import BlockStore, Extent, Range, Writer
from disk_svc.blockstore import errors as store_errors
from disk_svc.errors import DiskBusy, RangeBeyondEnd, SnapshotInState, WriterFenced, refusal_for, refusing
from disk_svc.models import Disk
from disk_svc.service.disks import Disks
from disk_svc.service.realm import Realm
from disk_svc.service.snapshots import Snapshots
from disk_svc.states import BLOCKS_IO, SnapshotState
from svckit.errors import Refusal

PIECE_BYTES = 1 << 20
_RANGES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a range; `data` is empty when all of it reads zero."""

    offset_bytes: int
    length_bytes: int
    data: bytes


class RangeReader:
    """Reads a range piece by piece, holes without touching a byte. Each call of `next` is one consistent read."""

    def __init__(self, store: BlockStore, object_id: str, offset_bytes: int, end_bytes: int) -> None:
        self._store = store
        self._object_id = object_id
        self._position = offset_bytes
        self._end = end_bytes
        self._ranges: list[Range] = []

    def next(self) -> Piece | None:
        """None at the end."""
        if self._position >= self._end:
            return None
        with refusing():
            start = self._position
            stored = self._stored_at_or_after(start)
            if stored is None or stored.offset_bytes >= self._end:
                self._position = self._end
                return Piece(start, self._end - start, b"")
            if stored.offset_bytes > start:
                self._position = stored.offset_bytes
                return Piece(start, stored.offset_bytes - start, b"")
            self._position = min(start + PIECE_BYTES, stored.end_bytes, self._end)
            data = self._store.read(self._object_id, start, self._position - start)
        return Piece(start, len(data), data)

    def _stored_at_or_after(self, position: int) -> Range | None:
        while self._ranges and self._ranges[0].end_bytes <= position:
            self._ranges.pop(0)
        if not self._ranges:
            self._ranges = list(self._store.allocated(self._object_id, position, _RANGES_AT_ONCE))
        return self._ranges[0] if self._ranges else None


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """A volume that a stream may write to; `when_over` is what a write hears that comes after the end of that."""

    store: BlockStore
    writer: Writer
    when_over: Refusal

    @property
    def volume_id(self) -> str:
        return self.writer.volume_id

    def write(self, extents: list[Extent]) -> Future[None]:
        return self.store.write(self.writer, extents)

    def refusal_for(self, error: store_errors.StoreError) -> Exception:
        """What the sender sees of a write that failed."""
        match error:
            case store_errors.Fenced() | store_errors.UnknownVolume():
                return self.when_over
            case store_errors.OutOfRange():
                with refusing():
                    return RangeBeyondEnd(self.store.size_bytes(self.volume_id))
            case _:
                return refusal_for(error)


class Blocks:
    """Use cases on bytes."""

    def __init__(self, realm: Realm, disks: Disks, snapshots: Snapshots) -> None:
        self._realm = realm
        self._disks = disks
        self._snapshots = snapshots

    def open_disk_reader(self, disk_id: str, offset_bytes: int, length_bytes: int) -> RangeReader:
        disk = self._free_for_io(disk_id)
        return self._reader(disk_id, disk.size_bytes, offset_bytes, length_bytes)

    def open_snapshot_reader(self, snapshot_id: str, offset_bytes: int, length_bytes: int) -> RangeReader:
        with self._realm.database.read() as session:
            snapshot = self._snapshots.get(session, snapshot_id)
        if snapshot.state != SnapshotState.AVAILABLE:
            raise SnapshotInState(snapshot, SnapshotState.AVAILABLE)
        return self._reader(snapshot_id, snapshot.size_bytes, offset_bytes, length_bytes)

    def _reader(self, object_id: str, size_bytes: int, offset_bytes: int, length_bytes: int) -> RangeReader:
        end = offset_bytes + length_bytes if length_bytes else size_bytes
        if offset_bytes > size_bytes or end > size_bytes:
            raise RangeBeyondEnd(size_bytes)
        return RangeReader(self._realm.store, object_id, offset_bytes, end)

    def open_writer(self, disk_id: str) -> OpenVolume:
        """The fence is taken before the row is looked at for good: a reservation that commits after that look raises the
        store's generation after it too, so what this writer sends is refused. The first look is for the answer: the
        store does not know a disk that is still being made.
        """
        self._free_for_io(disk_id)
        with refusing():
            writer = self._realm.store.open_writer(disk_id)
        self._free_for_io(disk_id)
        return OpenVolume(self._realm.store, writer, WriterFenced(disk_id))

    def _free_for_io(self, disk_id: str) -> Disk:
        with self._realm.database.read() as session:
            disk = self._disks.get(session, disk_id)
        if disk.task in BLOCKS_IO:
            raise DiskBusy(disk)
        return disk
