"""One disk's snapshot at a slot of a policy: first room is made for it, then it is taken.

A disk that an operation works on is waited for, before anything is deleted. What is deleted is marked first, its bytes
go second and its rows last, so that a row names bytes until the store has taken them over.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from disk_svc.errors import DiskBusy, PolicyNotFound, SnapshotQuotaExceeded
from disk_svc.models import AutoSnapshotPolicy, Disk, DiskSnapshot
from disk_svc.repository import policy_rows, snapshot_rows
from disk_svc.service.disks import Disks
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.states import Kind, SnapshotState
from svckit import barrier
from svckit.calls import Unanswered
from svckit.clock import Clock

KIND = "take_automatic_snapshot"


class AutomaticSnapshots:
    """Use cases of the saga that takes one."""

    def __init__(self, realm: Realm, disks: Disks, points: Points, clock: Clock) -> None:
        self._realm = realm
        self._disks = disks
        self._points = points
        self._clock = clock

    def prune(
        self,
        key: str,
        operation_id: str,
        *,
        account_id: str,
        disk_id: str,
        policy_id: str,
    ) -> int:
        """Delete what the policy need not keep of the disk any more; returns how many that were. Idempotent by `key`.

        The policy counts as it is now: the disk may have been waited for, and somebody may have wanted to keep more.
        """
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                policy = self._policy_with(session, account_id, policy_id, disk_id)
                disk = self._free_disk(session, account_id, disk_id)
                taken = policy_rows.snapshots_taken(session, policy_id=policy_id, disk_id=disk_id)
                doomed = self._not_to_keep(session, taken, policy)
                self._refuse_full(session, disk, len(doomed))
                snapshot_rows.change_snapshots(
                    session,
                    doomed,
                    allowed=[SnapshotState.AVAILABLE],
                    state=SnapshotState.DELETING,
                    operation_id=operation_id,
                )
                barrier.keep_result(session, key, doomed)
        return self._delete_pruned(key)

    def end_pruning(self, key: str) -> None:
        """Undo `prune`, as far as that can be: nothing more is begun, and what is half deleted is deleted."""
        with self._realm.database.write() as session:
            barrier.withdraw(session, key)
        self._delete_pruned(key)

    def take(
        self, key: str, operation_id: str, *, account_id: str, disk_id: str, policy_id: str, name: str
    ) -> tuple[str, datetime]:
        """Fix the moment; returns the snapshot's id, too. Idempotent by `key`; undone by Points.withdraw."""
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                self._points.prepare(
                    session,
                    key,
                    operation_id,
                    [self._free_disk(session, account_id, disk_id)],
                    Kind.AUTOMATIC,
                    name=name,
                    instance_snapshot_id="",
                    policy_id=policy_id,
                )
            snapshots = snapshot_rows.snapshots_of_point(session, key)
        cut_time = self._points.cut(key, snapshots)
        return snapshots[0].id, cut_time

    def _delete_pruned(self, key: str) -> int:
        with self._realm.database.read() as session:
            pruned = barrier.kept_result(session, key)
        self._realm.store.delete_snapshots(pruned)
        with self._realm.database.write() as session:
            snapshot_rows.remove_snapshots(session, pruned)
        return len(pruned)

    def _free_disk(self, session: Session, account_id: str, disk_id: str) -> Disk:
        disk = self._disks.get(session, disk_id, account_id=account_id, lock=True)
        if disk.task:
            raise Unanswered(DiskBusy(disk).message)  # tried again, until the saga's deadline
        return disk

    def _policy_with(
        self, session: Session, account_id: str, policy_id: str, disk_id: str
    ) -> AutoSnapshotPolicy:
        """Locked, before the disk is, as by the scheduler."""
        policy = policy_rows.find(
            session, account_id=account_id, region=self._realm.region, policy_id=policy_id, lock=True
        )
        if policy is None or disk_id not in {disk.disk_id for disk in policy.disks}:
            raise PolicyNotFound(policy_id, without_disk_id="" if policy is None else disk_id)
        return policy

    def _not_to_keep(
        self, session: Session, taken: Sequence[DiskSnapshot], policy: AutoSnapshotPolicy
    ) -> list[str]:
        """`taken` is oldest first. What is in use as a source right now is left for the next slot."""
        if policy.retention_count is not None:
            # One less: the new one is still to come.
            old = [snapshot.id for snapshot in taken[: max(0, len(taken) - policy.retention_count + 1)]]
        elif policy.retention_days is not None:
            oldest = self._clock() - timedelta(days=policy.retention_days)
            old = [snapshot.id for snapshot in taken if snapshot.create_time < oldest]
        else:
            return []
        in_use = snapshot_rows.sources_in_use(session, old)
        return [snapshot_id for snapshot_id in old if snapshot_id not in in_use]

    def _refuse_full(self, session: Session, disk: Disk, freed: int) -> None:
        """Before anything is deleted for a snapshot that would not fit in all the same."""
        used = snapshot_rows.slots_taken(session, [disk.id]).get((disk.id, Kind.AUTOMATIC), 0)
        limit = self._realm.quotas[Kind.AUTOMATIC]
        if used - freed >= limit:
            raise SnapshotQuotaExceeded(disk, Kind.AUTOMATIC, used, limit)
