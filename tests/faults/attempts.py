"""One attempt at each kind of operation, on resources of its own: how it is asked for, and what the API shows of them before
and after. So an attempt to which something was done is compared with one that was left in peace.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2, disk_snapshot_pb2, disk_snapshot_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from tests.faults.regions import Regions
from tests.faults.stage import DISK_BYTES, REST_SECONDS, Machine, Stage

_numbers = itertools.count()

Sight = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """`send` asks for it with this request_id and returns the call, a future; `look` is what the API shows of its
    resources, in every region that has some, without what is never the same (ids, times).
    """

    send: Callable[[str], Any]
    look: Callable[[], Sight]


def sight(stage: Stage, name: str) -> Sight:
    """Of everything that is called so, and of the snapshots of such disks."""
    instances = instance_service_pb2.ListInstancesRequest(
        filter=instance_service_pb2.ListInstancesRequest.Filter(name=name)
    )
    whole = instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(
        filter=instance_snapshot_service_pb2.ListInstanceSnapshotsRequest.Filter(name=name)
    )
    disks = disk_service_pb2.ListDisksRequest(filter=disk_service_pb2.ListDisksRequest.Filter(name=name))
    filters = disk_snapshot_service_pb2.ListDiskSnapshotsRequest.Filter
    found = list(stage.disks.ListDisks(disks).disks)
    snapshots: dict[str, disk_snapshot_pb2.DiskSnapshot] = {}
    for wanted in (filters(name=name), *(filters(disk_id=disk.id) for disk in found)):
        request = disk_snapshot_service_pb2.ListDiskSnapshotsRequest(filter=wanted)
        snapshots |= {each.id: each for each in stage.disk_snapshots.ListDiskSnapshots(request).snapshots}
    return {
        "instances": [
            (instance.state, instance.operation_id)
            for instance in stage.instances.ListInstances(instances).instances
        ],
        "disks": sorted(
            (disk.state, disk.size_bytes, bool(disk.instance_id), disk.device, stage.read(disk_id=disk.id))
            for disk in found
        ),
        "disk snapshots": sorted(
            (each.state, each.kind, bool(each.instance_snapshot_id), _word_in(stage, each))
            for each in snapshots.values()
        ),
        "instance snapshots": [
            (each.state, len(each.members), each.operation_id)
            for each in stage.snapshots.ListInstanceSnapshots(whole).instance_snapshots
        ],
    }


def _word_in(stage: Stage, snapshot: disk_snapshot_pb2.DiskSnapshot) -> str:
    """One that has failed has none."""
    if snapshot.state != disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE:
        return ""
    return stage.read(snapshot_id=snapshot.id)


class Attempts:
    """On one stage; where there is another region, what is there is looked at too."""

    def __init__(self, stage: Stage, regions: Regions | None) -> None:
        self.stage = stage
        self._regions = regions

    def at(self, kind: str) -> Attempt:
        """With everything that the operation needs."""
        name = f"attempt-{next(_numbers)}"
        prepare: Callable[[str], Callable[[str], Any]] = getattr(self, f"_{kind.replace('.', '_')}")
        send = prepare(name)
        return Attempt(send, lambda: self._look(name))

    def come_to_rest(self) -> None:
        for stage in self._stages:
            stage.come_to_rest()

    def assert_nothing_left(self) -> None:
        for stage in self._stages:
            stage.assert_nothing_left()

    @property
    def _stages(self) -> list[Stage]:
        return [self.stage] if self._regions is None else [self._regions.north, self._regions.south]

    @classmethod
    def kinds(cls) -> set[str]:
        """Of which there is an attempt."""
        return {
            name.removeprefix("_").replace("_", ".", 1)
            for name in vars(cls)
            if name.startswith(("_compute_", "_disk_", "_snapshot_"))
        }

    def _look(self, name: str) -> Sight:
        seen = sight(self.stage, name)
        if self._regions is not None:
            seen["in the south"] = sight(self._regions.south, name)
        return seen

    # compute_svc

    def _compute_create_instance(self, name: str) -> Callable[[str], Any]:
        disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES, name=name)
        return lambda request_id: self.stage.instances.CreateInstance.future(
            instance_service_pb2.CreateInstanceRequest(
                request_id=request_id, name=name, system_disk=disk, data_disks=[disk]
            ),
            timeout=REST_SECONDS,
        )

    def _compute_delete_instance(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        self.stage.stop_machine(machine)
        return lambda request_id: self.stage.instances.DeleteInstance.future(
            instance_service_pb2.DeleteInstanceRequest(request_id=request_id, instance_id=machine.id),
            timeout=REST_SECONDS,
        )

    def _compute_attach_disk(self, name: str) -> Callable[[str], Any]:
        machine, disk = self._machine(name), self._disk(name)
        return lambda request_id: self.stage.instances.AttachDisk.future(
            instance_service_pb2.AttachDiskRequest(
                request_id=request_id, instance_id=machine.id, disk_id=disk.id
            ),
            timeout=REST_SECONDS,
        )

    def _compute_detach_disk(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        return lambda request_id: self.stage.instances.DetachDisk.future(
            instance_service_pb2.DetachDiskRequest(
                request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[1]
            ),
            timeout=REST_SECONDS,
        )

    def _compute_rollback_disk(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        snapshot_id = self._take_of_disk(machine.disk_ids[1], name)
        self.stage.fill(machine, "new")
        self.stage.stop_machine(machine)
        return lambda request_id: self.stage.instances.RollbackDisk.future(
            instance_service_pb2.RollbackDiskRequest(
                request_id=request_id,
                instance_id=machine.id,
                disk_id=machine.disk_ids[1],
                snapshot_id=snapshot_id,
            ),
            timeout=REST_SECONDS,
        )

    # disk_svc

    def _disk_create_disk(self, name: str) -> Callable[[str], Any]:
        snapshot_id = self._take_of_disk(self._disk(f"{name}-source").id, f"{name}-source")
        return lambda request_id: self.stage.disks.CreateDisk.future(
            disk_service_pb2.CreateDiskRequest(
                request_id=request_id, name=name, source_snapshot_id=snapshot_id
            ),
            timeout=REST_SECONDS,
        )

    def _disk_resize_disk(self, name: str) -> Callable[[str], Any]:
        disk = self._disk(name)
        return lambda request_id: self.stage.disks.ResizeDisk.future(
            disk_service_pb2.ResizeDiskRequest(
                request_id=request_id, disk_id=disk.id, size_bytes=2 * DISK_BYTES
            ),
            timeout=REST_SECONDS,
        )

    def _disk_rollback_disk(self, name: str) -> Callable[[str], Any]:
        disk = self._disk(name)
        snapshot_id = self._take_of_disk(disk.id, name)
        self.stage.write(disk.id, "new")
        return lambda request_id: self.stage.disks.RollbackDisk.future(
            disk_service_pb2.RollbackDiskRequest(
                request_id=request_id, disk_id=disk.id, snapshot_id=snapshot_id
            ),
            timeout=REST_SECONDS,
        )

    def _disk_delete_disk(self, name: str) -> Callable[[str], Any]:
        disk = self._disk(name)
        self._take_of_disk(disk.id, name)
        return lambda request_id: self.stage.disks.DeleteDisk.future(
            disk_service_pb2.DeleteDiskRequest(request_id=request_id, disk_id=disk.id), timeout=REST_SECONDS
        )

    def _disk_create_disk_snapshot(self, name: str) -> Callable[[str], Any]:
        disk = self._disk(name)
        return lambda request_id: self.stage.disk_snapshots.CreateDiskSnapshot.future(
            disk_snapshot_service_pb2.CreateDiskSnapshotRequest(
                request_id=request_id, disk_id=disk.id, name=name
            ),
            timeout=REST_SECONDS,
        )

    def _disk_delete_disk_snapshot(self, name: str) -> Callable[[str], Any]:
        snapshot_id = self._take_of_disk(self._disk(name).id, name)
        return lambda request_id: self.stage.disk_snapshots.DeleteDiskSnapshot.future(
            disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(
                request_id=request_id, snapshot_id=snapshot_id
            ),
            timeout=REST_SECONDS,
        )

    def _disk_copy_disk_snapshot(self, name: str) -> Callable[[str], Any]:
        snapshot_id = self._take_of_disk(self._disk(name).id, name)
        return lambda request_id: self.stage.disk_snapshots.CopyDiskSnapshot.future(
            disk_snapshot_service_pb2.CopyDiskSnapshotRequest(
                request_id=request_id, snapshot_id=snapshot_id, destination_region="south", name=name
            ),
            timeout=REST_SECONDS,
        )

    # snapshot_svc

    def _snapshot_create_instance_snapshot(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        return lambda request_id: self._create(request_id, name, machine)

    def _snapshot_create_instance_snapshot_from_disk(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        return lambda request_id: self.stage.snapshots.CreateInstanceSnapshot.future(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=request_id, name=name, disk_id=machine.disk_ids[1]
            ),
            timeout=REST_SECONDS,
        )

    def _snapshot_rollback_instance_snapshot(self, name: str) -> Callable[[str], Any]:
        machine = self._machine(name)
        snapshot_id = self._take_of_machine(machine, name)
        self.stage.fill(machine, "new")
        self.stage.stop_machine(machine)
        return lambda request_id: self.stage.begin_rollback(snapshot_id, request_id)

    def _snapshot_delete_instance_snapshot(self, name: str) -> Callable[[str], Any]:
        snapshot_id = self._take_of_machine(self._machine(name), name)
        return lambda request_id: self.stage.begin_deletion(snapshot_id, request_id)

    def _snapshot_copy_instance_snapshot(self, name: str) -> Callable[[str], Any]:
        assert self._regions is not None
        regions = self._regions
        snapshot_id = self._take_of_machine(self._machine(name), name)
        return lambda request_id: regions.copy_whole(snapshot_id, request_id)

    # What they need

    def _machine(self, name: str) -> Machine:
        machine = self.stage.make_machine(name=name)
        self.stage.fill(machine, "old")
        return machine

    def _disk(self, name: str) -> disk_pb2.Disk:
        request = disk_service_pb2.CreateDiskRequest(name=name, size_bytes=DISK_BYTES)
        disk = self.stage.disks.CreateDisk(request).disk
        self.stage.write(disk.id, "old")
        return disk

    def _take_of_disk(self, disk_id: str, name: str) -> str:
        request = disk_snapshot_service_pb2.CreateDiskSnapshotRequest(disk_id=disk_id, name=name)
        answer = self.stage.disk_snapshots.CreateDiskSnapshot(request)
        assert self.stage.outcome(answer.operation_id) == "SUCCEEDED"
        return answer.snapshot.id

    def _take_of_machine(self, machine: Machine, name: str) -> str:
        answer = self._create("", name, machine).result()
        assert self.stage.outcome(answer.operation_id) == "SUCCEEDED"
        snapshot_id: str = answer.instance_snapshot.id
        return snapshot_id

    def _create(self, request_id: str, name: str, machine: Machine) -> Any:
        return self.stage.snapshots.CreateInstanceSnapshot.future(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=request_id, name=name, instance_id=machine.id
            ),
            timeout=REST_SECONDS,
        )
