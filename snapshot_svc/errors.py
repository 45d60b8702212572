"""Why snapshot_svc refuses; stillpoint.snapshot.v1.ErrorReason documents each reason.

SnapshotRefusal
├── InstanceSnapshotNotFound  NOT_FOUND
├── InstanceSnapshotInState   FAILED_PRECONDITION
├── InstanceSnapshotCopied    FAILED_PRECONDITION
└── MemberFailed              what the disk's own failure is

InvalidRequest
└── DisksNotMembers           INVALID_ARGUMENT
"""

from collections.abc import Sequence

import grpc

from snapshot_svc.states import State
from svckit.errors import FieldProblem, InvalidRequest, Refusal, Violation

DOMAIN = "snapshot.stillpoint"


class SnapshotRefusal(Refusal):
    domain = DOMAIN


class InstanceSnapshotNotFound(SnapshotRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "INSTANCE_SNAPSHOT_NOT_FOUND"

    def __init__(self, instance_snapshot_id: str) -> None:
        super().__init__(
            f"instance snapshot {instance_snapshot_id} does not exist",
            metadata={"instance_snapshot_id": instance_snapshot_id},
        )


class InstanceSnapshotInState(SnapshotRefusal):
    reason = "INSTANCE_SNAPSHOT_STATE"

    def __init__(
        self,
        instance_snapshot_id: str,
        state: State,
        operation_id: str,
        allowed: Sequence[State],
        *,
        at_rest: bool = True,
    ) -> None:
        held = f" and operation {operation_id} works on it" if operation_id else ""
        message = (
            f"instance snapshot {instance_snapshot_id} is {state}{held}; "
            f"it must be {' or '.join(allowed)}{' and at rest' if at_rest else ''}"
        )
        super().__init__(
            message,
            metadata={
                "instance_snapshot_id": instance_snapshot_id,
                "state": state,
                **({"operation_id": operation_id} if operation_id else {}),
            },
            preconditions=[Violation(self.reason, f"instance_snapshot/{instance_snapshot_id}", message)],
        )


class InstanceSnapshotCopied(SnapshotRefusal):
    reason = "INSTANCE_SNAPSHOT_COPIED"

    def __init__(self, instance_snapshot_id: str, source_region: str) -> None:
        message = (
            f"instance snapshot {instance_snapshot_id} is a copy from region {source_region} and has no disks here; "
            "new disks, or a new instance, can be made from its members"
        )
        super().__init__(
            message,
            metadata={"instance_snapshot_id": instance_snapshot_id, "source_region": source_region},
            preconditions=[Violation(self.reason, f"instance_snapshot/{instance_snapshot_id}", message)],
        )


class MemberFailed(SnapshotRefusal):
    reason = "MEMBER_FAILED"

    def __init__(self, disk_id: str, snapshot_id: str, cause: str, message: str) -> None:
        super().__init__(
            f"the snapshot of disk {disk_id} could not be sealed: {message}",
            metadata={"disk_id": disk_id, "snapshot_id": snapshot_id, "cause": cause},
            preconditions=[Violation(cause, f"disk/{disk_id}", message)],
        )
        lost = cause == "DATA_LOSS"
        self.code = grpc.StatusCode.DATA_LOSS if lost else grpc.StatusCode.RESOURCE_EXHAUSTED


class DisksNotMembers(InvalidRequest):
    def __init__(self, instance_snapshot_id: str, disk_ids: Sequence[str]) -> None:
        # One problem for all of them: a list that is no list of disks at all must still fit into a status.
        problem = (
            f"has {', '.join(disk_ids)}, of which instance snapshot {instance_snapshot_id} has no member"
        )
        super().__init__(f"disk_ids {problem}", fields=[FieldProblem("disk_ids", problem)])
