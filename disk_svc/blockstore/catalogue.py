"""What exists, as one transaction sees it: volumes and snapshots by id."""

from dataclasses import dataclass

from disk_svc.blockstore.errors import UnknownObject, UnknownSnapshot, UnknownVolume
from disk_svc.blockstore.layout import U64, Tables, Txn
from disk_svc.blockstore.records import (
    KeyRecord,
    SnapshotRecord,
    Tombstone,
    VolumeRecord,
    load,
    load_key,
)
from disk_svc.blockstore.versions import decode_version


@dataclass(frozen=True, slots=True)
class Content:
    """Where an object's bytes are."""

    root: int
    size_bytes: int


class Catalogue:
    def __init__(self, txn: Txn, tables: Tables) -> None:
        self._txn = txn
        self._tables = tables

    def find_volume(self, volume_id: str) -> VolumeRecord | Tombstone | None:
        value = self._txn.get(volume_id.encode(), db=self._tables.volumes)
        return load(VolumeRecord, value) if value is not None else None

    def find_snapshot(self, snapshot_id: str) -> SnapshotRecord | Tombstone | None:
        value = self._txn.get(snapshot_id.encode(), db=self._tables.snapshots)
        return load(SnapshotRecord, value) if value is not None else None

    def find_key(self, key: str) -> KeyRecord | None:
        value = self._txn.get(key.encode(), db=self._tables.keys)
        return load_key(value) if value is not None else None

    def volume(self, volume_id: str) -> VolumeRecord:
        record = self.find_volume(volume_id)
        if not isinstance(record, VolumeRecord):
            raise UnknownVolume(volume_id)
        return record

    def snapshot(self, snapshot_id: str) -> SnapshotRecord:
        record = self.find_snapshot(snapshot_id)
        if not isinstance(record, SnapshotRecord):
            raise UnknownSnapshot(snapshot_id)
        return record

    def content(self, object_id: str) -> Content:
        record = self.find_volume(object_id)
        if not isinstance(record, VolumeRecord):
            found = self.find_snapshot(object_id)
            if not isinstance(found, SnapshotRecord):
                raise UnknownObject(object_id)
            return Content(self._root(found.version), found.size_bytes)
        return Content(self._root(record.version), record.size_bytes)

    def snapshot_content(self, snapshot_id: str) -> Content:
        record = self.snapshot(snapshot_id)
        return Content(self._root(record.version), record.size_bytes)

    def _root(self, version: int) -> int:
        return decode_version(self._txn.get(U64.pack(version), b"", db=self._tables.versions)).root
