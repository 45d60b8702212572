"""What operations hold here, and how it is ended when they are abandoned: tasks, points, reservations, disks that are being
made, copies that were begun for them, and what is being received from another region.

It is ended by the undo of each step, which a saga would call: so a call that comes late, or is in the middle of it, is
refused or undone as after any other undo. What has no undo, or has begun to delete, is carried out.
"""

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.orm import Session

from disk_svc.models import Reservation
from disk_svc.repository import disk_rows, hold_rows, import_rows, snapshot_rows
from disk_svc.service.disks import Disks
from disk_svc.service.imports import Imports
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Deletions, Rollbacks
from disk_svc.states import Purpose, Task
from svckit import barrier
from svckit.abandonment import Hold
from svckit.caller import current_caller
from svckit.errors import OperationEnded
from svckit.saga import SagaEngine, journal

_STEPS = ("create_disks", "release_disks", "attach", "detach", "cut", "reserve", "start", "begin", "prune")
"""Whatever has a key here, of the sagas of compute_svc, of snapshot_svc, of another region's disk_svc and of this one."""


class HeldHere:
    """svckit.abandonment.Holds."""

    def __init__(
        self,
        realm: Realm,
        engine: SagaEngine,
        *,
        disks: Disks,
        points: Points,
        rollbacks: Rollbacks,
        deletions: Deletions,
        imports: Imports,
    ) -> None:
        self._realm = realm
        self._engine = engine
        self._disks = disks
        self._points = points
        self._rollbacks = rollbacks
        self._deletions = deletions
        self._imports = imports

    def held_for(self, session: Session, operation_id: str) -> Sequence[Hold]:
        region = self._realm.region
        rows = hold_rows.holds_of(session, operation_id, region=region)
        copies = [
            saga
            for saga_id in journal.unfinished_of(session, operation_id, region=region)
            if (saga := journal.find(session, saga_id, region=region)) is not None
        ]
        accounts = [
            *(row.account_id for row in rows if row.account_id),
            *(saga.account_id for saga in copies),
        ]
        account_id = (
            accounts[0] if accounts else current_caller().account_id
        )  # all are of the operation's account
        return [
            *(Hold(row.kind, row.resource_id, account_id) for row in rows),
            *(Hold("operation", saga.id, account_id) for saga in copies),
        ]

    def forestall(self, session: Session, operation_id: str) -> None:
        for step in _STEPS:
            barrier.forestall(session, f"{operation_id}/{step}")

    def let_go(self, operation_id: str) -> None:
        with self._realm.database.read() as session:
            saga = journal.find(session, operation_id, region=self._realm.region)
            copies = journal.unfinished_of(session, operation_id, region=self._realm.region)
            creating = disk_rows.disks_with_task(session, operation_id, Task.CREATING)
            resizing = disk_rows.disks_with_task(session, operation_id, Task.RESIZING)
            points = hold_rows.points_of(session, operation_id)
            reservations = hold_rows.reservations_of(session, operation_id)
            imports = import_rows.keys_of(session, operation_id)
        for copy_id in copies:
            self._abandon(copy_id, operation_id)
        if creating:
            self._disks.withdraw_for_instance(f"{operation_id}/create_disks", [disk.id for disk in creating])
        for disk in resizing:
            self._disks.carry_resize_out(disk, saga.input["size_bytes"] if saga else disk.size_bytes)
        for point in points:
            self._points.withdraw(point.key)
        for reservation in reservations:
            self._end(reservation)
        for key in imports:
            self._imports.withdraw(key)
        self._disks.end_release(f"{operation_id}/release_disks", operation_id)
        self._disks.end_detach(f"{operation_id}/detach")
        self._delete_doomed(operation_id)

    def _delete_doomed(self, operation_id: str) -> None:
        """Snapshots that no reservation has: each was to go for itself, and some of them may be gone."""
        with self._realm.database.read() as session:
            doomed = snapshot_rows.doomed_by(session, operation_id)
        self._realm.store.delete_snapshots(doomed)
        with self._realm.database.write() as session:
            snapshot_rows.remove_snapshots(session, doomed)

    def _abandon(self, copy_id: str, operation_id: str) -> None:
        """A copy is an operation of this service, and no other step of it is taken here than its own."""
        with suppress(OperationEnded):  # between the look and now
            self._engine.abandon(
                copy_id,
                actor=current_caller().subject,
                why=f"operation {operation_id}, which had asked for it, was abandoned",
                once_taken=lambda: None,
            )

    def _end(self, reservation: Reservation) -> None:
        match reservation.purpose:
            case Purpose.ROLLBACK:
                self._rollbacks.withdraw(reservation.key)
            case Purpose.DELETION | Purpose.BEGUN_DELETION:
                self._deletions.withdraw(reservation.key)
            case _:
                # Of a copy that this service has no saga of any more.
                with self._realm.database.write() as session:
                    hold_rows.remove_reservation(session, reservation.key)
