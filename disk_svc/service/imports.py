"""Imports: snapshots that another region copies to this one, all of a set or none.

Rows first, bytes second, rows last:
1. One transaction inserts the snapshots (CREATING) and their imports (PREPARED), which keep the chosen bases from being
   deleted.
2. The store makes a volume for each; then the imports are RECEIVING, and the other region writes.
3. The store cuts all volumes at once and seals each; the volumes go; one transaction makes all snapshots AVAILABLE and
   ends the imports.
After a crash in between, the same key resumes where it stopped. The undo leaves the store's tombstones and drops the
bytes, then the rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from disk_svc.blockstore import Cut, UnknownObject
from disk_svc.errors import refusal_for, refusing
from disk_svc.models import Import
from disk_svc.repository import import_rows, snapshot_rows
from disk_svc.service import digest
from disk_svc.service.blocks import OpenVolume
from disk_svc.service.realm import Realm
from disk_svc.states import ImportState, Kind, SnapshotState
from svckit import barrier
from svckit.errors import StepWithdrawn


@dataclass(frozen=True, slots=True)
class Delivery:
    """A set of snapshots that another region sends, under the key of its step. They become members of an instance snapshot
    here, or stand alone where that is empty.
    """

    key: str
    operation_id: str
    source_region: str
    account_id: str
    instance_snapshot_id: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """A snapshot to be received; `base_source_ids` are relatives that the other region has, the best base first."""

    snapshot_id: str
    source_snapshot_id: str
    name: str
    description: str
    labels: Mapping[str, str]
    size_bytes: int
    cut_time: datetime
    base_source_ids: Sequence[str]


class Imports:
    """Use cases on imports; `key` names the set."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def begin(self, delivery: Delivery, incoming: Sequence[Incoming]) -> dict[str, str]:
        """Returns, for each snapshot, the relative of the other region whose content is here already, or nothing."""
        key = delivery.key
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                for snapshot in incoming:
                    self._add(session, delivery, snapshot)
            imports = import_rows.imports_of(session, key)
        if not imports:
            raise StepWithdrawn(key)  # finished since this call was sent
        with refusing(key):
            for each in imports:
                if each.state == ImportState.PREPARED:
                    self._realm.store.create_volume(
                        each.volume_id, each.size_bytes, each.base_snapshot_id or None
                    )
        with self._realm.database.write() as session:
            import_rows.mark_receiving(session, key)
        return {each.snapshot_id: each.base_source_snapshot_id for each in imports}

    def open_writer(self, key: str, snapshot_id: str) -> OpenVolume:
        volume_id = self._receiving(key, snapshot_id).volume_id
        with _over_when_gone(key):
            writer = self._realm.store.open_writer(volume_id)
        return OpenVolume(self._realm.store, writer, StepWithdrawn(key))

    def digest(self, key: str, snapshot_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        volume_id = self._receiving(key, snapshot_id).volume_id
        with refusing(key), _over_when_gone(key):
            return digest.sha256(self._realm.store, volume_id, offset_bytes, length_bytes)

    def finish(self, key: str) -> None:
        with self._realm.database.read() as session:
            barrier.refuse_withdrawn(session, key)
            imports = import_rows.imports_of(session, key)
        if not imports:
            return  # finished before
        snapshot_ids = [each.snapshot_id for each in imports]
        with refusing(key), _over_when_gone(key):
            self._realm.store.cut(key, [Cut(each.volume_id, each.snapshot_id) for each in imports])
        for error in self._realm.store.seal(snapshot_ids).values():
            if error is not None:
                raise refusal_for(error, key)
        for each in imports:
            self._realm.store.delete_volume(each.volume_id)
        with self._realm.database.write() as session:
            barrier.refuse_withdrawn(session, key)
            snapshot_rows.change_snapshots(
                session,
                snapshot_ids,
                allowed=[SnapshotState.CREATING],
                state=SnapshotState.AVAILABLE,
                operation_id="",
            )
            import_rows.remove_imports(session, key)

    def withdraw(self, key: str) -> None:
        """Undo `begin` and all that came after it, wherever it stopped. What was finished is not undone: somebody may have
        made a disk from it by now.
        """
        with self._realm.database.write() as session:
            imports = import_rows.imports_of(session, key)
            barrier.withdraw(session, key)
        if not imports:
            return
        snapshot_ids = [each.snapshot_id for each in imports]
        for each in imports:
            self._realm.store.delete_volume(each.volume_id)
        self._realm.store.withdraw_cut(key)
        # By their ids too: a store that has forgotten the key after a month must not keep what the rows below forget.
        self._realm.store.delete_snapshots(snapshot_ids)
        with self._realm.database.write() as session:
            snapshot_rows.remove_snapshots(session, snapshot_ids)
            import_rows.remove_imports(session, key)

    def _add(self, session: Session, delivery: Delivery, incoming: Incoming) -> None:
        """design.md §4: "A snapshot copied from another region has no disk here and takes no quota"."""
        here = import_rows.copies_here(
            session,
            incoming.base_source_ids,
            account_id=delivery.account_id,
            region=self._realm.region,
            source_region=delivery.source_region,
            largest_bytes=incoming.size_bytes,
        )
        base_source_id = next((each for each in incoming.base_source_ids if each in here), "")
        import_rows.add_import(
            session,
            {
                "snapshot_id": incoming.snapshot_id,
                "key": delivery.key,
                "region": self._realm.region,
                "operation_id": delivery.operation_id,
                "source_region": delivery.source_region,
                "volume_id": _volume_of(incoming.snapshot_id),
                "size_bytes": incoming.size_bytes,
                "base_snapshot_id": here[base_source_id].id if base_source_id else "",
                "base_source_snapshot_id": base_source_id,
            },
        )
        snapshot_rows.add_snapshots(
            session,
            [
                {
                    "id": incoming.snapshot_id,
                    "name": incoming.name,
                    "description": incoming.description,
                    "labels": dict(incoming.labels),
                    "account_id": delivery.account_id,
                    "region": self._realm.region,
                    "disk_id": "",
                    "kind": Kind.MANUAL,
                    "size_bytes": incoming.size_bytes,
                    "instance_snapshot_id": delivery.instance_snapshot_id,
                    "point_key": "",
                    "operation_id": delivery.operation_id,
                    "cut_time": incoming.cut_time,
                    "source_region": delivery.source_region,
                    "source_snapshot_id": incoming.source_snapshot_id,
                }
            ],
        )

    def _receiving(self, key: str, snapshot_id: str) -> Import:
        with self._realm.database.read() as session:
            found = import_rows.find_import(session, key, snapshot_id)
        if found is None:
            raise StepWithdrawn(key)
        return found


def _volume_of(snapshot_id: str) -> str:
    return f"import-{snapshot_id}"


@contextmanager
def _over_when_gone(key: str) -> Iterator[None]:
    """An import's volume goes when it is finished or undone."""
    try:
        yield
    except UnknownObject as gone:
        raise StepWithdrawn(key) from gone
