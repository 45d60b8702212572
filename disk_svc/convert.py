"""Rows to messages, and enum values to and from messages."""

from collections.abc import Mapping
from datetime import datetime

from disk_svc.models import AutoSnapshotPolicy, Disk, DiskSnapshot, PolicyDisk
from disk_svc.service.disks import InstanceDisk
from disk_svc.service.imports import Delivery, Incoming
from disk_svc.service.points import Member, SealResult
from disk_svc.states import Kind, Role
from stillpoint.disk.v1 import (
    auto_snapshot_policy_pb2,
    disk_pb2,
    disk_snapshot_pb2,
    import_service_pb2,
    participant_service_pb2,
)
from svckit.clock import from_timestamp, to_timestamp
from svckit.errors import Refusal
from svckit.operations import error_of


def disk(row: Disk, slots_taken: Mapping[tuple[str, Kind], int], quotas: Mapping[Kind, int]) -> disk_pb2.Disk:
    def quota(kind: Kind) -> disk_pb2.SnapshotQuota:
        return disk_pb2.SnapshotQuota(used=slots_taken.get((row.id, kind), 0), limit=quotas[kind])

    return disk_pb2.Disk(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        region=row.region,
        role=disk_pb2.Disk.Role.Value(f"ROLE_{row.role}"),
        state=disk_pb2.Disk.State.Value(f"STATE_{row.state}"),
        operation_id=row.task_operation_id,
        instance_id=row.instance_id,
        size_bytes=row.size_bytes,
        source_snapshot_id=row.source_snapshot_id,
        manual_snapshots=quota(Kind.MANUAL),
        automatic_snapshots=quota(Kind.AUTOMATIC),
        create_time=to_timestamp(row.create_time),
        update_time=to_timestamp(row.update_time),
        description=row.description,
        labels=row.labels,
        device=row.device,
    )


def disk_state(value: "disk_pb2.Disk.State.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    return "" if value == 0 else disk_pb2.Disk.State.Name(value).removeprefix("STATE_")


def disk_role(value: "disk_pb2.Disk.Role.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    return "" if value == 0 else disk_pb2.Disk.Role.Name(value).removeprefix("ROLE_")


def snapshot(row: DiskSnapshot) -> disk_snapshot_pb2.DiskSnapshot:
    return disk_snapshot_pb2.DiskSnapshot(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        region=row.region,
        disk_id=row.disk_id,
        state=disk_snapshot_pb2.DiskSnapshot.State.Value(f"STATE_{row.state}"),
        kind=disk_snapshot_pb2.DiskSnapshot.Kind.Value(f"KIND_{row.kind}"),
        size_bytes=row.size_bytes,
        instance_snapshot_id=row.instance_snapshot_id,
        operation_id=row.operation_id,
        cut_time=to_timestamp(row.cut_time),
        create_time=to_timestamp(row.create_time),
        update_time=to_timestamp(row.update_time),
        description=row.description,
        labels=row.labels,
        expire_time=to_timestamp(row.expire_time),
        policy_id=row.policy_id,
        source_region=row.source_region,
        source_snapshot_id=row.source_snapshot_id,
    )


def snapshot_state(value: "disk_snapshot_pb2.DiskSnapshot.State.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    return "" if value == 0 else disk_snapshot_pb2.DiskSnapshot.State.Name(value).removeprefix("STATE_")


def snapshot_kind(value: "disk_snapshot_pb2.DiskSnapshot.Kind.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    return "" if value == 0 else disk_snapshot_pb2.DiskSnapshot.Kind.Name(value).removeprefix("KIND_")


def policy(row: AutoSnapshotPolicy) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
    message = auto_snapshot_policy_pb2.AutoSnapshotPolicy(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        region=row.region,
        weekdays=[auto_snapshot_policy_pb2.Weekday.ValueType(weekday) for weekday in row.weekdays],
        hours=row.hours,
        time_zone=row.time_zone,
        disk_ids=[disk.disk_id for disk in row.disks],
        next_slot_time=to_timestamp(row.next_slot_time),
        results=[_policy_result(disk) for disk in row.disks if disk.slot_time is not None],
        create_time=to_timestamp(row.create_time),
        update_time=to_timestamp(row.update_time),
    )
    if row.retention_days is not None:
        message.retention_days = row.retention_days
    if row.retention_count is not None:
        message.retention_count = row.retention_count
    return message


def _policy_result(row: PolicyDisk) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy.Result:
    return auto_snapshot_policy_pb2.AutoSnapshotPolicy.Result(
        disk_id=row.disk_id,
        slot_time=to_timestamp(row.slot_time),
        operation_id=row.operation_id,
        snapshot_id=row.snapshot_id,
        error=error_of(Refusal.from_bytes(row.error)) if row.error else None,
        pruned_count=row.pruned_count,
        end_time=to_timestamp(row.end_time),
    )


def instance_disk(message: participant_service_pb2.InstanceDisk) -> InstanceDisk:
    return InstanceDisk(
        message.disk_id,
        message.name,
        Role(disk_pb2.Disk.Role.Name(message.role).removeprefix("ROLE_")),
        message.size_bytes,
        message.source_snapshot_id,
        request_field=message.request_field,
    )


def member(value: Member) -> participant_service_pb2.PointMember:
    return participant_service_pb2.PointMember(
        disk_id=value.disk_id,
        disk_name=value.disk_name,
        role=disk_pb2.Disk.Role.Value(f"ROLE_{value.role}"),
        snapshot_id=value.snapshot_id,
        size_bytes=value.size_bytes,
        device=value.device,
    )


def seal_result(value: SealResult) -> participant_service_pb2.SealResult:
    return participant_service_pb2.SealResult(
        disk_id=value.disk_id,
        snapshot_id=value.snapshot_id,
        reason=value.refusal.reason if value.refusal else "",
        message=value.refusal.message if value.refusal else "",
    )


def delivery(message: import_service_pb2.BeginImportRequest) -> Delivery:
    return Delivery(
        message.key,
        message.operation_id,
        message.source_region,
        message.account_id,
        message.instance_snapshot_id,
    )


def incoming(message: import_service_pb2.ImportedSnapshot) -> Incoming:
    return Incoming(
        message.snapshot_id,
        message.source_snapshot_id,
        message.name,
        message.description,
        message.labels,
        message.size_bytes,
        from_timestamp(message.cut_time),
        message.base_source_snapshot_ids,
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
