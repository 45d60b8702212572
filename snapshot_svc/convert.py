"""Rows to messages, and enum values from messages."""

from snapshot_svc.models import InstanceSnapshot
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from svckit.clock import to_timestamp
from svckit.mutations import Outcome
from svckit.operations import error_of


def instance_snapshot(row: InstanceSnapshot) -> instance_snapshot_pb2.InstanceSnapshot:
    """Of one that was only validated, the fields that it has."""
    return instance_snapshot_pb2.InstanceSnapshot(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        region=row.region,
        instance_id=row.instance_id,
        state=instance_snapshot_pb2.InstanceSnapshot.State.Value(f"STATE_{row.state or 'UNSPECIFIED'}"),
        state_reason=row.state_reason,
        operation_id=row.operation_id,
        cut_time=to_timestamp(row.cut_time),
        members=[
            instance_snapshot_pb2.Member(
                disk_id=member.disk_id,
                disk_name=member.disk_name,
                is_system_disk=member.is_system_disk,
                snapshot_id=member.snapshot_id,
                size_bytes=member.size_bytes,
                device=member.device,
            )
            for member in row.members
        ],
        create_time=to_timestamp(row.create_time),
        update_time=to_timestamp(row.update_time),
        description=row.description,
        labels=row.labels,
        expire_time=to_timestamp(row.expire_time),
        source_region=row.source_region,
        source_instance_snapshot_id=row.source_instance_snapshot_id,
    )


def result(outcome: Outcome) -> pb.BatchDeleteInstanceSnapshotsResponse.Result:
    return pb.BatchDeleteInstanceSnapshotsResponse.Result(
        instance_snapshot_id=outcome.item,
        operation_id=outcome.operation_id,
        error=error_of(outcome.refusal) if outcome.refusal else None,
    )


def state(value: "instance_snapshot_pb2.InstanceSnapshot.State.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    if value == 0:
        return ""
    return instance_snapshot_pb2.InstanceSnapshot.State.Name(value).removeprefix("STATE_")
