"""Copies of snapshots to another region: what is copied, and what is kept from being deleted meanwhile.

The reservation is made by the transaction that accepts the saga. At first it names the relatives too that the other region
may have a copy of, and may choose as the base: once the choice is known it keeps only that one.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc.errors import DOMAIN, SnapshotInState, SnapshotNotFound
from disk_svc.models import DiskSnapshot
from disk_svc.repository import hold_rows, import_rows, snapshot_rows
from disk_svc.service.realm import Realm
from disk_svc.states import Purpose, SnapshotState
from svckit import barrier
from svckit.caller import Caller, current_caller
from svckit.errors import OperationNotFound, Refusal, refuse_all
from svckit.ids import new_id
from svckit.mutations import SagaStart
from svckit.peers import Peers
from svckit.saga import Run, SagaEngine, journal
from svckit.saga.journal import Saga

COPY_KIND = "copy_disk_snapshot"
_MOST_RELATIVES = 32


class Copies:
    """Use cases on copies."""

    def __init__(self, realm: Realm, peers: Peers) -> None:
        self._realm = realm
        self._peers = peers

    def start(
        self, session: Session, operation_id: str, snapshot_id: str, region: str, name: str
    ) -> SagaStart:
        """spec.md: "You can still perform corresponding operations on the disk Snapshot, such as creating a new CDS disk,
        rolling back or cross-region replication, etc."
        """
        return self.start_all(
            session,
            operation_id,
            account_id=current_caller().account_id,
            region=region,
            resource_id=snapshot_id,
            copy_ids={snapshot_id: new_id("snap")},
            name=name,
        )

    def start_all(
        self,
        session: Session,
        operation_id: str,
        *,
        account_id: str,
        region: str,
        resource_id: str,
        copy_ids: Mapping[str, str],
        name: str,
        copy_instance_snapshot_id: str = "",
    ) -> SagaStart:
        """`copy_ids` are the ids of the copies by those of the snapshots. An empty name gives each its snapshot's."""
        self._peers.must_know(region)  # a region that is not known is refused before anything else
        relatives = self._relatives(session, account_id, copy_ids)
        ids = {*copy_ids, *(each for those in relatives.values() for each in those)}
        # Locked, so that none is deleted between this look and the row that marks it as in use.
        found = snapshot_rows.snapshots_by_id(
            session, ids, account_id=account_id, region=self._realm.region, lock=True
        )
        _refuse_obstacles(copy_ids, found)
        available = {each.id for each in found.values() if each.state == SnapshotState.AVAILABLE}
        hold_rows.add_reservation(
            session,
            _reservation_key(operation_id),
            operation_id,
            Purpose.COPY,
            [_target(each) for each in found.values() if each.id in available],
            region=self._realm.region,
        )
        arguments = {
            "region": region,
            "copy_instance_snapshot_id": copy_instance_snapshot_id,
            "snapshots": [
                {
                    **_described(found[snapshot_id]),
                    "copy_snapshot_id": copy_id,
                    "name": name or found[snapshot_id].name,
                    "relatives": [each for each in relatives[snapshot_id] if each in available],
                }
                for snapshot_id, copy_id in copy_ids.items()
            ],
        }
        return SagaStart(COPY_KIND, resource_id, arguments)

    def keep_bases(self, session: Session, run: Run) -> None:
        """The choice is made: the other relatives may go."""
        kept = {*run.data["bases"], *(snapshot["snapshot_id"] for snapshot in run.input["snapshots"])}
        reservation = hold_rows.find_reservation(session, _reservation_key(run.id))
        assert reservation is not None  # only this saga takes it away
        hold_rows.narrow_reservation(
            session,
            reservation.key,
            [target for target in reservation.targets if target["snapshot_id"] in kept],
        )

    def release(self, run: Run) -> None:
        with self._realm.database.write() as session:
            self.end(session, run.id)

    def end(self, session: Session, operation_id: str) -> None:
        hold_rows.remove_reservation(session, _reservation_key(operation_id))

    def _relatives(
        self, session: Session, account_id: str, snapshot_ids: Collection[str]
    ) -> dict[str, list[str]]:
        found = snapshot_rows.snapshots_by_id(
            session, snapshot_ids, account_id=account_id, region=self._realm.region
        )
        return {
            snapshot.id: import_rows.relatives(session, snapshot, _MOST_RELATIVES)
            for snapshot in found.values()
        }


class MemberCopies:
    """The members of an instance snapshot, copied together as an operation of this service."""

    def __init__(self, copies: Copies, engine: SagaEngine) -> None:
        self._copies = copies
        self._engine = engine

    def start(
        self,
        key: str,
        asking_operation_id: str,
        *,
        account_id: str,
        region: str,
        instance_snapshot_id: str,
        copy_ids: Mapping[str, str],
        name: str,
        copy_instance_snapshot_id: str,
    ) -> str:
        """Returns the operation. Idempotent by `key`."""
        database = self._engine.database
        operation_id = new_id(self._engine.operation_prefix)
        with barrier.refusal_is_final(database, key), database.write() as session:
            if not barrier.enter(session, key):
                [started_before] = barrier.kept_result(session, key)
                return started_before
            start = self._copies.start_all(
                session,
                operation_id,
                account_id=account_id,
                region=region,
                resource_id=instance_snapshot_id,
                copy_ids=copy_ids,
                name=name,
                copy_instance_snapshot_id=copy_instance_snapshot_id,
            )
            saga = self._engine.accept(
                session,
                start.kind,
                operation_id=operation_id,
                caller=Caller(account_id, asking_operation_id),
                resource_id=start.resource_id,
                arguments=start.arguments,
            )
            barrier.keep_result(session, key, [operation_id])
        self._engine.begin(saga)
        return operation_id

    def find(self, operation_id: str) -> Saga:
        with self._engine.database.read() as session:
            saga = journal.find(session, operation_id, region=self._engine.region)
        if saga is None or saga.kind != COPY_KIND:
            raise OperationNotFound(operation_id)
        return saga


def _refuse_obstacles(snapshot_ids: Iterable[str], found: Mapping[str, DiskSnapshot]) -> None:
    refusals: list[Refusal] = []
    for snapshot_id in snapshot_ids:
        snapshot = found.get(snapshot_id)
        if snapshot is None:
            refusals.append(SnapshotNotFound(snapshot_id))
        elif snapshot.state != SnapshotState.AVAILABLE:
            refusals.append(SnapshotInState(snapshot, SnapshotState.AVAILABLE))
    refuse_all(refusals, DOMAIN)


def _reservation_key(operation_id: str) -> str:
    return f"{operation_id}/begin"


def _described(snapshot: DiskSnapshot) -> dict[str, Any]:
    assert snapshot.cut_time is not None  # it is AVAILABLE
    return {
        "snapshot_id": snapshot.id,
        "description": snapshot.description,
        "labels": snapshot.labels,
        "size_bytes": snapshot.size_bytes,
        "cut_time": snapshot.cut_time.isoformat(),
    }


def _target(snapshot: DiskSnapshot) -> dict[str, str]:
    return {"disk_id": snapshot.disk_id, "snapshot_id": snapshot.id}
