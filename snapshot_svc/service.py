"""The use cases of snapshot_svc. Each runs in a transaction that its caller holds, and refuses by raising."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc import repository
from snapshot_svc.errors import (
    DisksNotMembers,
    InstanceSnapshotCopied,
    InstanceSnapshotInState,
    InstanceSnapshotNotFound,
)
from snapshot_svc.models import InstanceSnapshot
from snapshot_svc.states import CAN_BE_COPIED, CAN_BE_DELETED, CAN_ROLL_BACK, State
from svckit.caller import current_caller
from svckit.clock import Clock
from svckit.ids import new_id
from svckit.mutations import SagaStart
from svckit.peers import Peers
from svckit.validation import must_be_ahead


class SnapshotService:
    """Instance snapshots of one region.

    spec.md: "Just like disk snapshots, Instance Snapshots are region-specific."
    """

    def __init__(self, region: str, peers: Peers, clock: Clock) -> None:
        self._region = region
        self._peers = peers
        self._clock = clock

    def get(
        self,
        session: Session,
        instance_snapshot_id: str,
        account_id: str | None = None,
        *,
        lock: bool = False,
    ) -> InstanceSnapshot:
        snapshot = repository.find(
            session,
            account_id=account_id or current_caller().account_id,
            region=self._region,
            instance_snapshot_id=instance_snapshot_id,
            lock=lock,
        )
        if snapshot is None:
            raise InstanceSnapshotNotFound(instance_snapshot_id)
        return snapshot

    def create(
        self,
        session: Session,
        operation_id: str,
        *,
        instance_id: str,
        disk_id: str,
        name: str,
        description: str,
        labels: Mapping[str, str],
        expire_time: datetime | None,
    ) -> SagaStart:
        """Of an instance, or of the one that a disk is on; the other id is empty."""
        self.check_expiry(expire_time)
        instance_snapshot_id = new_id("isnap")
        repository.add(
            session,
            id=instance_snapshot_id,
            name=name,
            description=description,
            labels=labels,
            account_id=current_caller().account_id,
            region=self._region,
            instance_id=instance_id,
            operation_id=operation_id,
            expire_time=expire_time,
        )
        return SagaStart(
            "create_instance_snapshot_from_disk" if disk_id else "create_instance_snapshot",
            instance_snapshot_id,
            {"instance_id": instance_id, "disk_id": disk_id, "name": name},
        )

    def check_expiry(self, expire_time: datetime | None) -> None:
        must_be_ahead("expire_time", expire_time, self._clock())

    def update(
        self, session: Session, instance_snapshot_id: str, changes: Mapping[str, Any]
    ) -> InstanceSnapshot:
        """What it is called and labelled, and when it expires: allowed in every state, because no operation depends on it."""
        must_be_ahead("instance_snapshot.expire_time", changes.get("expire_time"), self._clock())
        if not repository.describe(
            session,
            account_id=current_caller().account_id,
            region=self._region,
            instance_snapshot_id=instance_snapshot_id,
            changes=changes,
        ):
            raise InstanceSnapshotNotFound(instance_snapshot_id)
        return self.get(session, instance_snapshot_id)

    def roll_back(
        self, session: Session, operation_id: str, instance_snapshot_id: str, disk_ids: Collection[str]
    ) -> SagaStart:
        """All members, or those of the disks that are named."""
        _refuse_copy(self.get(session, instance_snapshot_id))
        snapshot = self._take(session, operation_id, instance_snapshot_id, CAN_ROLL_BACK)
        # Its state may have changed between the look and the UPDATE, which is what holds it from now on.
        session.refresh(snapshot)
        arguments = rollback_arguments(snapshot, disk_ids)
        return SagaStart("rollback_instance_snapshot", instance_snapshot_id, arguments)

    def check_roll_back(self, session: Session, instance_snapshot_id: str) -> InstanceSnapshot:
        """Refuse as `roll_back` would, and change nothing."""
        snapshot = self.get(session, instance_snapshot_id)
        _refuse_copy(snapshot)
        if snapshot.state not in CAN_ROLL_BACK or snapshot.operation_id:
            raise InstanceSnapshotInState(snapshot.id, snapshot.state, snapshot.operation_id, CAN_ROLL_BACK)
        return snapshot

    def delete(self, session: Session, operation_id: str, instance_snapshot_id: str) -> SagaStart:
        """spec.md: "If the associated disk Snapshot is no longer required, you can delete the Instance Snapshot.": whatever
        has become of its instance, its disks and its account.
        """
        self._take(session, operation_id, instance_snapshot_id, CAN_BE_DELETED)
        return SagaStart("delete_instance_snapshot", instance_snapshot_id, {})

    def copy(
        self, session: Session, instance_snapshot_id: str, *, destination_region: str, name: str
    ) -> SagaStart:
        """The copy's ids are picked here, so that every call to the other region can be repeated."""
        snapshot = self.get(session, instance_snapshot_id)
        self._peers.must_know(destination_region)  # refuses a region that the settings do not know
        if snapshot.state not in CAN_BE_COPIED:
            raise InstanceSnapshotInState(
                snapshot.id, snapshot.state, snapshot.operation_id, CAN_BE_COPIED, at_rest=False
            )
        assert snapshot.cut_time is not None  # one without is not found
        return SagaStart(
            "copy_instance_snapshot",
            instance_snapshot_id,
            {
                "destination_region": destination_region,
                "copy_instance_snapshot_id": new_id("isnap"),
                "name": name or snapshot.name,
                "description": snapshot.description,
                "labels": snapshot.labels,
                "instance_id": snapshot.instance_id,
                "cut_time": snapshot.cut_time.isoformat(),
                "members": [
                    {
                        "disk_id": member.disk_id,
                        "disk_name": member.disk_name,
                        "is_system_disk": member.is_system_disk,
                        "size_bytes": member.size_bytes,
                        "device": member.device,
                        "snapshot_id": member.snapshot_id,
                        "copy_snapshot_id": new_id("snap"),
                    }
                    for member in snapshot.members
                ],
            },
        )

    def _take(
        self, session: Session, operation_id: str, instance_snapshot_id: str, allowed: Sequence[State]
    ) -> InstanceSnapshot:
        snapshot = self.get(session, instance_snapshot_id)
        if not repository.take(session, instance_snapshot_id, operation_id, allowed=allowed):
            raise InstanceSnapshotInState(snapshot.id, snapshot.state, snapshot.operation_id, allowed)
        return snapshot


def _refuse_copy(snapshot: InstanceSnapshot) -> None:
    if snapshot.source_region:
        raise InstanceSnapshotCopied(snapshot.id, snapshot.source_region)


def rollback_arguments(snapshot: InstanceSnapshot, disk_ids: Collection[str]) -> dict[str, Any]:
    """`state` and `state_reason` are what it rests in when all goes well: a rollback of some members does not mend what an
    earlier one left undone, which may be on other disks.
    """
    strangers = set(disk_ids) - {member.disk_id for member in snapshot.members}
    if strangers:
        raise DisksNotMembers(snapshot.id, sorted(strangers))
    targets = [
        {"disk_id": member.disk_id, "snapshot_id": member.snapshot_id}
        for member in snapshot.members
        if not disk_ids or member.disk_id in disk_ids
    ]
    whole = len(targets) == len(snapshot.members)
    return {
        "instance_id": snapshot.instance_id,
        "targets": targets,
        "whole": whole,
        "state": State.AVAILABLE if whole else snapshot.state,
        "state_reason": "" if whole else snapshot.state_reason,
    }
