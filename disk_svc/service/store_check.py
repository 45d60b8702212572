"""Compares the block store with the rows, in both directions.

"The block store holds nothing that no row names" (design.md §6), and every row that is at rest has its bytes. Things come
and go meanwhile, so a difference counts only when it is still there at a second look.
"""

from collections.abc import Iterator
from itertools import islice

from disk_svc.blockstore import BlockStore, SnapshotEntry, VolumeEntry
from disk_svc.blockstore.errors import UnknownObject
from disk_svc.repository import disk_rows, resource_rows, snapshot_rows
from disk_svc.service.realm import Realm
from disk_svc.states import SnapshotState, Task

_AT_ONCE = 500


def differences(realm: Realm) -> Iterator[tuple[str, str]]:
    """Object id and problem, in a sentence, of every difference."""
    yield from _bytes_without_row(realm)
    yield from _disks_without_bytes(realm)
    yield from _snapshots_without_bytes(realm)


def _bytes_without_row(realm: Realm) -> Iterator[tuple[str, str]]:
    entries = realm.store.inventory()
    while batch := list(islice(entries, _AT_ONCE)):
        ids = {_id_of(entry) for entry in batch if isinstance(entry, VolumeEntry | SnapshotEntry)}
        with realm.database.read() as session:
            unnamed = ids - resource_rows.known_ids(session, ids)
        for object_id in sorted(unnamed):
            with realm.database.read() as session:
                named = resource_rows.known_ids(session, [object_id])
            if not named and _size(realm.store, object_id) is not None:
                yield object_id, "the store holds bytes that no row names"


def _id_of(entry: VolumeEntry | SnapshotEntry) -> str:
    return entry.volume_id if isinstance(entry, VolumeEntry) else entry.snapshot_id


def _disks_without_bytes(realm: Realm) -> Iterator[tuple[str, str]]:
    last = ""
    while True:
        with realm.database.read() as session:
            disks = disk_rows.disks_after(session, last, _AT_ONCE, region=realm.region)
        if not disks:
            return
        last = disks[-1].id
        for disk in disks:
            if disk.task != Task.NONE or _size(realm.store, disk.id) == disk.size_bytes:
                continue
            with realm.database.read() as session:
                again = disk_rows.find_disk(
                    session, account_id=disk.account_id, region=disk.region, disk_id=disk.id
                )
            if (
                again is not None
                and again.task == Task.NONE
                and _size(realm.store, disk.id) != again.size_bytes
            ):
                yield disk.id, f"the disk's row says {again.size_bytes} bytes, which the store does not have"


def _snapshots_without_bytes(realm: Realm) -> Iterator[tuple[str, str]]:
    last = ""
    while True:
        with realm.database.read() as session:
            snapshots = snapshot_rows.snapshots_after(session, last, _AT_ONCE, region=realm.region)
        if not snapshots:
            return
        last = snapshots[-1].id
        for snapshot in snapshots:
            if (
                snapshot.state != SnapshotState.AVAILABLE
                or _size(realm.store, snapshot.id) == snapshot.size_bytes
            ):
                continue
            with realm.database.read() as session:
                again = snapshot_rows.find_snapshot(
                    session, account_id=snapshot.account_id, region=snapshot.region, snapshot_id=snapshot.id
                )
            if again is not None and again.state == SnapshotState.AVAILABLE:
                yield (
                    snapshot.id,
                    f"the snapshot's row says {again.size_bytes} bytes, which the store does not have",
                )


def _size(store: BlockStore, object_id: str) -> int | None:
    try:
        return store.size_bytes(object_id)
    except UnknownObject:
        return None
