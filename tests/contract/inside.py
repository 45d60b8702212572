"""The internal ports, as snapshot_svc and compute_svc call them, and holds that last as long as a test wants.

A step that is done and not yet followed by the next leaves its hold: that is how a test makes an instance busy, a disk
SNAPSHOTTING or a source in use without racing a real operation.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stillpoint.compute.v1 import instance_pb2
from stillpoint.compute.v1 import participant_service_pb2 as compute
from stillpoint.compute.v1 import participant_service_pb2_grpc as compute_grpc
from stillpoint.disk.v1 import disk_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk
from stillpoint.disk.v1 import participant_service_pb2_grpc as disk_grpc
from tests.contract.cloud import ACCOUNT, Cloud, an_unknown_id
from tests.contract.error_tables import COMMON
from tests.contract.refusals import refused

STOPPED = [instance_pb2.Instance.STATE_STOPPED, instance_pb2.Instance.STATE_STOPPED_NO_CHARGE]
ANY_REST = [instance_pb2.Instance.STATE_RUNNING, *STOPPED]


def an_operation_id() -> str:
    return f"op-s-contract-{uuid.uuid4().hex[:12]}"


def step_withdrawn() -> refused:
    return refused("ABORTED", "STEP_WITHDRAWN", COMMON)


class Inside:
    """ParticipantService of compute_svc and of disk_svc, and requests as a saga would make them."""

    def __init__(self, cloud: Cloud) -> None:
        self.compute = compute_grpc.ParticipantServiceStub(
            cloud.open_channel(cloud.addresses.compute.internal)
        )
        self.disk = disk_grpc.ParticipantServiceStub(cloud.open_channel(cloud.addresses.disk.internal))

    # Holds

    @contextmanager
    def leased(self, instance_id: str) -> Iterator[str]:
        """The instance is held by the operation that this gives."""
        request = self.lease_request(instance_id)
        self.compute.LeaseInstance(request)
        try:
            yield request.operation_id
        finally:
            self.compute.ReleaseInstance(release_of(request))

    @contextmanager
    def snapshotting(self, instance_id: str) -> Iterator[disk.CreateConsistencyPointResponse]:
        """Every disk of the instance is SNAPSHOTTING; the snapshots, which stand alone, are CREATING."""
        request = self.point_request(instance_id, instance_snapshot_id="")
        try:
            yield self.disk.CreateConsistencyPoint(request)
        finally:
            self.disk.WithdrawConsistencyPoint(disk.WithdrawConsistencyPointRequest(key=request.key))

    @contextmanager
    def rolling_back(self, *targets: tuple[str, str], instance_id: str = "") -> Iterator[str]:
        """The disks are ROLLING_BACK, held by the operation that this gives. Targets are disks and their snapshots."""
        request = self.rollback_request(*targets, instance_id=instance_id)
        self.disk.ReserveRollback(request)
        try:
            yield request.operation_id
        finally:
            self.disk.WithdrawRollback(disk.WithdrawRollbackRequest(key=request.key))

    @contextmanager
    def being_made(self, *source_snapshot_ids: str, size_bytes: int = 1 << 20) -> Iterator[list[str]]:
        """Disks that are CREATING from these snapshots (from none where one is empty), and stay so.

        A disk that was withdrawn before is not made when its call comes late: its row waits for that call's own undo.
        """
        instance_id, operation_id = an_unknown_id("i"), an_operation_id()
        disk_ids = [an_unknown_id("disk") for _ in source_snapshot_ids]
        self.disk.WithdrawInstanceDisks(
            disk.WithdrawInstanceDisksRequest(
                key=f"{operation_id}/earlier", operation_id=operation_id, disk_ids=disk_ids
            )
        )
        request = self.disks_request(instance_id)
        del request.disks[:]
        for disk_id, source_snapshot_id in zip(disk_ids, source_snapshot_ids, strict=True):
            request.disks.add(
                disk_id=disk_id,
                name="contract-being-made",
                role=disk_pb2.Disk.ROLE_DATA,
                size_bytes=0 if source_snapshot_id else size_bytes,
                source_snapshot_id=source_snapshot_id,
            )
        try:
            with step_withdrawn():
                self.disk.CreateInstanceDisks(request)
            yield disk_ids
        finally:
            self.disk.WithdrawInstanceDisks(
                disk.WithdrawInstanceDisksRequest(
                    key=request.key, operation_id=request.operation_id, disk_ids=disk_ids
                )
            )

    # Requests, each a step of an operation of its own

    def lease_request(
        self,
        instance_id: str,
        *,
        allowed: "Sequence[instance_pb2.Instance.State.ValueType]" = ANY_REST,
        requires_good_standing: bool = False,
        validate_only: bool = False,
    ) -> compute.LeaseInstanceRequest:
        operation_id = an_operation_id()
        return compute.LeaseInstanceRequest(
            key=f"{operation_id}/lease",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
            allowed_states=allowed,
            requires_good_standing=requires_good_standing,
            validate_only=validate_only,
        )

    def disks_request(self, instance_id: str, *, data_disks: int = 1) -> disk.CreateInstanceDisksRequest:
        operation_id = an_operation_id()
        roles = [disk_pb2.Disk.ROLE_SYSTEM, *[disk_pb2.Disk.ROLE_DATA] * data_disks]
        return disk.CreateInstanceDisksRequest(
            key=f"{operation_id}/create_disks",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
            disks=[
                disk.InstanceDisk(
                    disk_id=an_unknown_id("disk"), name="contract-participant", role=role, size_bytes=1 << 20
                )
                for role in roles
            ],
        )

    def release_request(self, instance_id: str) -> disk.ReleaseInstanceDisksRequest:
        operation_id = an_operation_id()
        return disk.ReleaseInstanceDisksRequest(
            key=f"{operation_id}/release_disks",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
        )

    def attach_request(self, instance_id: str, disk_id: str) -> disk.AttachDiskRequest:
        operation_id = an_operation_id()
        return disk.AttachDiskRequest(
            key=f"{operation_id}/attach",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
            disk_id=disk_id,
        )

    def detach_request(self, instance_id: str, disk_id: str) -> disk.DetachDiskRequest:
        operation_id = an_operation_id()
        return disk.DetachDiskRequest(
            key=f"{operation_id}/detach",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
            disk_id=disk_id,
        )

    def point_request(
        self, instance_id: str, *, instance_snapshot_id: str | None = None, validate_only: bool = False
    ) -> disk.CreateConsistencyPointRequest:
        operation_id = an_operation_id()
        if instance_snapshot_id is None:
            instance_snapshot_id = an_unknown_id("isnap")
        return disk.CreateConsistencyPointRequest(
            key=f"{operation_id}/cut",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id,
            instance_snapshot_id=instance_snapshot_id,
            snapshot_name="contract-point",
            validate_only=validate_only,
        )

    def rollback_request(
        self, *targets: tuple[str, str], instance_id: str = "", validate_only: bool = False
    ) -> disk.ReserveRollbackRequest:
        operation_id = an_operation_id()
        return disk.ReserveRollbackRequest(
            key=f"{operation_id}/reserve",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_id=instance_id or an_unknown_id("i"),
            targets=[
                disk.RollbackTarget(disk_id=disk_id, snapshot_id=snapshot_id)
                for disk_id, snapshot_id in targets
            ],
            validate_only=validate_only,
        )

    def deletion_request(self, instance_snapshot_id: str) -> disk.ReserveSnapshotDeletionRequest:
        operation_id = an_operation_id()
        return disk.ReserveSnapshotDeletionRequest(
            key=f"{operation_id}/reserve",
            operation_id=operation_id,
            account_id=ACCOUNT,
            instance_snapshot_id=instance_snapshot_id,
        )


def release_of(
    lease: compute.LeaseInstanceRequest,
    outcome: "compute.ReleaseInstanceRequest.RollbackOutcome.ValueType" = compute.ReleaseInstanceRequest.ROLLBACK_OUTCOME_UNSPECIFIED,
) -> compute.ReleaseInstanceRequest:
    return compute.ReleaseInstanceRequest(
        key=lease.key,
        operation_id=lease.operation_id,
        instance_id=lease.instance_id,
        rollback_outcome=outcome,
    )
