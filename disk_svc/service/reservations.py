"""Reservations: everything that can refuse a rollback or a deletion is settled, all or none, before the pivot; applying
them later never refuses for a state (design.md §6, law 9).
"""

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.orm import Session

from disk_svc.blockstore import AlreadyUsed, DataLoss, Restore
from disk_svc.errors import (
    DOMAIN,
    DiskBusy,
    DiskInState,
    DiskNotFound,
    SnapshotInState,
    SnapshotInUse,
    SnapshotNotFound,
    refusal_for,
    refusing,
)
from disk_svc.models import Disk, Reservation
from disk_svc.repository import disk_rows, hold_rows, snapshot_rows
from disk_svc.service.realm import Realm, is_on
from disk_svc.states import DELETABLE, Attachment, Purpose, SnapshotState, Task
from svckit import barrier
from svckit.caller import current_caller
from svckit.errors import Refusal, StepWithdrawn, refuse_all
from svckit.mutations import SagaStart


def restore_key(operation_id: str) -> str:
    """Of the one step of a disk's own rollback, and of its reservation."""
    return f"{operation_id}/restore"


class Rollbacks:
    """Disks that go back to one of their snapshots, together."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def start(self, session: Session, operation_id: str, disk_id: str, snapshot_id: str) -> SagaStart:
        """One detached disk, for a saga of this service: the transaction that accepts it is the reservation.

        spec.md: "System Disk snapshots and Data Disk snapshots associated with an Instance Snapshot can be rolled back
        independently."
        """
        target = Restore(disk_id, snapshot_id)
        self._reserve(
            session,
            restore_key(operation_id),
            operation_id,
            account_id=current_caller().account_id,
            instance_id="",
            targets=[target],
        )
        return SagaStart("rollback_disk", disk_id, {"snapshot_id": snapshot_id})

    def end(self, session: Session, operation_id: str) -> None:
        """Of what `start` began, whichever way it ended."""
        self._clear(session, restore_key(operation_id))

    def check(
        self,
        account_id: str,
        instance_id: str,
        targets: Sequence[Restore],
        *,
        attached_only: bool = False,
    ) -> list[str]:
        """As `reserve`, and changes nothing."""
        with self._realm.database.read() as session:
            self._refuse_obstacles(
                session, account_id, instance_id, targets, attached_only=attached_only, lock=False
            )
            return self._untouched(session, account_id, instance_id, targets)

    def reserve(
        self,
        key: str,
        operation_id: str,
        *,
        account_id: str,
        instance_id: str,
        targets: Sequence[Restore],
        attached_only: bool = False,
    ) -> list[str]:
        """Give the disks the task ROLLING_BACK and end their writers; returns the disks of the instance that are not
        among the targets. Idempotent by `key`.
        """
        disk_ids = [target.volume_id for target in targets]
        self._refuse_lost_bytes(account_id, [target.snapshot_id for target in targets])
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                self._reserve(
                    session,
                    key,
                    operation_id,
                    account_id=account_id,
                    instance_id=instance_id,
                    targets=targets,
                    attached_only=attached_only,
                )
            elif hold_rows.find_reservation(session, key) is None:
                raise StepWithdrawn(key)  # applied since this call was sent
            untouched = self._untouched(session, account_id, instance_id, targets)
        self._realm.store.fence(disk_ids)
        return untouched

    def _reserve(
        self,
        session: Session,
        key: str,
        operation_id: str,
        *,
        account_id: str,
        instance_id: str,
        targets: Sequence[Restore],
        attached_only: bool = False,
    ) -> None:
        self._refuse_obstacles(
            session, account_id, instance_id, targets, attached_only=attached_only, lock=True
        )
        disk_ids = [target.volume_id for target in targets]
        tasked = disk_rows.set_task(session, disk_ids, Task.ROLLING_BACK, operation_id)
        assert tasked  # the rows are locked and were just looked at
        hold_rows.add_reservation(
            session,
            key,
            operation_id,
            Purpose.ROLLBACK,
            [{"disk_id": t.volume_id, "snapshot_id": t.snapshot_id} for t in targets],
            region=self._realm.region,
        )

    def withdraw(self, key: str) -> None:
        """Undo `reserve`. The store gets its tombstone before the rows are free: an `apply` that has looked them up already
        must not roll back what somebody writes after this. Disks that have gone back stay so.
        """
        with self._realm.database.write() as session:
            barrier.withdraw(session, key)
        # The key is the restore's own once the disks have gone back: then there are only rows to clear.
        with suppress(AlreadyUsed):
            self._realm.store.withdraw_cut(key)
        with self._realm.database.write() as session:
            self._clear(session, key)

    def apply(self, key: str) -> None:
        """Roll all of them back in one transaction of the store. Raises BytesLost, having changed no disk."""
        with self._realm.database.read() as session:
            reservation = hold_rows.find_reservation(session, key)
            barrier.refuse_withdrawn(session, key)
        if reservation is None:
            return  # applied before
        if reservation.purpose != Purpose.ROLLBACK:
            # What deletes or copies has snapshots too, and no disk of them may go back.
            raise StepWithdrawn(key)
        with refusing(key):
            self._realm.store.restore(
                key, [Restore(target["disk_id"], target["snapshot_id"]) for target in reservation.targets]
            )
        with self._realm.database.write() as session:
            self._clear(session, key)

    def _clear(self, session: Session, key: str) -> None:
        reservation = hold_rows.find_reservation(session, key)
        if reservation is not None and reservation.purpose == Purpose.ROLLBACK:
            disk_rows.clear_tasks(session, reservation.operation_id, Task.ROLLING_BACK)
            hold_rows.remove_reservation(session, key)

    def _refuse_obstacles(
        self,
        session: Session,
        account_id: str,
        instance_id: str,
        targets: Sequence[Restore],
        *,
        attached_only: bool,
        lock: bool,
    ) -> None:
        """spec.md: "all corresponding Data Disks must remain undeleted and in a "Detached" state", and on a stopped
        instance "Data Disks can be mounted or unmounted": a disk that is mounted elsewhere blocks.
        """
        disks = disk_rows.disks_by_id(
            session,
            account_id=account_id,
            region=self._realm.region,
            disk_ids=[target.volume_id for target in targets],
            lock=lock,
        )
        # Locked too, so that none is deleted between this look and the row that marks it as in use.
        snapshots = snapshot_rows.snapshots_by_id(
            session,
            [target.snapshot_id for target in targets],
            account_id=account_id,
            region=self._realm.region,
            lock=lock,
        )
        refusals: list[Refusal] = []
        for target in targets:
            disk = disks.get(target.volume_id)
            snapshot = snapshots.get(target.snapshot_id)
            if disk is None:
                refusals.append(DiskNotFound(target.volume_id))
            else:
                refusals += _obstacles_on(disk, instance_id, attached_only=attached_only)
            if snapshot is None or snapshot.disk_id != target.volume_id:
                refusals.append(SnapshotNotFound(target.snapshot_id, of_disk_id=target.volume_id))
            elif snapshot.state != SnapshotState.AVAILABLE:
                refusals.append(SnapshotInState(snapshot, SnapshotState.AVAILABLE))
        refuse_all(refusals, DOMAIN)

    def _refuse_lost_bytes(self, account_id: str, snapshot_ids: Sequence[str]) -> None:
        """What a snapshot stands on is looked at while the rollback can still be refused; a snapshot that is not there, or is
        another account's, is for the rows to refuse: the store knows of no accounts.
        """
        with self._realm.database.read() as session:
            own = snapshot_rows.snapshots_by_id(
                session, snapshot_ids, account_id=account_id, region=self._realm.region
            )
        for error in self._realm.store.seal([each for each in snapshot_ids if each in own]).values():
            if isinstance(error, DataLoss):
                raise refusal_for(error)

    def _untouched(
        self, session: Session, account_id: str, instance_id: str, targets: Sequence[Restore]
    ) -> list[str]:
        touched = {target.volume_id for target in targets}
        disks = disk_rows.disks_of_instance(
            session, account_id=account_id, region=self._realm.region, instance_id=instance_id, lock=False
        )
        return [disk.id for disk in disks if disk.id not in touched]


def _obstacles_on(disk: Disk, instance_id: str, *, attached_only: bool) -> list[Refusal]:
    refusals: list[Refusal] = []
    if disk.task:
        refusals.append(DiskBusy(disk))
    allowed = [] if attached_only else [Attachment.DETACHED]
    if disk.attachment not in allowed and not is_on(disk, instance_id):
        here = [f"on instance {instance_id}"] if instance_id else []
        refusals.append(DiskInState(disk, ", or ".join([*allowed, *here])))
    return refusals


class Deletions:
    """The members of an instance snapshot, deleted together."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def reserve(self, key: str, operation_id: str, *, account_id: str, instance_snapshot_id: str) -> None:
        """Mark every member DELETING, or none. Idempotent by `key`."""
        with self._realm.database.write() as session:
            if not barrier.enter(session, key):
                return
            members = snapshot_rows.members_of(
                session,
                account_id=account_id,
                region=self._realm.region,
                instance_snapshot_id=instance_snapshot_id,
            )
            member_ids = [member.id for member in members]
            in_use = snapshot_rows.sources_in_use(session, member_ids)
            refusals: list[Refusal] = [
                SnapshotInState(member, " or ".join(DELETABLE))
                for member in members
                if member.state not in DELETABLE
            ]
            refusals += [SnapshotInUse(member_id) for member_id in sorted(in_use)]
            refuse_all(refusals, DOMAIN)
            snapshot_rows.change_snapshots(
                session,
                member_ids,
                allowed=DELETABLE,
                state=SnapshotState.DELETING,
                operation_id=operation_id,
            )
            hold_rows.add_reservation(
                session,
                key,
                operation_id,
                Purpose.DELETION,
                [{"disk_id": member.disk_id, "snapshot_id": member.id} for member in members],
                region=self._realm.region,
            )

    def withdraw(self, key: str) -> None:
        """Undo `reserve`: the members are AVAILABLE again. Once it has begun it is carried out: their bytes may be gone."""
        with self._realm.database.write() as session:
            barrier.withdraw(session, key)
            reservation = hold_rows.find_reservation(session, key)
            if reservation is None or reservation.purpose not in (Purpose.DELETION, Purpose.BEGUN_DELETION):
                return
            begun = not hold_rows.take_deletion_back(session, key)
            if not begun:
                snapshot_rows.change_snapshots(
                    session,
                    [target["snapshot_id"] for target in reservation.targets],
                    allowed=[SnapshotState.DELETING],
                    state=SnapshotState.AVAILABLE,
                    operation_id="",
                )
        if begun:
            self._delete(reservation)

    def apply(self, key: str) -> None:
        """Delete what was marked: bytes, then rows. That it begins is noted first, or an undo that comes now could not tell
        whether the bytes are still there.
        """
        with self._realm.database.write() as session:
            reservation = hold_rows.find_reservation(session, key)
            if not hold_rows.begin_deletion(session, key):
                barrier.refuse_withdrawn(session, key)
                return  # applied before
        assert reservation is not None  # there was a row to change
        self._delete(reservation)

    def _delete(self, reservation: Reservation) -> None:
        snapshot_ids = [target["snapshot_id"] for target in reservation.targets]
        self._realm.store.delete_snapshots(snapshot_ids)
        with self._realm.database.write() as session:
            snapshot_rows.remove_snapshots(session, snapshot_ids)
            hold_rows.remove_reservation(session, reservation.key)
