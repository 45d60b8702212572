"""The internal RPCs of disk_svc: the steps of other services' sagas that are about disks."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from disk_svc import convert
from disk_svc.blockstore import Restore
from disk_svc.repository import hold_rows
from disk_svc.service import store_check
from disk_svc.service.copies import MemberCopies
from disk_svc.service.disks import Disks
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Deletions, Rollbacks
from stillpoint.disk.v1 import disk_pb2, participant_service_pb2_grpc
from stillpoint.disk.v1 import participant_service_pb2 as pb
from stillpoint.operation.v1 import operation_pb2
from svckit import paging
from svckit.clock import to_timestamp
from svckit.operations import progress_of
from svckit.steps import must_be_new, must_name_each_once
from svckit.validation import Checks

_DIFFERENCES_AT_ONCE = 100
_SLICES_AT_ONCE = 4
"""Of a scrub, in a thread that requests wait for too: at most 16 MiB each."""


class ParticipantServicer(participant_service_pb2_grpc.ParticipantServiceServicer):
    """stillpoint.disk.v1.ParticipantService."""

    def __init__(
        self,
        realm: Realm,
        disks: Disks,
        points: Points,
        rollbacks: Rollbacks,
        deletions: Deletions,
        *,
        copies: MemberCopies,
    ) -> None:
        self._realm = realm
        self._disks = disks
        self._points = points
        self._rollbacks = rollbacks
        self._deletions = deletions
        self._copies = copies

    # Disks of an instance

    def CreateInstanceDisks(
        self, request: pb.CreateInstanceDisksRequest, context: Any
    ) -> pb.CreateInstanceDisksResponse:
        with Checks() as check:
            check.resource_id("instance_id", request.instance_id)
            must_name_each_once(check, "disks", "disk_id", request.disks, prefix="disk-")
            for number, disk in enumerate(request.disks):
                at = f"disks[{number}]"
                check.enum_value(f"{at}.role", disk.role, disk_pb2.Disk.Role.values(), required=True)
                check.disk_size(
                    f"{at}.size_bytes", disk.size_bytes, may_be_zero=bool(disk.source_snapshot_id)
                )
        with must_be_new("disks"):
            self._disks.create_for_instance(
                request.key,
                request.operation_id,
                request.account_id,
                request.instance_id,
                [convert.instance_disk(disk) for disk in request.disks],
            )
        return pb.CreateInstanceDisksResponse()

    def WithdrawInstanceDisks(
        self, request: pb.WithdrawInstanceDisksRequest, context: Any
    ) -> pb.WithdrawInstanceDisksResponse:
        self._disks.withdraw_for_instance(request.key, request.disk_ids)
        return pb.WithdrawInstanceDisksResponse()

    def ReleaseInstanceDisks(
        self, request: pb.ReleaseInstanceDisksRequest, context: Any
    ) -> pb.ReleaseInstanceDisksResponse:
        if request.validate_only:
            self._disks.check_release(request.account_id, request.instance_id)
            return pb.ReleaseInstanceDisksResponse()
        detached = self._disks.release_from_instance(
            request.key, request.operation_id, request.account_id, request.instance_id
        )
        return pb.ReleaseInstanceDisksResponse(detached_disk_ids=detached)

    def AttachDisk(self, request: pb.AttachDiskRequest, context: Any) -> pb.AttachDiskResponse:
        if request.validate_only:
            self._disks.check_attach(request.account_id, request.disk_id)
        else:
            with Checks() as check:
                check.that(bool(request.instance_id), "instance_id", "is empty")
            self._disks.attach(request.key, request.account_id, request.instance_id, request.disk_id)
        return pb.AttachDiskResponse()

    def DetachDisk(self, request: pb.DetachDiskRequest, context: Any) -> pb.DetachDiskResponse:
        if request.validate_only:
            self._disks.check_detach(request.account_id, request.instance_id, request.disk_id)
        else:
            self._disks.detach(request.key, request.account_id, request.instance_id, request.disk_id)
        return pb.DetachDiskResponse()

    # Consistency points

    def LocateDisk(self, request: pb.LocateDiskRequest, context: Any) -> pb.LocateDiskResponse:
        with self._realm.database.read() as session:
            instance_id = self._disks.locate(session, request.account_id, request.disk_id)
        return pb.LocateDiskResponse(instance_id=instance_id)

    def CreateConsistencyPoint(
        self, request: pb.CreateConsistencyPointRequest, context: Any
    ) -> pb.CreateConsistencyPointResponse:
        if request.validate_only:
            members = self._points.check(request.account_id, request.instance_id, request.disk_id)
            return pb.CreateConsistencyPointResponse(members=[convert.member(member) for member in members])
        members, cut_time = self._points.create(
            request.key,
            request.operation_id,
            account_id=request.account_id,
            instance_id=request.instance_id,
            must_have=request.disk_id,
            instance_snapshot_id=request.instance_snapshot_id,
            snapshot_name=request.snapshot_name,
        )
        return pb.CreateConsistencyPointResponse(
            members=[convert.member(member) for member in members], cut_time=to_timestamp(cut_time)
        )

    def WithdrawConsistencyPoint(
        self, request: pb.WithdrawConsistencyPointRequest, context: Any
    ) -> pb.WithdrawConsistencyPointResponse:
        self._points.withdraw(request.key)
        return pb.WithdrawConsistencyPointResponse()

    def SealConsistencyPoint(
        self, request: pb.SealConsistencyPointRequest, context: Any
    ) -> pb.SealConsistencyPointResponse:
        results = self._points.seal(request.key)
        return pb.SealConsistencyPointResponse(results=[convert.seal_result(result) for result in results])

    def FinishConsistencyPoint(
        self, request: pb.FinishConsistencyPointRequest, context: Any
    ) -> pb.FinishConsistencyPointResponse:
        with self._realm.database.write() as session:
            self._points.finish(session, request.key)
        return pb.FinishConsistencyPointResponse()

    # Rollback

    def ReserveRollback(self, request: pb.ReserveRollbackRequest, context: Any) -> pb.ReserveRollbackResponse:
        with Checks() as check:
            must_name_each_once(check, "targets", "disk_id", request.targets)
        targets = [Restore(target.disk_id, target.snapshot_id) for target in request.targets]
        if request.validate_only:
            untouched = self._rollbacks.check(
                request.account_id, request.instance_id, targets, attached_only=request.attached_only
            )
        else:
            untouched = self._rollbacks.reserve(
                request.key,
                request.operation_id,
                account_id=request.account_id,
                instance_id=request.instance_id,
                targets=targets,
                attached_only=request.attached_only,
            )
        return pb.ReserveRollbackResponse(untouched_disk_ids=untouched)

    def WithdrawRollback(
        self, request: pb.WithdrawRollbackRequest, context: Any
    ) -> pb.WithdrawRollbackResponse:
        self._rollbacks.withdraw(request.key)
        return pb.WithdrawRollbackResponse()

    def ApplyRollback(self, request: pb.ApplyRollbackRequest, context: Any) -> pb.ApplyRollbackResponse:
        self._rollbacks.apply(request.key)
        return pb.ApplyRollbackResponse()

    # Deletion of members

    def ReserveSnapshotDeletion(
        self, request: pb.ReserveSnapshotDeletionRequest, context: Any
    ) -> pb.ReserveSnapshotDeletionResponse:
        self._deletions.reserve(
            request.key,
            request.operation_id,
            account_id=request.account_id,
            instance_snapshot_id=request.instance_snapshot_id,
        )
        return pb.ReserveSnapshotDeletionResponse()

    def WithdrawSnapshotDeletion(
        self, request: pb.WithdrawSnapshotDeletionRequest, context: Any
    ) -> pb.WithdrawSnapshotDeletionResponse:
        self._deletions.withdraw(request.key)
        return pb.WithdrawSnapshotDeletionResponse()

    def ApplySnapshotDeletion(
        self, request: pb.ApplySnapshotDeletionRequest, context: Any
    ) -> pb.ApplySnapshotDeletionResponse:
        self._deletions.apply(request.key)
        return pb.ApplySnapshotDeletionResponse()

    # Copies to another region

    def StartCopy(self, request: pb.StartCopyRequest, context: Any) -> pb.StartCopyResponse:
        with Checks() as check:
            must_name_each_once(check, "members", "snapshot_id", request.members)
            must_name_each_once(check, "members", "copy_snapshot_id", request.members, prefix="snap-")
        operation_id = self._copies.start(
            request.key,
            request.operation_id,
            account_id=request.account_id,
            region=request.destination_region,
            instance_snapshot_id=request.instance_snapshot_id,
            copy_ids={member.snapshot_id: member.copy_snapshot_id for member in request.members},
            name=request.copy_name,
            copy_instance_snapshot_id=request.copy_instance_snapshot_id,
        )
        return pb.StartCopyResponse(copy_operation_id=operation_id)

    def GetCopy(self, request: pb.GetCopyRequest, context: Any) -> pb.GetCopyResponse:
        saga = self._copies.find(request.copy_operation_id)
        return pb.GetCopyResponse(
            state=operation_pb2.Operation.State.Value(f"STATE_{saga.state}"),
            progress=progress_of(saga),
            error=saga.error or b"",
        )

    # For doctor

    def ListHolds(self, request: pb.ListHoldsRequest, context: Any) -> pb.ListHoldsResponse:
        with Checks() as check:
            check.page_size(request.page_size)
        with self._realm.database.read() as session:
            rows, next_page_token = hold_rows.list_holds(
                session, paging.Page.of(request), region=self._realm.region
            )
        return pb.ListHoldsResponse(
            holds=[
                pb.Hold(
                    kind=row.kind,
                    resource_id=row.resource_id,
                    operation_id=row.operation_id,
                    since=to_timestamp(row.since),
                    operation_region=row.operation_region,
                )
                for row in rows
            ],
            next_page_token=next_page_token,
        )

    async def CheckStore(
        self, request: pb.CheckStoreRequest, context: Any
    ) -> AsyncIterator[pb.CheckStoreResponse]:
        differences = store_check.differences(self._realm)
        while batch := await asyncio.to_thread(lambda: list(islice(differences, _DIFFERENCES_AT_ONCE))):
            for object_id, problem in batch:
                yield pb.CheckStoreResponse(object_id=object_id, problem=problem)

    async def ScrubStore(
        self, request: pb.ScrubStoreRequest, context: Any
    ) -> AsyncIterator[pb.ScrubStoreResponse]:
        slices = self._realm.store.scrub()
        while batch := await asyncio.to_thread(lambda: list(islice(slices, _SLICES_AT_ONCE))):
            yield pb.ScrubStoreResponse(
                checked_bytes=sum(each.checked_bytes for each in batch),
                damages=[
                    pb.Damage(object_id=loss.object_id, offset_bytes=loss.offset_bytes)
                    for each in batch
                    for loss in each.lost
                ],
            )
