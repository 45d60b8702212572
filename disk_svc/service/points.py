"""The consistency point: one moment for all disks of an instance, the primitive that everything else uses.

Rows first, bytes second, rows last (design.md §5):
1. One transaction gives each disk the task SNAPSHOTTING, counts the slots, and inserts the point (PREPARED) and its
   snapshots (CREATING). Any refusal rolls it all back.
2. One transaction of the block store cuts every disk. Its commit is the moment.
3. The point is CUT.
After a crash in between, the same key resumes at 2 or 3. The undo writes the store's tombstone and drops the cuts, then
the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from disk_svc.blockstore import Cut
from disk_svc.errors import (
    DOMAIN,
    DiskBusy,
    DiskInState,
    DiskNotFound,
    InstanceHasNoDisks,
    SnapshotQuotaExceeded,
    refusal_for,
    refusing,
)
from disk_svc.models import Disk, DiskSnapshot
from disk_svc.repository import disk_rows, hold_rows, snapshot_rows
from disk_svc.service.devices import order_of
from disk_svc.service.realm import Realm
from disk_svc.states import Kind, Role, SnapshotState, Task
from svckit import barrier
from svckit.errors import Refusal, StepWithdrawn, refuse_all
from svckit.ids import new_id


@dataclass(frozen=True, slots=True)
class Member:
    """One disk of a point, and its snapshot."""

    disk_id: str
    disk_name: str
    role: Role
    snapshot_id: str
    size_bytes: int
    device: str


@dataclass(frozen=True, slots=True)
class SealResult:
    """How sealing one snapshot ended: `refusal` is None when it is sealed."""

    disk_id: str
    snapshot_id: str
    refusal: Refusal | None


class Points:
    """Use cases on consistency points."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def check(self, account_id: str, instance_id: str, must_have: str) -> list[Member]:
        """What `create` would cut; refuses with everything that stands against it, and changes nothing."""
        with self._realm.database.read() as session:
            disks = self._disks(session, account_id, instance_id, must_have, lock=False)
            self.refuse_obstacles(session, disks, Kind.MANUAL)
        return _in_order(
            [Member(disk.id, disk.name, disk.role, "", disk.size_bytes, disk.device) for disk in disks]
        )

    def create(
        self,
        key: str,
        operation_id: str,
        *,
        account_id: str,
        instance_id: str,
        must_have: str,
        instance_snapshot_id: str,
        snapshot_name: str,
    ) -> tuple[list[Member], datetime]:
        """Fix the moment. Idempotent by `key`. `must_have`, unless empty, is a disk that must be on the instance.

        spec.md: "Creating an Instance Snapshot simultaneously snapshots the System Disk and all mounted Data Disks of that
        Instance, which are unified under a single Instance Snapshot ID for management."
        """
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                disks = self._disks(session, account_id, instance_id, must_have, lock=True)
                self.prepare(
                    session,
                    key,
                    operation_id,
                    disks,
                    Kind.MANUAL,
                    name=snapshot_name,
                    instance_snapshot_id=instance_snapshot_id,
                )
            snapshots = snapshot_rows.snapshots_of_point(session, key)
            cut_disks = disk_rows.disks_by_id(
                session,
                account_id=account_id,
                region=self._realm.region,
                disk_ids=[snapshot.disk_id for snapshot in snapshots],
                lock=False,
            )
            for snapshot in snapshots:
                if snapshot.disk_id not in cut_disks:
                    raise DiskNotFound(snapshot.disk_id)  # to who repeats the step for another account
        cut_time = self.cut(key, snapshots)
        with self._realm.database.write() as session:
            if not hold_rows.mark_cut(session, key, cut_time):
                raise StepWithdrawn(key)
        members = [
            Member(disk.id, disk.name, disk.role, snapshot.id, snapshot.size_bytes, disk.device)
            for snapshot in snapshots
            for disk in [cut_disks[snapshot.disk_id]]
        ]
        return _in_order(members), cut_time

    def withdraw(self, key: str) -> None:
        """Undo `create`, wherever it stopped. What is finished stays, bytes and rows: that an operation is abandoned may meet a
        `finish` that is on its way, and whichever changes the point's row first has it.
        """
        with self._realm.database.write() as session:
            barrier.withdraw(session, key)
            if not hold_rows.mark_withdrawn(session, key):
                return
        self._realm.store.withdraw_cut(key)
        with self._realm.database.read() as session:
            snapshot_ids = [snapshot.id for snapshot in snapshot_rows.snapshots_of_point(session, key)]
        # By their ids too: a store that has forgotten the key after a month must not keep what the rows below forget.
        self._realm.store.delete_snapshots(snapshot_ids)
        with self._realm.database.write() as session:
            point = hold_rows.find_point(session, key)
            if point is None:
                return
            snapshot_rows.remove_snapshots(session, snapshot_ids)
            disk_rows.clear_tasks(session, point.operation_id, Task.SNAPSHOTTING)
            hold_rows.remove_point(session, key)

    def seal(self, key: str) -> list[SealResult]:
        """Seal every snapshot of the point: sealing is per disk, and where one disk can fail."""
        with self._realm.database.read() as session:
            if hold_rows.find_point(session, key) is None:
                raise StepWithdrawn(key)
            snapshots = snapshot_rows.snapshots_of_point(session, key)
        results = self._realm.store.seal([snapshot.id for snapshot in snapshots])
        return [
            SealResult(snapshot.disk_id, snapshot.id, _definite(error and refusal_for(error, key)))
            for snapshot in snapshots
            for error in [results[snapshot.id]]
        ]

    def finish(self, session: Session, key: str) -> None:
        """All snapshots AVAILABLE and all tasks cleared, in one transaction."""
        point = hold_rows.find_point(session, key)
        snapshot_ids = [snapshot.id for snapshot in snapshot_rows.snapshots_of_point(session, key)]
        if point is None or not hold_rows.finish_point(session, key):
            if point is not None or not snapshot_ids:
                barrier.refuse_withdrawn(session, key)
            return  # finished before
        snapshot_rows.change_snapshots(
            session,
            snapshot_ids,
            allowed=[SnapshotState.CREATING],
            state=SnapshotState.AVAILABLE,
            operation_id="",
        )
        disk_rows.clear_tasks(session, point.operation_id, Task.SNAPSHOTTING)

    # The three parts of `create`, which the snapshot of a single disk uses as well

    def refuse_obstacles(self, session: Session, disks: Sequence[Disk], kind: Kind) -> None:
        """spec.md: "disks in statuses such as "Snapshot in Progress" or "Resize Expansion in Progress" cannot initiate
        Instance Snapshot creation", and "Each CDS disk supports up to 256 Automatic Snapshots and 256 Manual
        Snapshots. Instance Snapshots consume the Manual Snapshot quota."
        """
        limit = self._realm.quotas[kind]
        taken = snapshot_rows.slots_taken(session, [disk.id for disk in disks])
        refusals: list[Refusal] = [DiskBusy(disk) for disk in disks if disk.task]
        refusals += [
            SnapshotQuotaExceeded(disk, kind, used, limit)
            for disk in disks
            for used in [taken.get((disk.id, kind), 0)]
            if used >= limit
        ]
        refuse_all(refusals, DOMAIN)

    def prepare(
        self,
        session: Session,
        key: str,
        operation_id: str,
        disks: Sequence[Disk],
        kind: Kind,
        *,
        name: str,
        instance_snapshot_id: str,
        description: str = "",
        labels: Mapping[str, str] | None = None,
        policy_id: str = "",
        expire_time: datetime | None = None,
    ) -> list[str]:
        """Part 1, for disks that the transaction has locked; returns the snapshots' ids."""
        self.refuse_obstacles(session, disks, kind)
        tasked = disk_rows.set_task(session, [disk.id for disk in disks], Task.SNAPSHOTTING, operation_id)
        assert tasked  # the rows are locked and were just looked at
        hold_rows.add_point(session, key, operation_id, region=self._realm.region)
        rows = [
            {
                "id": new_id("snap"),
                "name": name,
                "description": description,
                "labels": labels or {},
                "account_id": disk.account_id,
                "region": disk.region,
                "disk_id": disk.id,
                "kind": kind,
                "size_bytes": disk.size_bytes,
                "instance_snapshot_id": instance_snapshot_id,
                "point_key": key,
                "operation_id": operation_id,
                "policy_id": policy_id,
                "expire_time": expire_time,
            }
            for disk in disks
        ]
        snapshot_rows.add_snapshots(session, rows)
        return [str(row["id"]) for row in rows]

    def cut(self, key: str, snapshots: Sequence[DiskSnapshot]) -> datetime:
        """Part 2: the moment."""
        if not snapshots:
            raise StepWithdrawn(key)  # finished or withdrawn since this call was sent
        with refusing(key):
            return self._realm.store.cut(key, [Cut(snapshot.disk_id, snapshot.id) for snapshot in snapshots])

    def _disks(
        self, session: Session, account_id: str, instance_id: str, must_have: str, *, lock: bool
    ) -> Sequence[Disk]:
        """spec.md: "the System Disk of the Baidu Cloud Compute Instance must be in the "Running" state, and Data Disks must be
        in the "Mounted" state." What is on an instance is; a task, which hides that, is for `refuse_obstacles`.
        """
        disks = disk_rows.disks_of_instance(
            session, account_id=account_id, region=self._realm.region, instance_id=instance_id, lock=lock
        )
        if must_have and must_have not in {disk.id for disk in disks}:
            # Said alone: what stands against a snapshot of another instance is of no use to who asked.
            moved = disk_rows.find_disk(
                session, account_id=account_id, region=self._realm.region, disk_id=must_have
            )
            if moved is None:
                raise DiskNotFound(must_have)
            raise DiskInState(moved, f"on instance {instance_id}, where it was a moment ago")
        if not disks:
            raise InstanceHasNoDisks(instance_id)
        return disks


def _in_order(members: Sequence[Member]) -> list[Member]:
    return sorted(members, key=lambda member: order_of(member.device))


def _definite(error: Exception | None) -> Refusal | None:
    """Sealing failed for good, or not: anything but a refusal is not known, and the step is tried again."""
    if error is None or isinstance(error, Refusal):
        return error
    raise error
