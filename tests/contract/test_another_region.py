"""Services that are started in another region on databases that a region has filled: what they hold of it is not there for
their clients. "Ids of another region are NOT_FOUND, lists show this region only."
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc_status import rpc_status

from stillpoint.compute.v1 import participant_service_pb2 as compute_participant_pb2
from stillpoint.disk.v1 import disk_service_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk_participant_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import DEFAULT_ADDRESSES, Service
from svckit.errors import Refusal
from tests.contract.cloud import MIB, Cloud, a_request_id
from tests.contract.error_tables import DISK, Observed
from tests.contract.inside import Inside
from tests.contract.methods import LISTS, METHODS, Method
from tests.contract.refusals import refused
from tests.support.deployments import deployed, named_target

_NO_REGIONS = {"GetAccount", "SetAccountStanding"}
"""An account is in every region."""
_STREAMS = {"ReadBlocks", "WriteBlocks", "WatchOperation"}
_BATCHES = {"BatchDeleteInstanceSnapshots"}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The services, in a region that has nothing, and what the region before them has, by the names of fields."""

    cloud: Cloud
    things: Mapping[str, str]
    operations: Mapping[Service, str]
    request: disk_service_pb2.CreateDiskRequest
    """One that was accepted there."""


@pytest.fixture(scope="module")
def elsewhere(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Elsewhere]:
    if named_target(request.config) is not None:
        pytest.skip("needs services whose region can be changed, which those of a --target cannot")
    folder = tmp_path_factory.mktemp(f"elsewhere-{database_kind}")
    known = {"east": DEFAULT_ADDRESSES}  # nothing gets as far as asking there
    with deployed(request, folder, database_kind, environment={}, region="north", peers=known) as local:
        with closing(Cloud(local.addresses, observed)) as north:
            filled = _fill(north)
        local.stop()
        local.region = "south"
        local.start()
        with closing(Cloud(local.addresses, observed)) as south:
            yield Elsewhere(south, *filled)


def _fill(
    cloud: Cloud,
) -> tuple[Mapping[str, str], Mapping[Service, str], disk_service_pb2.CreateDiskRequest]:
    machine = cloud.an_instance(data_disks=1)
    whole = cloud.an_instance_snapshot(machine.id)
    request = disk_service_pb2.CreateDiskRequest(request_id=a_request_id(), name="disk", size_bytes=MIB)
    snapshot_id = cloud.a_disk_snapshot(cloud.disks.CreateDisk(request).disk.id)
    _leave_holds(cloud, Inside(cloud))
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
    return things, operations, request


def _leave_holds(cloud: Cloud, inside: Inside) -> None:
    """A lease, a point with its tasks, and a reservation of each kind, whose operations go no further."""
    snapshotted, rolled_back = cloud.an_instance(), cloud.an_instance()
    inside.compute.LeaseInstance(inside.lease_request(snapshotted.id))
    inside.disk.CreateConsistencyPoint(inside.point_request(snapshotted.id))
    whole = cloud.an_instance_snapshot(rolled_back.id)
    target = (whole.members[0].disk_id, whole.members[0].snapshot_id)
    inside.disk.ReserveRollback(inside.rollback_request(target, instance_id=rolled_back.id))
    doomed = cloud.an_instance_snapshot(cloud.an_instance().id)
    inside.disk.ReserveSnapshotDeletion(inside.deletion_request(doomed.id))
    assert len(inside.disk.ListHolds(disk_participant_pb2.ListHoldsRequest()).holds) == 7


def _name(method: Method) -> str:
    return method.path.rpartition("/")[2]


_RESOURCES = {"instance", "disk", "snapshot", "instance_snapshot", "policy"}
"""Messages that name, in an update or as what is to be made, what they are about by an id of their own."""


def _about(method: Method, elsewhere: Elsewhere) -> Message:
    """A well-formed request that names what the other region has, wherever an id can be."""
    things = {**elsewhere.things, "operation_id": elsewhere.operations[method.service]}
    others: dict[str, Any] = {"name": "south", "size_bytes": 2 * MIB, "destination_region": "east"}

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


@pytest.mark.parametrize("method", LISTS, ids=str)
def test_lists_show_nothing_of_another_region(elsewhere: Elsewhere, method: Method):
    assert method.call(elsewhere.cloud, method.request()) == method.response()


@pytest.mark.parametrize(
    "method",
    [
        method
        for method in METHODS
        if method not in LISTS and _name(method) not in _NO_REGIONS | _STREAMS | _BATCHES
    ],
    ids=str,
)
def test_ids_of_another_region_are_not_found(elsewhere: Elsewhere, method: Method):
    with pytest.raises(grpc.RpcError) as error:
        method.call(elsewhere.cloud, _about(method, elsewhere))
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type] # what a stub raises is a Call too
    refusal = Refusal.from_status(status) if status is not None else None
    assert refusal is not None, error.value
    # Where two things are named, each may be said.
    reasons = {violation.type for violation in refusal.preconditions} or {refusal.reason}
    assert all(reason.endswith("_NOT_FOUND") for reason in reasons), refusal.message
    assert "REGION_NOT_FOUND" not in reasons


def test_ids_of_another_region_are_not_found_in_a_batch(elsewhere: Elsewhere):
    request = instance_snapshot_service_pb2.BatchDeleteInstanceSnapshotsRequest(
        instance_snapshot_ids=[elsewhere.things["instance_snapshot_id"]]
    )
    [result] = elsewhere.cloud.instance_snapshots.BatchDeleteInstanceSnapshots(request).results
    assert result.error.reason == "INSTANCE_SNAPSHOT_NOT_FOUND"


def test_bytes_of_another_region_are_neither_read_nor_written(elsewhere: Elsewhere):
    disk_id, snapshot_id = elsewhere.things["disk_id"], elsewhere.things["snapshot_id"]
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        elsewhere.cloud.read(disk_id)
    with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
        elsewhere.cloud.read(snapshot_id)
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        elsewhere.cloud.write(disk_id, (0, b"south"))


def test_what_operations_of_another_region_hold_is_not_listed(elsewhere: Elsewhere):
    inside = Inside(elsewhere.cloud)
    assert not inside.compute.ListLeases(compute_participant_pb2.ListLeasesRequest()).leases
    assert not inside.disk.ListHolds(disk_participant_pb2.ListHoldsRequest()).holds


@pytest.mark.parametrize("service", Service)
def test_operations_of_another_region_cannot_be_watched(elsewhere: Elsewhere, service: Service):
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        elsewhere.cloud.rest(elsewhere.operations[service])


def test_a_request_id_of_another_region_is_a_new_one_here(elsewhere: Elsewhere):
    disk = elsewhere.cloud.disks.CreateDisk(elsewhere.request).disk
    assert disk.region == "south"
    assert elsewhere.cloud.disks.CreateDisk(elsewhere.request).disk == disk
    elsewhere.cloud.delete_disk(disk.id)
