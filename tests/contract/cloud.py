"""A deployment as its clients see it: generated stubs, and makers of what tests need.

Whatever is made has a name of its own, so a test depends neither on an empty deployment nor on another test.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_status import rpc_status

from stillpoint.compute.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    instance_pb2,
    instance_service_pb2,
    instance_service_pb2_grpc,
)
from stillpoint.disk.v1 import (
    auto_snapshot_policy_pb2,
    auto_snapshot_policy_service_pb2,
    auto_snapshot_policy_service_pb2_grpc,
    block_service_pb2,
    block_service_pb2_grpc,
    disk_pb2,
    disk_service_pb2,
    disk_service_pb2_grpc,
    disk_snapshot_pb2,
    disk_snapshot_service_pb2,
    disk_snapshot_service_pb2_grpc,
)
from stillpoint.operation.v1 import (
    event_service_pb2,
    event_service_pb2_grpc,
    operation_pb2,
    operation_service_pb2,
    operation_service_pb2_grpc,
)
from stillpoint.snapshot.v1 import (
    instance_snapshot_pb2,
    instance_snapshot_service_pb2,
    instance_snapshot_service_pb2_grpc,
)
from stillpoint_cli.addresses import Addresses, Service
from tests.contract.error_tables import Observed

MIB = 1 << 20
LONGEST_CALL_SECONDS = 30.0
ACCOUNT = "local"
EVERY_DAY = auto_snapshot_policy_pb2.Weekday.values()[1:]

_SERVICE_OF_PREFIX = {"op-c": Service.COMPUTE, "op-d": Service.DISK, "op-s": Service.SNAPSHOT}


def a_name(what: str) -> str:
    return f"contract-{what}-{uuid.uuid4().hex[:12]}"


def a_request_id() -> str:
    return str(uuid.uuid4())


def an_unknown_id(prefix: str) -> str:
    """Of the right form, and of nothing."""
    return f"{prefix}-{uuid.uuid4().hex[:26]}"


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance that was made, and its disks."""

    id: str
    name: str
    system_disk_id: str
    data_disk_ids: list[str]

    @property
    def disk_ids(self) -> list[str]:
        return [self.system_disk_id, *self.data_disk_ids]


class Cloud:
    """The public ports."""

    def __init__(
        self, addresses: Addresses, observed: Observed, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.addresses = addresses
        self._credentials = credentials
        self._observed = observed
        self._open: list[grpc.Channel] = []
        self.channels = {service: self.open_channel(addresses.of(service).public) for service in Service}
        compute, disk = self.channels[Service.COMPUTE], self.channels[Service.DISK]
        self.instances = instance_service_pb2_grpc.InstanceServiceStub(compute)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(compute)
        self.disks = disk_service_pb2_grpc.DiskServiceStub(disk)
        self.disk_snapshots = disk_snapshot_service_pb2_grpc.DiskSnapshotServiceStub(disk)
        self.policies = auto_snapshot_policy_service_pb2_grpc.AutoSnapshotPolicyServiceStub(disk)
        self.blocks = block_service_pb2_grpc.BlockServiceStub(disk)
        self.instance_snapshots = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(
            self.channels[Service.SNAPSHOT]
        )
        self.operations = {
            service: operation_service_pb2_grpc.OperationServiceStub(channel)
            for service, channel in self.channels.items()
        }
        self.events = {
            service: event_service_pb2_grpc.EventServiceStub(channel)
            for service, channel in self.channels.items()
        }

    def open_channel(self, address: str) -> grpc.Channel:
        """One whose refusals are noted, and on which no call lasts for ever."""
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        channel = (
            grpc.insecure_channel(address, options=options)
            if self._credentials is None
            else grpc.secure_channel(address, self._credentials, options=options)
        )
        self._open.append(channel)
        return grpc.intercept_channel(channel, _Noting(self._observed))

    def close(self) -> None:
        for channel in self._open:
            channel.close()

    # Makers

    def an_instance(
        self, *, data_disks: int = 0, stopped: bool = False, size_bytes: int = MIB, name: str = ""
    ) -> Machine:
        new_disk = instance_service_pb2.NewDisk(size_bytes=size_bytes)
        answer = self.instances.CreateInstance(
            instance_service_pb2.CreateInstanceRequest(
                name=name or a_name("instance"), system_disk=new_disk, data_disks=[new_disk] * data_disks
            )
        )
        machine = Machine(
            answer.instance.id,
            answer.instance.name,
            answer.instance.system_disk_id,
            list(answer.data_disk_ids),
        )
        if stopped:
            self.stop(machine.id)
        return machine

    def a_disk(self, *, size_bytes: int = MIB, source_snapshot_id: str = "", name: str = "") -> str:
        """The id of a detached data disk."""
        answer = self.disks.CreateDisk(
            disk_service_pb2.CreateDiskRequest(
                name=name or a_name("disk"),
                size_bytes=0 if source_snapshot_id else size_bytes,
                source_snapshot_id=source_snapshot_id,
            )
        )
        return answer.disk.id

    def a_disk_snapshot(self, disk_id: str = "") -> str:
        """The id of an AVAILABLE snapshot, of a disk of its own where none is named."""
        answer = self.disk_snapshots.CreateDiskSnapshot(
            disk_snapshot_service_pb2.CreateDiskSnapshotRequest(
                disk_id=disk_id or self.a_disk(), name=a_name("snapshot")
            )
        )
        self.finish(answer.operation_id)
        return answer.snapshot.id

    def an_instance_snapshot(self, instance_id: str) -> instance_snapshot_pb2.InstanceSnapshot:
        """An AVAILABLE one."""
        answer = self.instance_snapshots.CreateInstanceSnapshot(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                instance_id=instance_id, name=a_name("whole")
            )
        )
        self.finish(answer.operation_id)
        return self.instance_snapshot(answer.instance_snapshot.id)

    def a_policy(self, *disk_ids: str, **settings: Any) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        """Every day at 02:00 UTC, unless the settings say otherwise."""
        policy = auto_snapshot_policy_pb2.AutoSnapshotPolicy(
            **{
                "name": a_name("policy"),
                "weekdays": EVERY_DAY,
                "hours": [2],
                "disk_ids": disk_ids,
                **settings,
            }
        )
        request = auto_snapshot_policy_service_pb2.CreateAutoSnapshotPolicyRequest(policy=policy)
        return self.policies.CreateAutoSnapshotPolicy(request).policy

    def fill_snapshot_slots(self, disk_id: str) -> list[str]:
        """Take every manual slot of a disk; returns the snapshots."""
        slots = self.disk(disk_id).manual_snapshots
        return [self.a_disk_snapshot(disk_id) for _ in range(slots.limit - slots.used)]

    @contextmanager
    def account_in_debt(self) -> Iterator[None]:
        """The one account there is without authentication, which every test shares."""
        try:
            self.set_standing(ACCOUNT, account_service_pb2.Account.STANDING_IN_DEBT)
            yield
        finally:
            self.set_standing(ACCOUNT, account_service_pb2.Account.STANDING_GOOD)

    # What a test does on its way

    def set_standing(
        self, account_id: str, standing: "account_service_pb2.Account.Standing.ValueType"
    ) -> None:
        request = account_service_pb2.SetAccountStandingRequest(account_id=account_id, standing=standing)
        self.accounts.SetAccountStanding(request)

    def start(self, instance_id: str) -> None:
        self.instances.StartInstance(instance_service_pb2.StartInstanceRequest(instance_id=instance_id))

    def stop(self, instance_id: str) -> None:
        self.instances.StopInstance(instance_service_pb2.StopInstanceRequest(instance_id=instance_id))

    def attach(self, instance_id: str, disk_id: str) -> None:
        self.instances.AttachDisk(
            instance_service_pb2.AttachDiskRequest(instance_id=instance_id, disk_id=disk_id)
        )

    def detach(self, instance_id: str, disk_id: str) -> None:
        self.instances.DetachDisk(
            instance_service_pb2.DetachDiskRequest(instance_id=instance_id, disk_id=disk_id)
        )

    def roll_back_disk_on(self, instance_id: str, disk_id: str, snapshot_id: str) -> instance_pb2.Instance:
        request = instance_service_pb2.RollbackDiskRequest(
            instance_id=instance_id, disk_id=disk_id, snapshot_id=snapshot_id
        )
        return self.instances.RollbackDisk(request).instance

    def delete_instance(self, instance_id: str) -> None:
        self.instances.DeleteInstance(instance_service_pb2.DeleteInstanceRequest(instance_id=instance_id))

    def resize(self, disk_id: str, size_bytes: int) -> disk_pb2.Disk:
        request = disk_service_pb2.ResizeDiskRequest(disk_id=disk_id, size_bytes=size_bytes)
        return self.disks.ResizeDisk(request).disk

    def roll_back_disk(self, disk_id: str, snapshot_id: str) -> disk_pb2.Disk:
        request = disk_service_pb2.RollbackDiskRequest(disk_id=disk_id, snapshot_id=snapshot_id)
        return self.disks.RollbackDisk(request).disk

    def delete_disk(self, disk_id: str) -> None:
        self.finish(self.disks.DeleteDisk(disk_service_pb2.DeleteDiskRequest(disk_id=disk_id)).operation_id)

    def delete_policies(self) -> None:
        """All that any run of this suite has made."""
        page = auto_snapshot_policy_service_pb2.ListAutoSnapshotPoliciesRequest(page_size=500)
        while True:
            answer = self.policies.ListAutoSnapshotPolicies(page)
            for policy in answer.policies:
                if policy.name.startswith("contract-"):
                    self.policies.DeleteAutoSnapshotPolicy(
                        auto_snapshot_policy_service_pb2.DeleteAutoSnapshotPolicyRequest(policy_id=policy.id)
                    )
            page.page_token = answer.next_page_token
            if not page.page_token:
                return

    def roll_back(self, instance_snapshot_id: str) -> None:
        answer = self.instance_snapshots.RollbackInstanceSnapshot(
            instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest(
                instance_snapshot_id=instance_snapshot_id
            )
        )
        self.finish(answer.operation_id)

    def delete_instance_snapshot(self, instance_snapshot_id: str) -> None:
        answer = self.instance_snapshots.DeleteInstanceSnapshot(
            instance_snapshot_service_pb2.DeleteInstanceSnapshotRequest(
                instance_snapshot_id=instance_snapshot_id
            )
        )
        self.finish(answer.operation_id)

    # What there is

    def instance(self, instance_id: str) -> instance_pb2.Instance:
        request = instance_service_pb2.GetInstanceRequest(instance_id=instance_id)
        return self.instances.GetInstance(request).instance

    def disk(self, disk_id: str) -> disk_pb2.Disk:
        return self.disks.GetDisk(disk_service_pb2.GetDiskRequest(disk_id=disk_id)).disk

    def disk_snapshot(self, snapshot_id: str) -> disk_snapshot_pb2.DiskSnapshot:
        request = disk_snapshot_service_pb2.GetDiskSnapshotRequest(snapshot_id=snapshot_id)
        return self.disk_snapshots.GetDiskSnapshot(request).snapshot

    def snapshots_of(
        self, *, disk_id: str = "", instance_snapshot_id: str = ""
    ) -> Sequence[disk_snapshot_pb2.DiskSnapshot]:
        listed = self.disk_snapshots.ListDiskSnapshots(
            disk_snapshot_service_pb2.ListDiskSnapshotsRequest(
                filter=disk_snapshot_service_pb2.ListDiskSnapshotsRequest.Filter(
                    disk_id=disk_id, instance_snapshot_id=instance_snapshot_id
                ),
                page_size=500,
            )
        )
        assert not listed.next_page_token
        return listed.snapshots

    def policy(self, policy_id: str) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        request = auto_snapshot_policy_service_pb2.GetAutoSnapshotPolicyRequest(policy_id=policy_id)
        return self.policies.GetAutoSnapshotPolicy(request).policy

    def instance_snapshot(self, instance_snapshot_id: str) -> instance_snapshot_pb2.InstanceSnapshot:
        request = instance_snapshot_service_pb2.GetInstanceSnapshotRequest(
            instance_snapshot_id=instance_snapshot_id
        )
        return self.instance_snapshots.GetInstanceSnapshot(request).instance_snapshot

    def instance_snapshots_of(self, instance_id: str) -> Sequence[instance_snapshot_pb2.InstanceSnapshot]:
        return self.instance_snapshots.ListInstanceSnapshots(
            instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(
                filter=instance_snapshot_service_pb2.ListInstanceSnapshotsRequest.Filter(
                    instance_id=instance_id
                )
            )
        ).instance_snapshots

    def operations_on(self, service: Service, resource_id: str) -> Sequence[operation_pb2.Operation]:
        request = operation_service_pb2.ListOperationsRequest(
            filter=operation_service_pb2.ListOperationsRequest.Filter(resource_id=resource_id)
        )
        return self.operations[service].ListOperations(request).operations

    def events_of(self, service: Service, resource_id: str) -> list[str]:
        """The types of a resource's events, oldest first."""
        request = event_service_pb2.ListEventsRequest(
            filter=event_service_pb2.ListEventsRequest.Filter(resource_id=resource_id), page_size=500
        )
        return [event.type for event in reversed(self.events[service].ListEvents(request).events)]

    # Operations

    def rest(self, operation_id: str) -> operation_pb2.Operation:
        """The operation when it has come to rest, however."""
        request = operation_service_pb2.WatchOperationRequest(operation_id=operation_id)
        stub = self.operations[_SERVICE_OF_PREFIX[operation_id[:4]]]
        *_, last = stub.WatchOperation(request)
        return last.operation

    def finish(self, operation_id: str) -> operation_pb2.Operation:
        """The operation when it has succeeded."""
        operation = self.rest(operation_id)
        assert operation.state == operation_pb2.Operation.STATE_SUCCEEDED, operation
        return operation

    # Bytes

    def write(self, disk_id: str, *extents: tuple[int, bytes]) -> None:
        """One message, durable."""
        answers = list(self.blocks.WriteBlocks(iter([write_message(disk_id, *extents)])))
        assert [answer.messages_durable for answer in answers] == [1]

    def read_pieces(
        self, object_id: str, offset_bytes: int = 0, length_bytes: int = 0
    ) -> list[block_service_pb2.ReadBlocksResponse]:
        """Of a disk or a snapshot, whichever the id says."""
        request = block_service_pb2.ReadBlocksRequest(offset_bytes=offset_bytes, length_bytes=length_bytes)
        setattr(request, "snapshot_id" if object_id.startswith("snap-") else "disk_id", object_id)
        return list(self.blocks.ReadBlocks(request))

    def read(self, object_id: str, offset_bytes: int = 0, length_bytes: int = 0) -> bytes:
        return joined(self.read_pieces(object_id, offset_bytes, length_bytes), offset_bytes)


def write_message(disk_id: str, *extents: tuple[int, bytes]) -> block_service_pb2.WriteBlocksRequest:
    return block_service_pb2.WriteBlocksRequest(
        disk_id=disk_id,
        extents=[block_service_pb2.Extent(offset_bytes=offset, data=data) for offset, data in extents],
    )


def joined(pieces: Iterable[block_service_pb2.ReadBlocksResponse], offset_bytes: int = 0) -> bytes:
    """The bytes that the pieces of a stream are; they follow each other without gaps."""
    content = bytearray()
    for piece in pieces:
        assert piece.offset_bytes == offset_bytes + len(content), "a gap, or an overlap"
        assert piece.length_bytes > 0
        assert len(piece.data) in (0, piece.length_bytes)
        assert len(piece.data) <= MIB
        content += piece.data or bytes(piece.length_bytes)
    return bytes(content)


@dataclass(frozen=True, slots=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Noting(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Notes every refusal, and gives every call a deadline."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        bounded = _Details(
            details.method,
            LONGEST_CALL_SECONDS if details.timeout is None else details.timeout,
            details.metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        call = continuation(bounded, request)
        # Of an answer there is nothing to note; a call that still runs is noted when it has ended.
        call.add_done_callback(lambda ended: self._note(details.method, ended))
        return call

    def _note(self, method: str, call: Any) -> None:
        if call.code() is grpc.StatusCode.OK:
            return
        status = rpc_status.from_call(call)
        if status is not None:
            self._observed.note(method, call.code(), status)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._call(continuation, client_call_details, request_iterator)
