"""What there is, by the model: found or not, in the way or not, and changed. The rules are in rules.py.

What there is are the messages that the API shows, and bytes are bytes. A moment is only there or not.
"""

from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import Any, TypeVar

from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from tests.contract.cloud import ACCOUNT
from tests.model.answers import SOME_TIME, Bar, Refused

REGION = "local"
STOPPED = (Instance.STATE_STOPPED, Instance.STATE_STOPPED_NO_CHARGE)
DATA_DEVICES = [f"vd{letter}" for letter in ascii_lowercase[1:]]
OURS: dict[str, Any] = {
    "account_id": ACCOUNT,
    "region": REGION,
    "create_time": SOME_TIME,
    "update_time": SOME_TIME,
}

Thing = TypeVar("Thing")


class Things:
    """By id, in the order in which they were made. `slots` is the quota of snapshots of a disk."""

    def __init__(self, *, slots: int) -> None:
        self.slots = slots
        self.in_debt = False
        self.instances: dict[str, Instance] = {}
        self.disks: dict[str, Disk] = {}
        self.snapshots: dict[str, DiskSnapshot] = {}
        self.wholes: dict[str, InstanceSnapshot] = {}
        self.bytes: dict[str, bytes] = {}
        """Of disks and of disk snapshots."""

    # What is found

    @property
    def ids(self) -> list[str]:
        return [*self.instances, *self.disks, *self.snapshots, *self.wholes]

    def disks_on(self, instance_id: str) -> list[Disk]:
        """The system disk first."""
        found = [disk for disk in self.disks.values() if disk.instance_id == instance_id and instance_id]
        return sorted(found, key=lambda disk: disk.device)

    def instance(self, instance_id: str) -> Instance:
        return _found(self.instances, instance_id, "INSTANCE_NOT_FOUND", "instance/")

    def disk(self, disk_id: str) -> Disk:
        return _found(self.disks, disk_id, "DISK_NOT_FOUND", "disk/")

    def snapshot(self, snapshot_id: str) -> DiskSnapshot:
        return _found(self.snapshots, snapshot_id, "SNAPSHOT_NOT_FOUND", "snapshot/")

    def whole(self, whole_id: str) -> InstanceSnapshot:
        return _found(self.wholes, whole_id, "INSTANCE_SNAPSHOT_NOT_FOUND", "")

    # What stands in the way

    def bars_on_standing(self) -> list[Bar]:
        return [Bar("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}")] if self.in_debt else []

    def bars_on_instance(self, instance_id: str, allowed: Sequence[int] = ()) -> list[Bar]:
        """That it is gone, or not in one of the allowed states, if it must be in some."""
        instance = self.instances.get(instance_id)
        if instance is None:
            return [Bar("INSTANCE_NOT_FOUND", f"instance/{instance_id}")]
        return [Bar.on(instance, "INSTANCE_STATE")] if allowed and instance.state not in allowed else []

    def bars_on_slots(self, of: Sequence[Disk]) -> list[Bar]:
        return [
            Bar.on(disk, "SNAPSHOT_QUOTA_EXCEEDED") for disk in of if disk.manual_snapshots.used >= self.slots
        ]

    def bars_on_source(self, disk: Any, field: str = "") -> Iterator[Bar]:
        """Of a disk that is to be made. `field` is what asks for it, where a request asks for several."""
        subject = field or f"snapshot/{disk.source_snapshot_id}"
        source = self.snapshots.get(disk.source_snapshot_id)
        if disk.source_snapshot_id and source is None:
            yield Bar("SNAPSHOT_NOT_FOUND", subject)
        elif source and disk.size_bytes and disk.size_bytes < source.size_bytes:
            yield Bar("SIZE_TOO_SMALL", subject)

    def bars_on_going_back(self, disk_id: str, snapshot_id: str, *, on: Sequence[str]) -> Iterator[Bar]:
        """`on` are the instances that it may be on, the empty one if it may be detached."""
        disk, snapshot = self.disks.get(disk_id), self.snapshots.get(snapshot_id)
        if disk is None:
            yield Bar("DISK_NOT_FOUND", f"disk/{disk_id}")
        elif disk.instance_id not in on:
            yield Bar.on(disk, "DISK_STATE")
        if snapshot is None or snapshot.disk_id != disk_id:
            yield Bar("SNAPSHOT_NOT_FOUND", f"snapshot/{snapshot_id}")

    # What changes

    def add_disk(self, disk_id: str, wanted: Any, **shown: Any) -> Disk:
        size_bytes = wanted.size_bytes or self.snapshots[wanted.source_snapshot_id].size_bytes
        disk = Disk(
            id=disk_id, size_bytes=size_bytes, source_snapshot_id=wanted.source_snapshot_id, **shown, **OURS
        )
        disk.manual_snapshots.limit = disk.automatic_snapshots.limit = self.slots
        self.disks[disk_id] = disk
        self.bytes[disk_id] = self.bytes.get(wanted.source_snapshot_id, b"").ljust(size_bytes, b"\0")
        return disk

    def detach(self, disk_id: str) -> None:
        disk = self.disks[disk_id]
        disk.instance_id, disk.device, disk.state = "", "", Disk.STATE_DETACHED

    def go_back(self, disk_id: str, snapshot_id: str) -> None:
        """A disk that grew since keeps its size, and reads zero beyond the snapshot's."""
        self.bytes[disk_id] = self.bytes[snapshot_id].ljust(self.disks[disk_id].size_bytes, b"\0")

    def add_snapshot(self, snapshot_id: str, disk: Disk, **shown: Any) -> DiskSnapshot:
        snapshot = self.snapshots[snapshot_id] = DiskSnapshot(
            id=snapshot_id,
            disk_id=disk.id,
            state=DiskSnapshot.STATE_AVAILABLE,
            kind=DiskSnapshot.KIND_MANUAL,
            size_bytes=disk.size_bytes,
            cut_time=SOME_TIME,
            **shown,
            **OURS,
        )
        self.bytes[snapshot_id] = self.bytes[disk.id]
        return snapshot

    def drop_snapshot(self, snapshot_id: str) -> None:
        del self.snapshots[snapshot_id], self.bytes[snapshot_id]


def _found(among: dict[str, Thing], wanted: str, reason: str, subject: str) -> Thing:
    if wanted not in among:
        raise Refused(Bar(reason, subject and subject + wanted))
    return among[wanted]
