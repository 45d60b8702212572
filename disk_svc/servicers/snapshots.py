"""The public RPCs on disks and their snapshots: proto to use case and back. No SQL, no rules."""

from typing import Any

from disk_svc import convert
from disk_svc.repository import snapshot_rows
from disk_svc.service.copies import Copies
from disk_svc.service.realm import Realm
from disk_svc.service.snapshots import Snapshots
from stillpoint.disk.v1 import (
    disk_snapshot_pb2,
    disk_snapshot_service_pb2,
    disk_snapshot_service_pb2_grpc,
)
from svckit import paging, updates
from svckit.caller import current_caller
from svckit.mutations import Mutations
from svckit.narrowing import Narrowing
from svckit.validation import Checks


class DiskSnapshotServicer(disk_snapshot_service_pb2_grpc.DiskSnapshotServiceServicer):
    """stillpoint.disk.v1.DiskSnapshotService."""

    def __init__(self, realm: Realm, snapshots: Snapshots, copies: Copies, mutations: Mutations) -> None:
        self._realm = realm
        self._snapshots = snapshots
        self._copies = copies
        self._mutations = mutations

    async def CreateDiskSnapshot(
        self, request: disk_snapshot_service_pb2.CreateDiskSnapshotRequest, context: Any
    ) -> disk_snapshot_service_pb2.CreateDiskSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("disk_id", request.disk_id)
            check.name("name", request.name, required=False)
            check.description("description", request.description)
            check.labels("labels", request.labels)
            expire_time = (
                check.moment("expire_time", request.expire_time) if request.HasField("expire_time") else None
            )
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._snapshots.create(
                session,
                operation_id,
                request.disk_id,
                name=request.name,
                description=request.description,
                labels=dict(request.labels),
                expire_time=expire_time,
            ),
            disk_snapshot_service_pb2.CreateDiskSnapshotResponse,
        )

    def GetDiskSnapshot(
        self, request: disk_snapshot_service_pb2.GetDiskSnapshotRequest, context: Any
    ) -> disk_snapshot_service_pb2.GetDiskSnapshotResponse:
        with Checks() as check:
            check.resource_id("snapshot_id", request.snapshot_id)
        with self._realm.database.read() as session:
            snapshot = self._snapshots.get(session, request.snapshot_id)
        return disk_snapshot_service_pb2.GetDiskSnapshotResponse(snapshot=convert.snapshot(snapshot))

    def ListDiskSnapshots(
        self, request: disk_snapshot_service_pb2.ListDiskSnapshotsRequest, context: Any
    ) -> disk_snapshot_service_pb2.ListDiskSnapshotsResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.disk_id", request.filter.disk_id, required=False)
            check.resource_id(
                "filter.instance_snapshot_id", request.filter.instance_snapshot_id, required=False
            )
            check.enum_value(
                "filter.state", request.filter.state, disk_snapshot_pb2.DiskSnapshot.State.values()
            )
            check.enum_value("filter.kind", request.filter.kind, disk_snapshot_pb2.DiskSnapshot.Kind.values())
            narrowing = Narrowing.of(check, request.filter)
        with self._realm.database.read() as session:
            snapshots, next_page_token = snapshot_rows.list_snapshots(
                session,
                paging.Page.of(request, request.filter),
                account_id=current_caller().account_id,
                region=self._realm.region,
                disk_id=request.filter.disk_id,
                instance_snapshot_id=request.filter.instance_snapshot_id,
                state=convert.snapshot_state(request.filter.state),
                kind=convert.snapshot_kind(request.filter.kind),
                narrowing=narrowing,
            )
        return disk_snapshot_service_pb2.ListDiskSnapshotsResponse(
            snapshots=[convert.snapshot(snapshot) for snapshot in snapshots], next_page_token=next_page_token
        )

    def UpdateDiskSnapshot(
        self, request: disk_snapshot_service_pb2.UpdateDiskSnapshotRequest, context: Any
    ) -> disk_snapshot_service_pb2.UpdateDiskSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("snapshot.id", request.snapshot.id)
            changes = updates.changes(
                check, "snapshot", request.snapshot, request.update_mask, updates.EXPIRING
            )
        return self._mutations.direct(
            request,
            request.snapshot.id,
            lambda session: disk_snapshot_service_pb2.UpdateDiskSnapshotResponse(
                snapshot=convert.snapshot(self._snapshots.update(session, request.snapshot.id, changes))
            ),
            disk_snapshot_service_pb2.UpdateDiskSnapshotResponse,
        )

    async def DeleteDiskSnapshot(
        self, request: disk_snapshot_service_pb2.DeleteDiskSnapshotRequest, context: Any
    ) -> disk_snapshot_service_pb2.DeleteDiskSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("snapshot_id", request.snapshot_id)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._snapshots.delete(session, operation_id, request.snapshot_id),
            disk_snapshot_service_pb2.DeleteDiskSnapshotResponse,
        )

    async def CopyDiskSnapshot(
        self, request: disk_snapshot_service_pb2.CopyDiskSnapshotRequest, context: Any
    ) -> disk_snapshot_service_pb2.CopyDiskSnapshotResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("snapshot_id", request.snapshot_id)
            check.destination("destination_region", request.destination_region, here=self._realm.region)
            check.name("name", request.name, required=False)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._copies.start(
                session, operation_id, request.snapshot_id, request.destination_region, request.name
            ),
            disk_snapshot_service_pb2.CopyDiskSnapshotResponse,
        )
