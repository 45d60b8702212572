"""disk_svc as compute_svc's sagas see it: one method per step, an answer or a refusal; anything else is not known."""

import grpc

from stillpoint.disk.v1 import disk_pb2, participant_service_pb2, participant_service_pb2_grpc
from svckit.calls import call, patience_seconds
from svckit.saga import Run

_TIMEOUT_SECONDS = 10.0


class Disks:
    """Calls ParticipantService of disk_svc under the keys of the saga's steps."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = participant_service_pb2_grpc.ParticipantServiceStub(channel)

    def create(self, run: Run) -> None:
        system_disk, *data_disks = run.input["disks"]
        request = participant_service_pb2.CreateInstanceDisksRequest(
            key=run.key("create_disks"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=run.resource_id,
            disks=[
                participant_service_pb2.InstanceDisk(
                    disk_id=disk["disk_id"],
                    name=disk["name"],
                    role=disk_pb2.Disk.Role.Value("ROLE_" + disk["role"]),
                    size_bytes=disk["size_bytes"],
                    source_snapshot_id=disk["source_snapshot_id"],
                    request_field=field,
                )
                for field, disk in [
                    ("system_disk", system_disk),
                    *((f"data_disks[{number}]", disk) for number, disk in enumerate(data_disks)),
                ]
            ],
        )
        patience = patience_seconds(run.deadline, _TIMEOUT_SECONDS)
        call(self._stub.CreateInstanceDisks, request, timeout_seconds=patience)

    def withdraw(self, run: Run) -> None:
        request = participant_service_pb2.WithdrawInstanceDisksRequest(
            key=run.key("create_disks"),
            operation_id=run.id,
            disk_ids=[disk["disk_id"] for disk in run.input["disks"]],
        )
        call(self._stub.WithdrawInstanceDisks, request, timeout_seconds=_TIMEOUT_SECONDS)

    def check_release(self, run: Run) -> None:
        """Refuses as `release` would, and changes nothing; `check_attach` and the others likewise."""
        self._release(run, validate_only=True)

    def release(self, run: Run) -> dict[str, list[str]]:
        return {"detached_disk_ids": list(self._release(run, validate_only=False).detached_disk_ids)}

    def _release(
        self, run: Run, *, validate_only: bool
    ) -> participant_service_pb2.ReleaseInstanceDisksResponse:
        request = participant_service_pb2.ReleaseInstanceDisksRequest(
            key=run.key("release_disks"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=run.resource_id,
            validate_only=validate_only,
        )
        return call(self._stub.ReleaseInstanceDisks, request, timeout_seconds=_TIMEOUT_SECONDS)

    def check_attach(self, run: Run) -> None:
        self._attach(run, validate_only=True)

    def attach(self, run: Run) -> None:
        self._attach(run, validate_only=False)

    def _attach(self, run: Run, *, validate_only: bool) -> None:
        request = participant_service_pb2.AttachDiskRequest(
            key=run.key("attach"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=run.resource_id,
            disk_id=run.input["disk_id"],
            validate_only=validate_only,
        )
        call(self._stub.AttachDisk, request, timeout_seconds=_TIMEOUT_SECONDS)

    def check_detach(self, run: Run) -> None:
        self._detach(run, validate_only=True)

    def detach(self, run: Run) -> None:
        self._detach(run, validate_only=False)

    def _detach(self, run: Run, *, validate_only: bool) -> None:
        request = participant_service_pb2.DetachDiskRequest(
            key=run.key("detach"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=run.resource_id,
            disk_id=run.input["disk_id"],
            validate_only=validate_only,
        )
        call(self._stub.DetachDisk, request, timeout_seconds=_TIMEOUT_SECONDS)

    def check_rollback(self, run: Run) -> None:
        self._reserve_rollback(run, validate_only=True)

    def reserve_rollback(self, run: Run) -> None:
        self._reserve_rollback(run, validate_only=False)

    def _reserve_rollback(self, run: Run, *, validate_only: bool) -> None:
        target = participant_service_pb2.RollbackTarget(
            disk_id=run.input["disk_id"], snapshot_id=run.input["snapshot_id"]
        )
        request = participant_service_pb2.ReserveRollbackRequest(
            key=run.key("reserve"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=run.resource_id,
            targets=[target],
            validate_only=validate_only,
            attached_only=True,
        )
        call(self._stub.ReserveRollback, request, timeout_seconds=_TIMEOUT_SECONDS)

    def withdraw_rollback(self, run: Run) -> None:
        request = participant_service_pb2.WithdrawRollbackRequest(key=run.key("reserve"))
        call(self._stub.WithdrawRollback, request, timeout_seconds=_TIMEOUT_SECONDS)

    def apply_rollback(self, run: Run) -> None:
        request = participant_service_pb2.ApplyRollbackRequest(key=run.key("reserve"))
        call(self._stub.ApplyRollback, request, timeout_seconds=_TIMEOUT_SECONDS)
