"""The use cases of snapshot_svc. Each runs in a transaction that its caller holds, and refuses by raising."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc import repository
from snapshot_svc.errors import InstanceSnapshotCopied, InstanceSnapshotInState, InstanceSnapshotNotFound
from snapshot_svc.models import InstanceSnapshot
from snapshot_svc.states import CAN_BE_COPIED, CAN_BE_DELETED, CAN_ROLL_BACK, State
from svckit.caller import current_caller
from svckit.ids import new_id
from svckit.mutations import SagaStart
from svckit.peers import Peers


class SnapshotService:
    """Instance snapshots of one region."""

    def __init__(self, region: str, peers: Peers) -> None:
        self._region = region
        self._peers = peers

    def get(
        self, session: Session, instance_snapshot_id: str, account_id: str | None = None
    ) -> InstanceSnapshot:
        snapshot = repository.find(
            session,
            account_id=account_id or current_caller().account_id,
            region=self._region,
            instance_snapshot_id=instance_snapshot_id,
        )
        if snapshot is None:
            raise InstanceSnapshotNotFound(instance_snapshot_id)
        return snapshot

    def create(
        self, session: Session, operation_id: str, *, instance_id: str, disk_id: str, name: str
    ) -> SagaStart:
        """Of an instance, or of the one that a disk is on; the other id is empty."""
        instance_snapshot_id = new_id("isnap")
        repository.add(
            session,
            id=instance_snapshot_id,
            name=name,
            account_id=current_caller().account_id,
            region=self._region,
            instance_id=instance_id,
            operation_id=operation_id,
        )
        return SagaStart(
            "create_instance_snapshot_from_disk" if disk_id else "create_instance_snapshot",
            instance_snapshot_id,
            {"instance_id": instance_id, "disk_id": disk_id, "name": name},
        )

    def roll_back(self, session: Session, operation_id: str, instance_snapshot_id: str) -> SagaStart:
        _refuse_copy(self.get(session, instance_snapshot_id))
        snapshot = self._take(session, operation_id, instance_snapshot_id, CAN_ROLL_BACK)
        return SagaStart("roll_back_instance_snapshot", instance_snapshot_id, rollback_arguments(snapshot))

    def check_roll_back(self, session: Session, instance_snapshot_id: str) -> InstanceSnapshot:
        """Refuse as `roll_back` would, and change nothing."""
        snapshot = self.get(session, instance_snapshot_id)
        _refuse_copy(snapshot)
        if snapshot.state not in CAN_ROLL_BACK or snapshot.operation_id:
            raise InstanceSnapshotInState(snapshot.id, snapshot.state, snapshot.operation_id, CAN_ROLL_BACK)
        return snapshot

    def delete(self, session: Session, operation_id: str, instance_snapshot_id: str) -> SagaStart:
        self._take(session, operation_id, instance_snapshot_id, CAN_BE_DELETED)
        return SagaStart("delete_instance_snapshot", instance_snapshot_id, {})

    def copy(
        self, session: Session, instance_snapshot_id: str, *, destination_region: str, name: str
    ) -> SagaStart:
        """The copy's ids are picked here, so that every call to the other region can be repeated."""
        snapshot = self.get(session, instance_snapshot_id)
        self._peers.channel(destination_region)  # refuses a region that the settings do not know
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
                "instance_id": snapshot.instance_id,
                "cut_time": snapshot.cut_time.isoformat(),
                "members": [
                    {
                        "disk_id": member.disk_id,
                        "disk_name": member.disk_name,
                        "is_system_disk": member.is_system_disk,
                        "size_bytes": member.size_bytes,
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


def rollback_arguments(snapshot: InstanceSnapshot) -> dict[str, Any]:
    targets = [{"disk_id": member.disk_id, "snapshot_id": member.snapshot_id} for member in snapshot.members]
    return {"instance_id": snapshot.instance_id, "targets": targets}
