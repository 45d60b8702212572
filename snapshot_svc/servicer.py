"""The public RPCs of snapshot_svc: proto to use case and back. No SQL, no rules."""

import asyncio
from collections import Counter
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc import convert, repository
from snapshot_svc.service import SnapshotService
from snapshot_svc.validations import Validations
from stillpoint.snapshot.v1 import instance_snapshot_pb2, instance_snapshot_service_pb2_grpc
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from svckit import paging, updates
from svckit.caller import current_caller
from svckit.database import Database
from svckit.mutations import Mutations, SagaStart
from svckit.narrowing import Narrowing
from svckit.validation import Checks

_MOST_IN_A_BATCH = 100


class InstanceSnapshotServicer(instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceServicer):
    """stillpoint.snapshot.v1.InstanceSnapshotService."""

    def __init__(
        self,
        service: SnapshotService,
        mutations: Mutations,
        validations: Validations,
        database: Database,
        region: str,
    ) -> None:
        self._service = service
        self._mutations = mutations
        self._validations = validations
        self._database = database
        self._region = region

    async def CreateInstanceSnapshot(
        self, request: pb.CreateInstanceSnapshotRequest, context: Any
    ) -> pb.CreateInstanceSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            source = request.WhichOneof("source")
            check.that(source is not None, "source", "is not set")
            if source is not None:
                check.resource_id(source, request.instance_id or request.disk_id)
            check.name("name", request.name, required=False)
            check.description("description", request.description)
            check.labels("labels", request.labels)
            expire_time = (
                check.moment("expire_time", request.expire_time) if request.HasField("expire_time") else None
            )
        arguments: dict[str, Any] = {
            "instance_id": request.instance_id,
            "disk_id": request.disk_id,
            "name": request.name,
            "description": request.description,
            "labels": dict(request.labels),
            "expire_time": expire_time,
        }
        if request.validate_only:
            snapshot = await asyncio.to_thread(self._validations.create, **arguments)
            return pb.CreateInstanceSnapshotResponse(instance_snapshot=convert.instance_snapshot(snapshot))
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._service.create(session, operation_id, **arguments),
            pb.CreateInstanceSnapshotResponse,
        )

    def GetInstanceSnapshot(
        self, request: pb.GetInstanceSnapshotRequest, context: Any
    ) -> pb.GetInstanceSnapshotResponse:
        with Checks() as check:
            check.resource_id("instance_snapshot_id", request.instance_snapshot_id)
        with self._database.read() as session:
            snapshot = self._service.get(session, request.instance_snapshot_id)
        return pb.GetInstanceSnapshotResponse(instance_snapshot=convert.instance_snapshot(snapshot))

    def ListInstanceSnapshots(
        self, request: pb.ListInstanceSnapshotsRequest, context: Any
    ) -> pb.ListInstanceSnapshotsResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.instance_id", request.filter.instance_id, required=False)
            check.resource_id("filter.disk_id", request.filter.disk_id, required=False)
            check.enum_value(
                "filter.state", request.filter.state, instance_snapshot_pb2.InstanceSnapshot.State.values()
            )
            narrowing = Narrowing.of(check, request.filter)
        with self._database.read() as session:
            snapshots, next_page_token = repository.list_snapshots(
                session,
                paging.Page.of(request, request.filter),
                account_id=current_caller().account_id,
                region=self._region,
                instance_id=request.filter.instance_id,
                disk_id=request.filter.disk_id,
                state=convert.state(request.filter.state),
                narrowing=narrowing,
            )
        return pb.ListInstanceSnapshotsResponse(
            instance_snapshots=[convert.instance_snapshot(snapshot) for snapshot in snapshots],
            next_page_token=next_page_token,
        )

    def UpdateInstanceSnapshot(
        self, request: pb.UpdateInstanceSnapshotRequest, context: Any
    ) -> pb.UpdateInstanceSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_snapshot.id", request.instance_snapshot.id)
            changes = updates.changes(
                check,
                "instance_snapshot",
                request.instance_snapshot,
                request.update_mask,
                updates.EXPIRING,
            )
        return self._mutations.direct(
            request,
            request.instance_snapshot.id,
            lambda session: pb.UpdateInstanceSnapshotResponse(
                instance_snapshot=convert.instance_snapshot(
                    self._service.update(session, request.instance_snapshot.id, changes)
                )
            ),
            pb.UpdateInstanceSnapshotResponse,
        )

    async def RollbackInstanceSnapshot(
        self, request: pb.RollbackInstanceSnapshotRequest, context: Any
    ) -> pb.RollbackInstanceSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_snapshot_id", request.instance_snapshot_id)
            twice = [disk_id for disk_id, times in Counter(request.disk_ids).items() if times > 1]
            check.that(not twice, "disk_ids", f"has {', '.join(twice)} more than once")
        disk_ids = list(request.disk_ids)
        if request.validate_only:
            snapshot, untouched = await asyncio.to_thread(
                self._validations.roll_back, request.instance_snapshot_id, disk_ids
            )
            return pb.RollbackInstanceSnapshotResponse(
                instance_snapshot=convert.instance_snapshot(snapshot), untouched_disk_ids=untouched
            )
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._service.roll_back(
                session, operation_id, request.instance_snapshot_id, disk_ids
            ),
            pb.RollbackInstanceSnapshotResponse,
        )

    async def DeleteInstanceSnapshot(
        self, request: pb.DeleteInstanceSnapshotRequest, context: Any
    ) -> pb.DeleteInstanceSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_snapshot_id", request.instance_snapshot_id)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._service.delete(
                session, operation_id, request.instance_snapshot_id
            ),
            pb.DeleteInstanceSnapshotResponse,
        )

    async def BatchDeleteInstanceSnapshots(
        self, request: pb.BatchDeleteInstanceSnapshotsRequest, context: Any
    ) -> pb.BatchDeleteInstanceSnapshotsResponse:
        ids = list(request.instance_snapshot_ids)
        with Checks() as check:
            check.request_id(request.request_id)
            check.that(bool(ids), "instance_snapshot_ids", "is empty")
            check.that(
                len(ids) <= _MOST_IN_A_BATCH,
                "instance_snapshot_ids",
                f"has {len(ids)} ids, which is more than {_MOST_IN_A_BATCH}",
            )
            for each, times in Counter(ids[:_MOST_IN_A_BATCH]).items():
                check.that(times == 1, "instance_snapshot_ids", f"has {each!r} {times} times")
        outcomes = await self._mutations.batch(request, ids, self._delete_one_of_many)
        return pb.BatchDeleteInstanceSnapshotsResponse(results=[convert.result(each) for each in outcomes])

    async def CopyInstanceSnapshot(
        self, request: pb.CopyInstanceSnapshotRequest, context: Any
    ) -> pb.CopyInstanceSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_snapshot_id", request.instance_snapshot_id)
            check.destination("destination_region", request.destination_region, here=self._region)
            check.name("name", request.name, required=False)
        return await self._mutations.saga(
            request,
            lambda session, _operation_id: self._service.copy(
                session,
                request.instance_snapshot_id,
                destination_region=request.destination_region,
                name=request.name,
            ),
            pb.CopyInstanceSnapshotResponse,
        )

    def _delete_one_of_many(
        self, session: Session, operation_id: str, instance_snapshot_id: str
    ) -> SagaStart:
        with Checks() as check:
            check.resource_id("instance_snapshot_ids", instance_snapshot_id)
        return self._service.delete(session, operation_id, instance_snapshot_id)
