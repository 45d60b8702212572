"""What each change does inside the store's write transaction.

One instance serves one transaction, in which the group commit applies many changes one after the other. Each of them
first checks all it has to check and only then changes anything: a `Refused` leaves the transaction as it was, and the
others in it go on. Anything else that is raised ends the transaction, and the group commit begins again without it.
"""

from collections.abc import Sequence
from dataclasses import replace

from disk_svc.blockstore.catalogue import Catalogue
from disk_svc.blockstore.chunks import Part, Whole, encode
from disk_svc.blockstore.errors import (
    AlreadyUsed,
    DataLoss,
    Fenced,
    OutOfRange,
    OutOfSpace,
    StoreError,
    UnknownSnapshot,
    Withdrawn,
)
from disk_svc.blockstore.garbage import GarbageQueue
from disk_svc.blockstore.interface import Cut, Restore, Writer
from disk_svc.blockstore.layout import Tables, Txn
from disk_svc.blockstore.reclaim import Reclaimer
from disk_svc.blockstore.records import (
    KeyRecord,
    SnapshotRecord,
    Tombstone,
    VolumeRecord,
    dump,
    is_older,
    now,
)
from disk_svc.blockstore.tree import MAX_VOLUME_BYTES, Rotten, WritableTree
from disk_svc.blockstore.versions import State, Versions

_RECORDS_ROOM_BYTES = 4096
"""What the records of one create, cut or seal may take, generously."""


class Operations(Catalogue):
    def __init__(self, txn: Txn, tables: Tables, spare_bytes: int) -> None:
        """`spare_bytes` is the room above the reserve, as the transaction begins."""
        super().__init__(txn, tables)
        self._spare_bytes = spare_bytes
        self._garbage = GarbageQueue(txn, tables)
        self._versions = Versions(txn, tables, self._garbage)
        self._tree = WritableTree(txn, tables, self._garbage)

    @property
    def made_garbage(self) -> bool:
        return self._garbage.grew

    def flush(self) -> None:
        self._tree.flush()

    def create_volume(self, volume_id: str, size_bytes: int, source_snapshot_id: str | None) -> None:
        found = self.find_volume(volume_id)
        if isinstance(found, Tombstone):
            raise Withdrawn(f"{volume_id} was deleted")
        if found:
            if (found.created_size_bytes, found.source_snapshot_id) != (size_bytes, source_snapshot_id):
                raise AlreadyUsed(f"{volume_id} was created with other arguments")
            return
        if isinstance(self.find_snapshot(volume_id), SnapshotRecord):
            raise AlreadyUsed(f"{volume_id} is a snapshot")
        parent = root = 0
        if source_snapshot_id is not None:
            source = self.snapshot(source_snapshot_id)
            if size_bytes < source.size_bytes:
                raise OutOfRange(
                    f"{source_snapshot_id} has {source.size_bytes} bytes, {volume_id} only {size_bytes}"
                )
            parent, root = source.version, self._versions.get(source.version).root
        if size_bytes > MAX_VOLUME_BYTES:
            raise OutOfRange(f"a volume has at most {MAX_VOLUME_BYTES} bytes")
        self._take_room(_RECORDS_ROOM_BYTES)
        version = self._versions.new_head(parent, root, volume_id)
        self._put_volume(volume_id, VolumeRecord(version, size_bytes, 1, size_bytes, source_snapshot_id))

    def resize_volume(self, volume_id: str, size_bytes: int) -> None:
        record = self.volume(volume_id)
        if not record.size_bytes <= size_bytes <= MAX_VOLUME_BYTES:
            raise OutOfRange(f"{volume_id} has {record.size_bytes} bytes and cannot have {size_bytes}")
        self._put_volume(volume_id, replace(record, size_bytes=size_bytes))

    def delete_volume(self, volume_id: str) -> None:
        record = self.find_volume(volume_id)
        if isinstance(record, Tombstone):
            return
        if record:
            self._versions.kill(record.version)
        self._txn.put(volume_id.encode(), dump(Tombstone(now())), db=self._tables.volumes)

    def cut(self, key: str, cuts: Sequence[Cut]) -> float:
        pairs = tuple((cut.volume_id, cut.snapshot_id) for cut in cuts)
        if (known := self._recorded(key, "cut", pairs)) is not None:
            return known.time
        for volume_id, snapshot_id in pairs:
            self.volume(volume_id)
            found = self.find_snapshot(snapshot_id)
            if isinstance(found, Tombstone):
                raise Withdrawn(f"{snapshot_id} was deleted")
            if found or isinstance(self.find_volume(snapshot_id), VolumeRecord):
                raise AlreadyUsed(f"{snapshot_id} exists")
        self._take_room(_RECORDS_ROOM_BYTES * len(pairs))
        time = now()
        for volume_id, snapshot_id in pairs:
            volume = self.volume(volume_id)
            frozen = self._versions.get(volume.version)
            self._versions.put(volume.version, frozen._replace(state=State.SNAPSHOT, owner=snapshot_id))
            head = self._versions.new_head(volume.version, frozen.root, volume_id)
            self._put_volume(volume_id, replace(volume, version=head))
            snapshot = SnapshotRecord(volume.version, volume.size_bytes, volume_id, key, time)
            self._txn.put(snapshot_id.encode(), dump(snapshot), db=self._tables.snapshots)
        self._record(key, KeyRecord("cut", time, pairs))
        return time

    def withdraw_cut(self, key: str) -> None:
        known = self.find_key(key)
        if known and known.kind == "withdrawn":
            return
        if known and known.kind != "cut":
            raise AlreadyUsed(f"{key} is the key of a {known.kind}")
        if known:
            self.delete_snapshots([snapshot_id for _, snapshot_id in known.pairs])
        self._record(key, KeyRecord("withdrawn", now()))

    def seal(self, snapshot_ids: Sequence[str]) -> dict[str, StoreError | None]:
        self._tree.flush()  # a root written in this very transaction is checked as stored, too
        return {snapshot_id: self._seal(snapshot_id) for snapshot_id in snapshot_ids}

    def _seal(self, snapshot_id: str) -> StoreError | None:
        try:
            record = self.snapshot(snapshot_id)
            checksum = self._check_root(snapshot_id, record)
            if record.root_checksum is None:
                self._take_room(_RECORDS_ROOM_BYTES)
        except (DataLoss, UnknownSnapshot, OutOfSpace) as error:
            return error
        if record.root_checksum is None:
            sealed = replace(record, root_checksum=checksum)
            self._txn.put(snapshot_id.encode(), dump(sealed), db=self._tables.snapshots)
        return None

    def _check_root(self, snapshot_id: str, record: SnapshotRecord) -> str:
        """The checksum of the snapshot's root; raises DataLoss when that is not what was sealed."""
        try:
            checksum = self._tree.root_checksum(self._versions.get(record.version).root)
        except Rotten as rot:
            raise DataLoss(snapshot_id, rot.offset_bytes) from rot
        if record.root_checksum not in (None, checksum):
            raise DataLoss(snapshot_id, 0)
        return checksum

    def restore(self, key: str, restores: Sequence[Restore]) -> None:
        pairs = tuple((restore.volume_id, restore.snapshot_id) for restore in restores)
        if self._recorded(key, "restore", pairs):
            return
        sources = [(self.volume(volume_id), self.snapshot(snapshot_id)) for volume_id, snapshot_id in pairs]
        self._tree.flush()  # a root written in this very transaction is checked as stored, too
        for (_, snapshot_id), (_, snapshot) in zip(pairs, sources, strict=True):
            self._check_root(snapshot_id, snapshot)
        for (volume_id, _), (volume, snapshot) in zip(pairs, sources, strict=True):
            self._versions.kill(volume.version)
            root = self._versions.get(snapshot.version).root
            restored = replace(
                volume,
                version=self._versions.new_head(snapshot.version, root, volume_id),
                generation=volume.generation + 1,
                size_bytes=max(volume.size_bytes, snapshot.size_bytes),
            )
            self._put_volume(volume_id, restored)
        self._record(key, KeyRecord("restore", now(), pairs))

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        for snapshot_id in snapshot_ids:
            record = self.find_snapshot(snapshot_id)
            if isinstance(record, Tombstone):
                continue
            if record:
                self._versions.kill(record.version)
            self._txn.put(snapshot_id.encode(), dump(Tombstone(now())), db=self._tables.snapshots)

    def fence(self, volume_ids: Sequence[str]) -> None:
        for volume_id in volume_ids:
            record = self.find_volume(volume_id)
            if isinstance(record, VolumeRecord):
                self._put_volume(volume_id, replace(record, generation=record.generation + 1))

    def write(self, writer: Writer, pieces: Sequence[Whole | Part], end_bytes: int) -> None:
        volume = self.find_volume(writer.volume_id)
        if not isinstance(volume, VolumeRecord) or volume.generation != writer.generation:
            raise Fenced(f"generation {writer.generation} of {writer.volume_id} is over")
        if end_bytes > volume.size_bytes:
            raise OutOfRange(
                f"{writer.volume_id} has {volume.size_bytes} bytes, the write ends at {end_bytes}"
            )
        self._take_room(sum(piece.room_bytes for piece in pieces))
        head = self._versions.head(volume.version)
        old_root = head.root
        try:
            for piece in pieces:
                chunk = piece.chunk if isinstance(piece, Whole) else encode(self._overlay(head.root, piece))
                self._tree.write(head, piece.chunk_no, chunk)
        except Rotten as rot:
            raise DataLoss(writer.volume_id, rot.offset_bytes) from rot
        if head.root != old_root:
            self._versions.put(head.version, self._versions.get(head.version)._replace(root=head.root))

    def reclaim(self, limit_keys: int) -> bool:
        return Reclaimer(self._tree, self._versions, self._garbage).slice(limit_keys)

    def forget(self, tombstones: Sequence[tuple[str, bytes]], before: float) -> int:
        """Each is (table, id), found in an earlier transaction: what has changed since is left alone."""
        forgotten = 0
        for table, object_id in tombstones:
            value = self._txn.get(object_id, db=getattr(self._tables, table))
            if value is not None and is_older(table, value, before):
                forgotten += self._txn.delete(object_id, db=getattr(self._tables, table))
        return forgotten

    def _overlay(self, root: int, part: Part) -> bytes:
        content = self._tree.chunk(self._tree.birth(root, part.chunk_no), part.chunk_no)
        return content[: part.start] + part.data + content[part.start + len(part.data) :]

    def _recorded(self, key: str, kind: str, pairs: tuple[tuple[str, str], ...]) -> KeyRecord | None:
        known = self.find_key(key)
        if known and known.kind == "withdrawn":
            raise Withdrawn(f"{key} was withdrawn")
        if known and (known.kind, known.pairs) != (kind, pairs):
            raise AlreadyUsed(f"{key} is the key of another {known.kind}")
        return known

    def _put_volume(self, volume_id: str, record: VolumeRecord) -> None:
        self._txn.put(volume_id.encode(), dump(record), db=self._tables.volumes)

    def _record(self, key: str, record: KeyRecord) -> None:
        self._txn.put(key.encode(), dump(record), db=self._tables.keys)

    def _take_room(self, size_bytes: int) -> None:
        if size_bytes > self._spare_bytes:
            raise OutOfSpace(f"{size_bytes} bytes asked for, {max(0, self._spare_bytes)} above the reserve")
        self._spare_bytes -= size_bytes
