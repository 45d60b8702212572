"""Why disk_svc refuses; stillpoint.disk.v1.ErrorReason documents each reason.

DiskRefusal
├── DiskNotFound             NOT_FOUND
├── DiskInState              FAILED_PRECONDITION
├── DiskBusy                 FAILED_PRECONDITION
├── SnapshotNotFound         NOT_FOUND
├── SnapshotInState          FAILED_PRECONDITION
├── MemberOfInstanceSnapshot FAILED_PRECONDITION
├── SnapshotInUse            FAILED_PRECONDITION
├── SnapshotQuotaExceeded    RESOURCE_EXHAUSTED
├── SizeTooSmall             INVALID_ARGUMENT
├── SizeNotLarger            FAILED_PRECONDITION
├── RangeBeyondEnd           OUT_OF_RANGE
├── WriterFenced             ABORTED
├── StoreFull                RESOURCE_EXHAUSTED
├── BytesLost                DATA_LOSS
├── CopyDiffers              DATA_LOSS            in an operation's error
├── InstanceHasNoDisks       NOT_FOUND
├── ExpiryNotOwn             FAILED_PRECONDITION
└── PolicyNotFound           NOT_FOUND

`refusing()` turns what the block store raises into these.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from disk_svc.blockstore import errors as store_errors
from disk_svc.models import Disk, DiskSnapshot
from disk_svc.states import Kind
from svckit.errors import FieldProblem, QuotaViolation, Refusal, StepWithdrawn, Violation

DOMAIN = "disk.stillpoint"


class DiskRefusal(Refusal):
    domain = DOMAIN


class DiskNotFound(DiskRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "DISK_NOT_FOUND"

    def __init__(self, disk_id: str) -> None:
        message = f"disk {disk_id} does not exist"
        super().__init__(
            message,
            metadata={"disk_id": disk_id},
            preconditions=[Violation(self.reason, f"disk/{disk_id}", message)],
        )


class DiskInState(DiskRefusal):
    reason = "DISK_STATE"

    def __init__(self, disk: Disk, needed: str) -> None:
        where = f" on instance {disk.instance_id}" if disk.instance_id else ""
        message = f"disk {disk.id} ({disk.name}) is {disk.state}{where}; it must be {needed}"
        super().__init__(
            message,
            metadata={"disk_id": disk.id, "state": disk.state},
            preconditions=[Violation(self.reason, f"disk/{disk.id}", message)],
        )


class DiskBusy(DiskRefusal):
    reason = "DISK_BUSY"

    def __init__(self, disk: Disk) -> None:
        message = f"disk {disk.id} ({disk.name}) is {disk.task} by operation {disk.task_operation_id}"
        super().__init__(
            message,
            metadata={"disk_id": disk.id, "state": disk.task, "operation_id": disk.task_operation_id},
            preconditions=[Violation(self.reason, f"disk/{disk.id}", message)],
        )


class SnapshotNotFound(DiskRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "SNAPSHOT_NOT_FOUND"

    def __init__(self, snapshot_id: str, of_disk_id: str = "") -> None:
        of_disk = f" of disk {of_disk_id}" if of_disk_id else ""
        message = f"disk snapshot {snapshot_id}{of_disk} does not exist"
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot_id},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot_id}", message)],
        )


class SnapshotInState(DiskRefusal):
    reason = "SNAPSHOT_STATE"

    def __init__(self, snapshot: DiskSnapshot, needed: str) -> None:
        message = f"disk snapshot {snapshot.id} is {snapshot.state}; it must be {needed}"
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot.id, "state": snapshot.state},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot.id}", message)],
        )


class MemberOfInstanceSnapshot(DiskRefusal):
    reason = "MEMBER_OF_INSTANCE_SNAPSHOT"

    def __init__(self, snapshot: DiskSnapshot) -> None:
        message = (
            f"disk snapshot {snapshot.id} belongs to instance snapshot {snapshot.instance_snapshot_id}; "
            "delete that instead"
        )
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot.id, "instance_snapshot_id": snapshot.instance_snapshot_id},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot.id}", message)],
        )


class SnapshotInUse(DiskRefusal):
    reason = "SNAPSHOT_IN_USE"

    def __init__(self, snapshot_id: str) -> None:
        message = (
            f"disk snapshot {snapshot_id} is in use right now: a disk or a copy is being made from it, or a disk is rolled "
            "back to it"
        )
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot_id},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot_id}", message)],
        )


class SnapshotQuotaExceeded(DiskRefusal):
    """spec.md: "If the Manual Snapshot quota for a disk is full, please delete unnecessary Manual Snapshots before creating
    an Instance Snapshot."
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "SNAPSHOT_QUOTA_EXCEEDED"

    def __init__(self, disk: Disk, kind: Kind, used: int, limit: int) -> None:
        message = f"disk {disk.id} ({disk.name}) has {used} of {limit} {kind.lower()} snapshots"
        super().__init__(
            message,
            metadata={"disk_id": disk.id},
            quotas=[QuotaViolation(f"disk/{disk.id}", f"{kind.lower()}_snapshots_per_disk", limit, message)],
        )


class SizeTooSmall(DiskRefusal):
    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "SIZE_TOO_SMALL"

    def __init__(self, snapshot: DiskSnapshot, size_bytes: int) -> None:
        message = f"{size_bytes} bytes are less than the {snapshot.size_bytes} of disk snapshot {snapshot.id}"
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot.id, "size_bytes": str(snapshot.size_bytes)},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot.id}", message)],
            fields=[FieldProblem("size_bytes", f"is less than the snapshot's {snapshot.size_bytes}")],
        )


class SizeNotLarger(DiskRefusal):
    reason = "SIZE_NOT_LARGER"

    def __init__(self, disk: Disk, size_bytes: int) -> None:
        message = (
            f"disk {disk.id} ({disk.name}) has {disk.size_bytes} bytes and only grows, not to {size_bytes}"
        )
        super().__init__(
            message,
            metadata={"disk_id": disk.id, "size_bytes": str(disk.size_bytes)},
            preconditions=[Violation(self.reason, f"disk/{disk.id}", message)],
        )


class RangeBeyondEnd(DiskRefusal):
    code = grpc.StatusCode.OUT_OF_RANGE
    reason = "RANGE_BEYOND_END"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"the range goes beyond the end, which is at byte {size_bytes}",
            metadata={"size_bytes": str(size_bytes)},
        )


class WriterFenced(DiskRefusal):
    code = grpc.StatusCode.ABORTED
    reason = "WRITER_FENCED"

    def __init__(self, disk_id: str) -> None:
        super().__init__(
            f"disk {disk_id} was detached, deleted or reserved for a rollback while it was written",
            metadata={"disk_id": disk_id},
        )


class StoreFull(DiskRefusal):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "STORE_FULL"

    def __init__(self) -> None:
        super().__init__("the block store is full")


class BytesLost(DiskRefusal):
    code = grpc.StatusCode.DATA_LOSS
    reason = "DATA_LOSS"

    def __init__(self, object_id: str, offset_bytes: int) -> None:
        super().__init__(
            f"stored bytes of {object_id} at offset {offset_bytes} do not match their checksum",
            metadata={"object_id": object_id, "offset_bytes": str(offset_bytes)},
        )


class CopyDiffers(DiskRefusal):
    code = grpc.StatusCode.DATA_LOSS
    reason = "COPY_DIFFERS"

    def __init__(self, snapshot_id: str, region: str, offset_bytes: int) -> None:
        super().__init__(
            f"what region {region} stored of disk snapshot {snapshot_id} at offset {offset_bytes} is not what was sent, "
            "twice in a row",
            metadata={"snapshot_id": snapshot_id, "offset_bytes": str(offset_bytes)},
        )


class InstanceHasNoDisks(DiskRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "INSTANCE_HAS_NO_DISKS"

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"no disk is on instance {instance_id}", metadata={"instance_id": instance_id})


class ExpiryNotOwn(DiskRefusal):
    reason = "EXPIRY_NOT_OWN"

    def __init__(self, snapshot: DiskSnapshot) -> None:
        if snapshot.instance_snapshot_id:
            owner = {"instance_snapshot_id": snapshot.instance_snapshot_id}
            message = (
                f"disk snapshot {snapshot.id} goes with instance snapshot {snapshot.instance_snapshot_id}"
            )
        else:
            owner = {"policy_id": snapshot.policy_id}
            message = f"disk snapshot {snapshot.id} goes by automatic snapshot policy {snapshot.policy_id}"
        message += ", and does not expire on its own"
        super().__init__(
            message,
            metadata={"snapshot_id": snapshot.id, **owner},
            preconditions=[Violation(self.reason, f"snapshot/{snapshot.id}", message)],
        )


class PolicyNotFound(DiskRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "AUTO_SNAPSHOT_POLICY_NOT_FOUND"

    def __init__(self, policy_id: str, without_disk_id: str = "") -> None:
        fact = f"has no disk {without_disk_id} any more" if without_disk_id else "does not exist"
        super().__init__(f"automatic snapshot policy {policy_id} {fact}", metadata={"policy_id": policy_id})


@contextmanager
def refusing(key: str = "") -> Iterator[None]:
    """Raise the block store's definite answers as refusals; whatever else it raises is not known to have failed."""
    try:
        yield
    except store_errors.StoreError as error:
        raise refusal_for(error, key) from error


def refusal_for(error: store_errors.StoreError, key: str = "") -> Exception:
    match error:
        case store_errors.OutOfSpace():
            return StoreFull()
        case store_errors.DataLoss():
            return BytesLost(error.object_id, error.offset_bytes)
        case store_errors.Withdrawn():
            return StepWithdrawn(key)
        case store_errors.UnknownObject():
            gone = SnapshotNotFound if error.object_id.startswith("snap-") else DiskNotFound
            return gone(error.object_id)
        case _:
            return error
