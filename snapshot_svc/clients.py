"""compute_svc, disk_svc and other regions as snapshot_svc's sagas see them: one method per step, an answer or a refusal;
anything else is not known.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import grpc

from snapshot_svc.errors import MemberFailed
from stillpoint.compute.v1 import instance_pb2
from stillpoint.compute.v1 import participant_service_pb2 as compute
from stillpoint.compute.v1 import participant_service_pb2_grpc as compute_grpc
from stillpoint.disk.v1 import disk_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk
from stillpoint.disk.v1 import participant_service_pb2_grpc as disk_grpc
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.snapshot.v1 import import_service_pb2, import_service_pb2_grpc, instance_snapshot_pb2
from svckit.calls import call, patience_seconds
from svckit.clock import from_timestamp, to_timestamp
from svckit.errors import Refusal
from svckit.peers import Peers
from svckit.saga import Progress, Run

_TIMEOUT_SECONDS = 10.0

_STATES = instance_pb2.Instance
_STOPPED = (_STATES.STATE_STOPPED, _STATES.STATE_STOPPED_NO_CHARGE)
_RUNNING_OR_STOPPED = (_STATES.STATE_RUNNING, *_STOPPED)


def _patience_seconds(run: Run) -> float:
    return patience_seconds(run.deadline, _TIMEOUT_SECONDS)


def instance_of(run: Run) -> str:
    """The instance that was named, or the one that the named disk was found on."""
    instance_id: str = run.input["instance_id"] or run.data["instance_id"]
    return instance_id


class Instances:
    """The lease on the instance."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = compute_grpc.ParticipantServiceStub(channel)

    def lease_for_snapshot(self, run: Run, *, validate_only: bool) -> str:
        """Returns the instance's name. The account must be in good standing, and the instance at rest: its disks are
        "Running" and "Mounted" also while it is stopped.
        """
        return self._lease(run, _RUNNING_OR_STOPPED, validate_only=validate_only)

    def lease_for_rollback(self, run: Run, *, validate_only: bool) -> None:
        """spec.md: "Instance Snapshots correspond to Baidu Cloud Compute Instances in the "Stopped" state (where Data Disks
        can be mounted or unmounted) or in the "No charge for stopped instances" state."
        """
        self._lease(run, _STOPPED, validate_only=validate_only)

    def _lease(
        self, run: Run, states: "tuple[instance_pb2.Instance.State.ValueType, ...]", *, validate_only: bool
    ) -> str:
        request = compute.LeaseInstanceRequest(
            key=run.key("lease"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=instance_of(run),
            allowed_states=states,
            requires_good_standing=True,
            validate_only=validate_only,
        )
        return call(self._stub.LeaseInstance, request, timeout_seconds=_patience_seconds(run)).instance.name

    def release(
        self,
        run: Run,
        outcome: "compute.ReleaseInstanceRequest.RollbackOutcome.ValueType" = compute.ReleaseInstanceRequest.ROLLBACK_OUTCOME_UNSPECIFIED,
    ) -> None:
        request = compute.ReleaseInstanceRequest(
            key=run.key("lease"),
            operation_id=run.id,
            instance_id=instance_of(run),
            rollback_outcome=outcome,
        )
        call(self._stub.ReleaseInstance, request, timeout_seconds=_TIMEOUT_SECONDS)

    def release_after_rollback(self, run: Run, *, lost: bool) -> None:
        """A rollback of some members that ended well says nothing of what an earlier one left undone."""
        outcomes = compute.ReleaseInstanceRequest
        if lost:
            self.release(run, outcomes.ROLLBACK_OUTCOME_INCOMPLETE)
        elif run.input["whole"]:
            self.release(run, outcomes.ROLLBACK_OUTCOME_COMPLETE)
        else:
            self.release(run)


class Disks:
    """Consistency points, rollbacks, deletions, and copies of their members."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = disk_grpc.ParticipantServiceStub(channel)

    # Consistency points

    def locate(self, run: Run) -> Mapping[str, Any]:
        """Returns `instance_id`: where the disk is."""
        request = disk.LocateDiskRequest(account_id=run.account_id, disk_id=run.input["disk_id"])
        response = call(self._stub.LocateDisk, request, timeout_seconds=_patience_seconds(run))
        return {"instance_id": response.instance_id}

    def check_point(self, run: Run) -> list[Mapping[str, Any]]:
        """Refuses as `create_point` would, and changes nothing; returns the members that it would have."""
        return _members(self._create_point(run, validate_only=True).members)

    def create_point(self, run: Run) -> Mapping[str, Any]:
        """Returns `cut_time` (ISO) and `members`."""
        response = self._create_point(run, validate_only=False)
        return {
            "cut_time": from_timestamp(response.cut_time).isoformat(),
            "members": _members(response.members),
        }

    def _create_point(self, run: Run, *, validate_only: bool) -> disk.CreateConsistencyPointResponse:
        request = disk.CreateConsistencyPointRequest(
            key=run.key("cut"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=instance_of(run),
            disk_id=run.input.get("disk_id", ""),
            instance_snapshot_id=run.resource_id,
            snapshot_name=run.data.get("name", ""),
            validate_only=validate_only,
        )
        return call(self._stub.CreateConsistencyPoint, request, timeout_seconds=_patience_seconds(run))

    def withdraw_point(self, run: Run) -> None:
        request = disk.WithdrawConsistencyPointRequest(key=run.key("cut"))
        call(self._stub.WithdrawConsistencyPoint, request, timeout_seconds=_TIMEOUT_SECONDS)

    def seal_point(self, run: Run) -> None:
        """Raises MemberFailed for the first disk that could not be sealed."""
        request = disk.SealConsistencyPointRequest(key=run.key("cut"))
        response = call(self._stub.SealConsistencyPoint, request, timeout_seconds=_patience_seconds(run))
        for result in response.results:
            if result.reason:
                raise MemberFailed(result.disk_id, result.snapshot_id, result.reason, result.message)

    def finish_point(self, run: Run) -> None:
        request = disk.FinishConsistencyPointRequest(key=run.key("cut"))
        call(self._stub.FinishConsistencyPoint, request, timeout_seconds=_TIMEOUT_SECONDS)

    # Rollback

    def check_rollback(self, run: Run) -> Mapping[str, Any]:
        """Refuses and answers as `reserve_rollback` would, and changes nothing."""
        return self._reserve_rollback(run, validate_only=True)

    def reserve_rollback(self, run: Run) -> Mapping[str, Any]:
        """Returns `untouched_disk_ids`: what is on the instance and is not rolled back."""
        return self._reserve_rollback(run, validate_only=False)

    def _reserve_rollback(self, run: Run, *, validate_only: bool) -> Mapping[str, Any]:
        request = disk.ReserveRollbackRequest(
            key=run.key("reserve"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_id=instance_of(run),
            targets=[disk.RollbackTarget(**target) for target in run.input["targets"]],
            validate_only=validate_only,
        )
        response = call(self._stub.ReserveRollback, request, timeout_seconds=_patience_seconds(run))
        return {"untouched_disk_ids": list(response.untouched_disk_ids)}

    def withdraw_rollback(self, run: Run) -> None:
        request = disk.WithdrawRollbackRequest(key=run.key("reserve"))
        call(self._stub.WithdrawRollback, request, timeout_seconds=_TIMEOUT_SECONDS)

    def apply_rollback(self, run: Run) -> None:
        request = disk.ApplyRollbackRequest(key=run.key("reserve"))
        call(self._stub.ApplyRollback, request, timeout_seconds=_TIMEOUT_SECONDS)

    # Deletion

    def reserve_deletion(self, run: Run) -> None:
        request = disk.ReserveSnapshotDeletionRequest(
            key=run.key("reserve"),
            operation_id=run.id,
            account_id=run.account_id,
            instance_snapshot_id=run.resource_id,
        )
        call(self._stub.ReserveSnapshotDeletion, request, timeout_seconds=_patience_seconds(run))

    def withdraw_deletion(self, run: Run) -> None:
        request = disk.WithdrawSnapshotDeletionRequest(key=run.key("reserve"))
        call(self._stub.WithdrawSnapshotDeletion, request, timeout_seconds=_TIMEOUT_SECONDS)

    def apply_deletion(self, run: Run) -> None:
        request = disk.ApplySnapshotDeletionRequest(key=run.key("reserve"))
        call(self._stub.ApplySnapshotDeletion, request, timeout_seconds=_TIMEOUT_SECONDS)

    # Copies of members

    def start_copy(self, run: Run) -> Mapping[str, Any]:
        """Returns `copy_operation_id`, disk_svc's."""
        request = disk.StartCopyRequest(
            key=run.key("start"),
            operation_id=run.id,
            account_id=run.account_id,
            destination_region=run.input["destination_region"],
            instance_snapshot_id=run.resource_id,
            copy_instance_snapshot_id=run.input["copy_instance_snapshot_id"],
            copy_name=run.input["name"],
            members=[
                disk.CopiedMember(
                    snapshot_id=member["snapshot_id"], copy_snapshot_id=member["copy_snapshot_id"]
                )
                for member in run.input["members"]
            ],
        )
        response = call(self._stub.StartCopy, request, timeout_seconds=_TIMEOUT_SECONDS)
        return {"copy_operation_id": response.copy_operation_id}

    def copied(self, run: Run) -> tuple[Progress, bool]:
        """How far disk_svc is, and whether that is all; raises what made it fail once it has undone everything, or why it
        was abandoned.
        """
        request = disk.GetCopyRequest(copy_operation_id=run.data["copy_operation_id"])
        found = call(self._stub.GetCopy, request, timeout_seconds=_TIMEOUT_SECONDS)
        if found.state in (Operation.STATE_FAILED, Operation.STATE_ABANDONED):
            raise Refusal.from_bytes(found.error)
        progress = Progress(
            completed_bytes=found.progress.completed_bytes,
            total_bytes=found.progress.total_bytes or sum(m["size_bytes"] for m in run.input["members"]),
            sent_bytes=found.progress.sent_bytes,
        )
        return progress, found.state == Operation.STATE_SUCCEEDED


class OtherRegions:
    """What the snapshot_svc of another region lists of a copy."""

    def __init__(self, peers: Peers, region: str) -> None:
        self._peers = peers
        self._region = region

    def begin_import(self, run: Run) -> None:
        request = import_service_pb2.BeginImportRequest(
            key=run.key("begin"),
            operation_id=run.id,
            source_region=self._region,
            account_id=run.account_id,
            instance_snapshot_id=run.input["copy_instance_snapshot_id"],
            source_instance_snapshot_id=run.resource_id,
            name=run.input["name"],
            instance_id=run.input["instance_id"],
            cut_time=to_timestamp(datetime.fromisoformat(run.input["cut_time"])),
            members=[
                instance_snapshot_pb2.Member(
                    disk_id=member["disk_id"],
                    disk_name=member["disk_name"],
                    is_system_disk=member["is_system_disk"],
                    snapshot_id=member["copy_snapshot_id"],
                    size_bytes=member["size_bytes"],
                    device=member["device"],
                )
                for member in run.input["members"]
            ],
            description=run.input["description"],
            labels=run.input["labels"],
        )
        call(self._stub(run).BeginImport, request, timeout_seconds=_patience_seconds(run))

    def finish_import(self, run: Run) -> None:
        request = import_service_pb2.FinishImportRequest(
            key=run.key("begin"), instance_snapshot_id=run.input["copy_instance_snapshot_id"]
        )
        call(self._stub(run).FinishImport, request, timeout_seconds=_TIMEOUT_SECONDS)

    def withdraw_import(self, run: Run) -> None:
        request = import_service_pb2.WithdrawImportRequest(
            key=run.key("begin"), instance_snapshot_id=run.input["copy_instance_snapshot_id"]
        )
        call(self._stub(run).WithdrawImport, request, timeout_seconds=_TIMEOUT_SECONDS)

    def _stub(self, run: Run) -> import_service_pb2_grpc.ImportServiceStub:
        return import_service_pb2_grpc.ImportServiceStub(self._peers.channel(run.input["destination_region"]))


def _members(members: Iterable[disk.PointMember]) -> list[Mapping[str, Any]]:
    return [
        {
            "disk_id": member.disk_id,
            "disk_name": member.disk_name,
            "is_system_disk": member.role == disk_pb2.Disk.ROLE_SYSTEM,
            "snapshot_id": member.snapshot_id,
            "size_bytes": member.size_bytes,
            "device": member.device,
        }
        for member in members
    ]
