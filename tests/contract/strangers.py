"""What somebody else has, and well-formed requests that name it wherever an id can be: for tests that nobody finds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc_status import rpc_status

from stillpoint.disk.v1 import disk_service_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint_cli.addresses import Service
from svckit.errors import Refusal
from tests.contract.cloud import MIB, Cloud, a_request_id
from tests.contract.methods import Method

STREAMS = {"ReadBlocks", "WriteBlocks", "WatchOperation"}
BATCHES = {"BatchDeleteInstanceSnapshots"}

_RESOURCES = {"instance", "disk", "snapshot", "instance_snapshot", "policy"}
"""Messages that name, in an update or as what is to be made, what they are about by an id of their own."""


@dataclass(frozen=True, slots=True)
class Owned:
    """One of everything; `things` by the names of the fields that take their ids."""

    things: Mapping[str, str]
    operations: Mapping[Service, str]
    request: disk_service_pb2.CreateDiskRequest
    """One that was accepted."""


def fill(cloud: Cloud) -> Owned:
    machine = cloud.an_instance(data_disks=1)
    whole = cloud.an_instance_snapshot(machine.id)
    request = disk_service_pb2.CreateDiskRequest(request_id=a_request_id(), name="disk", size_bytes=MIB)
    snapshot_id = cloud.a_disk_snapshot(cloud.disks.CreateDisk(request).disk.id)
    things = {
        "instance_id": machine.id,
        "disk_id": machine.data_disk_ids[0],
        "snapshot_id": snapshot_id,
        "source_snapshot_id": snapshot_id,
        "instance_snapshot_id": whole.id,
        "policy_id": cloud.a_policy().id,
    }
    listing = operation_service_pb2.ListOperationsRequest()
    operations = {
        service: stub.ListOperations(listing).operations[0].id for service, stub in cloud.operations.items()
    }
    return Owned(things, operations, request)


def request_about(method: Method, owned: Owned) -> Message:
    things = {**owned.things, "operation_id": owned.operations[method.service]}
    others: dict[str, Any] = {
        "name": "south",
        "size_bytes": 2 * MIB,
        "destination_region": "east",
        "reason": "a test",
    }

    def fill(message: Any) -> Any:
        for field in message.DESCRIPTOR.fields:
            if field.name == "size_bytes" and message.DESCRIPTOR.fields_by_name.get("source_snapshot_id"):
                continue
            if field.name in things | others:
                setattr(message, field.name, (things | others)[field.name])
            elif field.name in {"weekdays", "hours"}:
                getattr(message, field.name).append(1)
            elif field.name == "disk_ids" and method.service is Service.DISK:
                message.disk_ids.append(things["disk_id"])
            elif field.type == FieldDescriptor.TYPE_MESSAGE and field.name == "system_disk":
                fill(getattr(message, field.name))
            elif field.type == FieldDescriptor.TYPE_MESSAGE and field.name in _RESOURCES:
                resource = getattr(message, field.name)
                fill(resource)
                resource.id = things[f"{field.name}_id"]
        return message

    filled: Message = fill(method.request())
    return filled


def assert_not_found(call: Callable[[], object]) -> None:
    with pytest.raises(grpc.RpcError) as error:
        call()
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type] # what a stub raises is a Call too
    refusal = Refusal.from_status(status) if status is not None else None
    assert refusal is not None, error.value
    # Where two things are named, each may be said.
    reasons = {violation.type for violation in refusal.preconditions} or {refusal.reason}
    assert all(reason.endswith("_NOT_FOUND") for reason in reasons), refusal.message
    assert "REGION_NOT_FOUND" not in reasons
