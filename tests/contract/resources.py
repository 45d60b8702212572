"""The four resources that clients make, for tests that ask the same of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from stillpoint.compute.v1 import instance_service_pb2 as instances
from stillpoint.disk.v1 import disk_service_pb2 as disks
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshots
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as instance_snapshots
from stillpoint_cli.addresses import Service
from tests.contract.cloud import MIB, Cloud, a_name, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT


@dataclass(frozen=True, slots=True)
class Resource:
    """One of them. Its fields are as the protos have them, without a type: that is what the four share."""

    title: str
    field: str
    """What requests and responses call it."""
    service: Service
    not_found: tuple[str, str, str]
    unknown_id: Callable[[], str]
    make: Callable[..., Any]
    """Of a cloud and the fields of the request; the resource when its operation has ended."""
    get: Callable[[Cloud, str], Any]
    update_request: Callable[..., Any]
    update_rpc: Callable[[Cloud], Any]
    list_request: Callable[..., Any]
    list_rpc: Callable[[Cloud], Any]
    delete: Callable[[Cloud, str], None]

    def __str__(self) -> str:
        return self.title

    def update(self, cloud: Cloud, resource: Any, *paths: str) -> Any:
        """The resource as the answer has it. `resource` is a message, or its fields."""
        request = self.update_request(**{self.field: resource}, update_mask=FieldMask(paths=paths))
        return getattr(self.update_rpc(cloud)(request), self.field)

    def page(self, cloud: Cloud, **fields: Any) -> tuple[list[str], str]:
        """The ids, and the token of the next page."""
        answer = self.list_rpc(cloud)(self.list_request(**fields))
        return [row.id for row in getattr(answer, f"{self.field}s")], answer.next_page_token

    def listed(self, cloud: Cloud, **wanted: Any) -> list[str]:
        """The ids of all that match, fewer than a page."""
        ids, token = self.page(cloud, filter=wanted)
        assert not token
        return ids


def _make_instance(cloud: Cloud, **fields: Any) -> Any:
    system_disk = instances.NewDisk(size_bytes=MIB)
    request = instances.CreateInstanceRequest(
        **{"name": a_name("instance"), "system_disk": system_disk, **fields}
    )
    return cloud.instances.CreateInstance(request).instance


def _delete_instance(cloud: Cloud, instance_id: str) -> None:
    cloud.stop(instance_id)
    cloud.delete_instance(instance_id)


def _make_disk(cloud: Cloud, **fields: Any) -> Any:
    request = disks.CreateDiskRequest(**{"name": a_name("disk"), "size_bytes": MIB, **fields})
    return cloud.disks.CreateDisk(request).disk


def _make_disk_snapshot(cloud: Cloud, **fields: Any) -> Any:
    request = disk_snapshots.CreateDiskSnapshotRequest(
        **{"name": a_name("snapshot"), "disk_id": cloud.a_disk(), **fields}
    )
    answer = cloud.disk_snapshots.CreateDiskSnapshot(request)
    cloud.finish(answer.operation_id)
    return cloud.disk_snapshot(answer.snapshot.id)


def _delete_disk_snapshot(cloud: Cloud, snapshot_id: str) -> None:
    request = disk_snapshots.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id)
    cloud.finish(cloud.disk_snapshots.DeleteDiskSnapshot(request).operation_id)


def _make_instance_snapshot(cloud: Cloud, **fields: Any) -> Any:
    request = instance_snapshots.CreateInstanceSnapshotRequest(
        **{"name": a_name("whole"), "instance_id": cloud.an_instance().id, **fields}
    )
    answer = cloud.instance_snapshots.CreateInstanceSnapshot(request)
    cloud.finish(answer.operation_id)
    return cloud.instance_snapshot(answer.instance_snapshot.id)


INSTANCE = Resource(
    "instance",
    "instance",
    Service.COMPUTE,
    ("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE),
    lambda: an_unknown_id("i"),
    _make_instance,
    Cloud.instance,
    instances.UpdateInstanceRequest,
    lambda cloud: cloud.instances.UpdateInstance,
    instances.ListInstancesRequest,
    lambda cloud: cloud.instances.ListInstances,
    _delete_instance,
)
A_DISK = Resource(
    "disk",
    "disk",
    Service.DISK,
    ("NOT_FOUND", "DISK_NOT_FOUND", DISK),
    lambda: an_unknown_id("disk"),
    _make_disk,
    Cloud.disk,
    disks.UpdateDiskRequest,
    lambda cloud: cloud.disks.UpdateDisk,
    disks.ListDisksRequest,
    lambda cloud: cloud.disks.ListDisks,
    Cloud.delete_disk,
)
DISK_SNAPSHOT = Resource(
    "disk_snapshot",
    "snapshot",
    Service.DISK,
    ("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK),
    lambda: an_unknown_id("snap"),
    _make_disk_snapshot,
    Cloud.disk_snapshot,
    disk_snapshots.UpdateDiskSnapshotRequest,
    lambda cloud: cloud.disk_snapshots.UpdateDiskSnapshot,
    disk_snapshots.ListDiskSnapshotsRequest,
    lambda cloud: cloud.disk_snapshots.ListDiskSnapshots,
    _delete_disk_snapshot,
)
INSTANCE_SNAPSHOT = Resource(
    "instance_snapshot",
    "instance_snapshot",
    Service.SNAPSHOT,
    ("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT),
    lambda: an_unknown_id("isnap"),
    _make_instance_snapshot,
    Cloud.instance_snapshot,
    instance_snapshots.UpdateInstanceSnapshotRequest,
    lambda cloud: cloud.instance_snapshots.UpdateInstanceSnapshot,
    instance_snapshots.ListInstanceSnapshotsRequest,
    lambda cloud: cloud.instance_snapshots.ListInstanceSnapshots,
    Cloud.delete_instance_snapshot,
)
RESOURCES = (INSTANCE, A_DISK, DISK_SNAPSHOT, INSTANCE_SNAPSHOT)
