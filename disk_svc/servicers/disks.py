"""The public RPCs on disks and their snapshots: proto to use case and back. No SQL, no rules."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from disk_svc import convert
from disk_svc.models import Disk
from disk_svc.repository import disk_rows, snapshot_rows
from disk_svc.service.disks import Disks
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Rollbacks
from stillpoint.disk.v1 import (
    disk_pb2,
    disk_service_pb2,
    disk_service_pb2_grpc,
)
from svckit import paging, updates
from svckit.caller import current_caller
from svckit.mutations import Mutations
from svckit.narrowing import Narrowing
from svckit.validation import Checks


class DiskServicer(disk_service_pb2_grpc.DiskServiceServicer):
    """stillpoint.disk.v1.DiskService."""

    def __init__(self, realm: Realm, disks: Disks, rollbacks: Rollbacks, mutations: Mutations) -> None:
        self._realm = realm
        self._disks = disks
        self._rollbacks = rollbacks
        self._mutations = mutations

    async def CreateDisk(
        self, request: disk_service_pb2.CreateDiskRequest, context: Any
    ) -> disk_service_pb2.CreateDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.name("name", request.name)
            check.description("description", request.description)
            check.labels("labels", request.labels)
            check.resource_id("source_snapshot_id", request.source_snapshot_id, required=False)
            check.disk_size("size_bytes", request.size_bytes, may_be_zero=bool(request.source_snapshot_id))
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._disks.create(
                session,
                operation_id,
                name=request.name,
                description=request.description,
                labels=dict(request.labels),
                size_bytes=request.size_bytes,
                source_snapshot_id=request.source_snapshot_id,
            ),
            disk_service_pb2.CreateDiskResponse,
        )

    def GetDisk(
        self, request: disk_service_pb2.GetDiskRequest, context: Any
    ) -> disk_service_pb2.GetDiskResponse:
        with Checks() as check:
            check.resource_id("disk_id", request.disk_id)
        with self._realm.database.read() as session:
            [disk] = self._messages(session, [self._disks.get(session, request.disk_id)])
        return disk_service_pb2.GetDiskResponse(disk=disk)

    def ListDisks(
        self, request: disk_service_pb2.ListDisksRequest, context: Any
    ) -> disk_service_pb2.ListDisksResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.instance_id", request.filter.instance_id, required=False)
            check.resource_id("filter.source_snapshot_id", request.filter.source_snapshot_id, required=False)
            check.enum_value("filter.state", request.filter.state, disk_pb2.Disk.State.values())
            check.enum_value("filter.role", request.filter.role, disk_pb2.Disk.Role.values())
            narrowing = Narrowing.of(check, request.filter)
        with self._realm.database.read() as session:
            disks, next_page_token = disk_rows.list_disks(
                session,
                paging.Page.of(request, request.filter),
                account_id=current_caller().account_id,
                region=self._realm.region,
                instance_id=request.filter.instance_id,
                state=convert.disk_state(request.filter.state),
                role=convert.disk_role(request.filter.role),
                source_snapshot_id=request.filter.source_snapshot_id,
                narrowing=narrowing,
            )
            messages = self._messages(session, disks)
        return disk_service_pb2.ListDisksResponse(disks=messages, next_page_token=next_page_token)

    def UpdateDisk(
        self, request: disk_service_pb2.UpdateDiskRequest, context: Any
    ) -> disk_service_pb2.UpdateDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("disk.id", request.disk.id)
            changes = updates.changes(check, "disk", request.disk, request.update_mask)

        def change(session: Session) -> disk_service_pb2.UpdateDiskResponse:
            [disk] = self._messages(session, [self._disks.update(session, request.disk.id, changes)])
            return disk_service_pb2.UpdateDiskResponse(disk=disk)

        return self._mutations.direct(request, request.disk.id, change, disk_service_pb2.UpdateDiskResponse)

    async def ResizeDisk(
        self, request: disk_service_pb2.ResizeDiskRequest, context: Any
    ) -> disk_service_pb2.ResizeDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("disk_id", request.disk_id)
            check.disk_size("size_bytes", request.size_bytes)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._disks.resize(
                session, operation_id, request.disk_id, request.size_bytes
            ),
            disk_service_pb2.ResizeDiskResponse,
        )

    async def RollbackDisk(
        self, request: disk_service_pb2.RollbackDiskRequest, context: Any
    ) -> disk_service_pb2.RollbackDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("disk_id", request.disk_id)
            check.resource_id("snapshot_id", request.snapshot_id)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._rollbacks.start(
                session, operation_id, request.disk_id, request.snapshot_id
            ),
            disk_service_pb2.RollbackDiskResponse,
        )

    async def DeleteDisk(
        self, request: disk_service_pb2.DeleteDiskRequest, context: Any
    ) -> disk_service_pb2.DeleteDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("disk_id", request.disk_id)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._disks.delete(session, operation_id, request.disk_id),
            disk_service_pb2.DeleteDiskResponse,
        )

    def _messages(self, session: Session, disks: Sequence[Disk]) -> list[disk_pb2.Disk]:
        slots_taken = snapshot_rows.slots_taken(session, [disk.id for disk in disks])
        return [convert.disk(disk, slots_taken, self._realm.quotas) for disk in disks]
