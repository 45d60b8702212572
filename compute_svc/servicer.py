"""The public RPCs of compute_svc: proto to use case and back. No SQL, no rules."""

from typing import Any

from compute_svc import convert, repository
from compute_svc.service import ComputeService
from stillpoint.compute.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    instance_pb2,
    instance_service_pb2,
    instance_service_pb2_grpc,
)
from svckit import paging, updates
from svckit.caller import current_caller
from svckit.database import Database
from svckit.mutations import Mutations
from svckit.narrowing import Narrowing
from svckit.validation import Checks

_MAX_DATA_DISKS = 64


class InstanceServicer(instance_service_pb2_grpc.InstanceServiceServicer):
    """stillpoint.compute.v1.InstanceService."""

    def __init__(
        self, service: ComputeService, mutations: Mutations, database: Database, region: str
    ) -> None:
        self._service = service
        self._mutations = mutations
        self._database = database
        self._region = region

    async def CreateInstance(
        self, request: instance_service_pb2.CreateInstanceRequest, context: Any
    ) -> instance_service_pb2.CreateInstanceResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.name("name", request.name)
            check.description("description", request.description)
            check.labels("labels", request.labels)
            check.that(request.HasField("system_disk"), "system_disk", "is not set")
            check.that(
                len(request.data_disks) <= _MAX_DATA_DISKS, "data_disks", f"has more than {_MAX_DATA_DISKS}"
            )
            if request.HasField("system_disk"):
                _check_new_disk(check, "system_disk", request.system_disk)
            for number, disk in enumerate(request.data_disks[:_MAX_DATA_DISKS]):
                _check_new_disk(check, f"data_disks[{number}]", disk)
        return await self._mutations.saga(
            request,
            lambda session, operation_id: self._service.create_instance(
                session,
                operation_id,
                name=request.name,
                description=request.description,
                labels=dict(request.labels),
                system_disk=convert.new_disk(request.system_disk),
                data_disks=[convert.new_disk(disk) for disk in request.data_disks],
            ),
            instance_service_pb2.CreateInstanceResponse,
        )

    def GetInstance(
        self, request: instance_service_pb2.GetInstanceRequest, context: Any
    ) -> instance_service_pb2.GetInstanceResponse:
        with Checks() as check:
            check.resource_id("instance_id", request.instance_id)
        with self._database.read() as session:
            instance = self._service.get_instance(session, request.instance_id)
        return instance_service_pb2.GetInstanceResponse(instance=convert.instance(instance))

    def ListInstances(
        self, request: instance_service_pb2.ListInstancesRequest, context: Any
    ) -> instance_service_pb2.ListInstancesResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.enum_value("filter.state", request.filter.state, instance_pb2.Instance.State.values())
            narrowing = Narrowing.of(check, request.filter)
        with self._database.read() as session:
            instances, next_page_token = repository.list_instances(
                session,
                paging.Page.of(request, request.filter),
                account_id=current_caller().account_id,
                region=self._region,
                state=convert.instance_state_name(request.filter.state),
                narrowing=narrowing,
            )
        return instance_service_pb2.ListInstancesResponse(
            instances=[convert.instance(instance) for instance in instances], next_page_token=next_page_token
        )

    def UpdateInstance(
        self, request: instance_service_pb2.UpdateInstanceRequest, context: Any
    ) -> instance_service_pb2.UpdateInstanceResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance.id", request.instance.id)
            changes = updates.changes(check, "instance", request.instance, request.update_mask)
        return self._mutations.direct(
            request,
            request.instance.id,
            lambda session: instance_service_pb2.UpdateInstanceResponse(
                instance=convert.instance(
                    self._service.update_instance(session, request.instance.id, changes)
                )
            ),
            instance_service_pb2.UpdateInstanceResponse,
        )

    def StartInstance(
        self, request: instance_service_pb2.StartInstanceRequest, context: Any
    ) -> instance_service_pb2.StartInstanceResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
        return self._mutations.direct(
            request,
            request.instance_id,
            lambda session: instance_service_pb2.StartInstanceResponse(
                instance=convert.instance(self._service.start_instance(session, request.instance_id))
            ),
            instance_service_pb2.StartInstanceResponse,
        )

    def StopInstance(
        self, request: instance_service_pb2.StopInstanceRequest, context: Any
    ) -> instance_service_pb2.StopInstanceResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
        return self._mutations.direct(
            request,
            request.instance_id,
            lambda session: instance_service_pb2.StopInstanceResponse(
                instance=convert.instance(
                    self._service.stop_instance(session, request.instance_id, no_charge=request.no_charge)
                )
            ),
            instance_service_pb2.StopInstanceResponse,
        )

    async def DeleteInstance(
        self, request: instance_service_pb2.DeleteInstanceRequest, context: Any
    ) -> instance_service_pb2.DeleteInstanceResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
        return await self._mutations.saga(
            request,
            lambda session, _operation_id: self._service.delete_instance(session, request.instance_id),
            instance_service_pb2.DeleteInstanceResponse,
        )

    async def AttachDisk(
        self, request: instance_service_pb2.AttachDiskRequest, context: Any
    ) -> instance_service_pb2.AttachDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
            check.resource_id("disk_id", request.disk_id)
        return await self._mutations.saga(
            request,
            lambda session, _operation_id: self._service.attach_disk(
                session, request.instance_id, request.disk_id
            ),
            instance_service_pb2.AttachDiskResponse,
        )

    async def DetachDisk(
        self, request: instance_service_pb2.DetachDiskRequest, context: Any
    ) -> instance_service_pb2.DetachDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
            check.resource_id("disk_id", request.disk_id)
        return await self._mutations.saga(
            request,
            lambda session, _operation_id: self._service.detach_disk(
                session, request.instance_id, request.disk_id
            ),
            instance_service_pb2.DetachDiskResponse,
        )

    async def RollbackDisk(
        self, request: instance_service_pb2.RollbackDiskRequest, context: Any
    ) -> instance_service_pb2.RollbackDiskResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("instance_id", request.instance_id)
            check.resource_id("disk_id", request.disk_id)
            check.resource_id("snapshot_id", request.snapshot_id)
        return await self._mutations.saga(
            request,
            lambda session, _operation_id: self._service.roll_back_disk(
                session, request.instance_id, request.disk_id, request.snapshot_id
            ),
            instance_service_pb2.RollbackDiskResponse,
        )


class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """stillpoint.compute.v1.AccountService."""

    def __init__(self, service: ComputeService, mutations: Mutations, database: Database) -> None:
        self._service = service
        self._mutations = mutations
        self._database = database

    def GetAccount(
        self, request: account_service_pb2.GetAccountRequest, context: Any
    ) -> account_service_pb2.GetAccountResponse:
        with Checks() as check:
            check.resource_id("account_id", request.account_id, required=False)
        account_id = request.account_id or current_caller().account_id
        with self._database.read() as session:
            standing = self._service.standing_of(session, account_id)
        return account_service_pb2.GetAccountResponse(account=convert.account(account_id, standing))

    def SetAccountStanding(
        self, request: account_service_pb2.SetAccountStandingRequest, context: Any
    ) -> account_service_pb2.SetAccountStandingResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("account_id", request.account_id, required=False)
            check.enum_value(
                "standing", request.standing, account_service_pb2.Account.Standing.values(), required=True
            )
        account_id = request.account_id or current_caller().account_id
        standing = convert.standing(request.standing)

        def change(session: Any) -> account_service_pb2.SetAccountStandingResponse:
            repository.set_standing(session, account_id, standing)
            return account_service_pb2.SetAccountStandingResponse(
                account=convert.account(account_id, standing)
            )

        return self._mutations.direct(
            request, account_id, change, account_service_pb2.SetAccountStandingResponse
        )


def _check_new_disk(check: Checks, field: str, disk: instance_service_pb2.NewDisk) -> None:
    check.name(f"{field}.name", disk.name, required=False)
    check.resource_id(f"{field}.source_snapshot_id", disk.source_snapshot_id, required=False)
    check.disk_size(f"{field}.size_bytes", disk.size_bytes, may_be_zero=bool(disk.source_snapshot_id))
