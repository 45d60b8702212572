"""The machine that the demonstration works on: an instance with its disks, through the public API like any client."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from demo.filesystems import FileSystem
from demo.writer import LogPlace, Progress, Writer
from stillpoint.compute.v1.instance_service_pb2 import (
    CreateInstanceRequest,
    DeleteInstanceRequest,
    NewDisk,
    StopInstanceRequest,
)
from stillpoint.disk.v1.disk_service_pb2 import DeleteDiskRequest
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    CreateInstanceSnapshotRequest,
    DeleteInstanceSnapshotRequest,
    RollbackInstanceSnapshotRequest,
)
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.following import wait_for
from stillpoint_cli.transfer import Transferred, export_file, import_file


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine, and the file system it was made for."""

    id: str
    made: FileSystem

    @property
    def name(self) -> str:
        return self.made.plan.name

    @property
    def log(self) -> LogPlace:
        return LogPlace(self.id, self.name, self.made.plan.size_bytes, self.made.plan.log_bytes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the machine, with the writer's progress before it was asked for and after the answer."""

    id: str
    cut_time: datetime
    before: Progress
    after: Progress
    seconds_to_moment: float
    seconds_to_available: float
    longest_wait_seconds: float


class Machine:
    """An instance whose first disk is its system disk."""

    def __init__(self, connections: Connections, file_systems: Sequence[FileSystem]) -> None:
        """Creates it; its disks are blank."""
        self._connections = connections
        sizes = [NewDisk(name=made.plan.name, size_bytes=made.plan.disk_bytes) for made in file_systems]
        created = connections.instances.CreateInstance(
            CreateInstanceRequest(
                request_id=new_request_id(), name="demo", system_disk=sizes[0], data_disks=sizes[1:]
            )
        )
        self.id = created.instance.id
        ids = [created.instance.system_disk_id, *created.data_disk_ids]
        self.disks = [Disk(id_, made) for id_, made in zip(ids, file_systems, strict=True)]

    def import_images(self) -> list[Transferred]:
        return [
            import_file(self._connections, disk.id, disk.made.image, sparse=True, show_progress=True)
            for disk in self.disks
        ]

    def export_images(self, folder: Path) -> list[Path]:
        folder.mkdir()
        images = [folder / disk.made.image.name for disk in self.disks]
        for disk, image in zip(self.disks, images, strict=True):
            export_file(self._connections, disk.id, image, show_progress=True)
        return images

    def take_snapshot(self, writer: Writer) -> Snapshot:
        before, asked = writer.progress, time.monotonic()
        answer = self._connections.instance_snapshots.CreateInstanceSnapshot(
            CreateInstanceSnapshotRequest(request_id=new_request_id(), instance_id=self.id)
        )
        answered, after = time.monotonic(), writer.progress
        wait_for(self._connections, answer.operation_id)
        available = time.monotonic()
        return Snapshot(
            id=answer.instance_snapshot.id,
            cut_time=answer.instance_snapshot.cut_time.ToDatetime(UTC),
            before=before,
            after=after,
            seconds_to_moment=answered - asked,
            seconds_to_available=available - asked,
            longest_wait_seconds=writer.longest_wait_seconds(asked, available),
        )

    def stop(self) -> None:
        self._connections.instances.StopInstance(
            StopInstanceRequest(request_id=new_request_id(), instance_id=self.id)
        )

    def roll_back(self, snapshot: Snapshot) -> float:
        """Returns, in seconds, how long it took."""
        began = time.monotonic()
        answer = self._connections.instance_snapshots.RollbackInstanceSnapshot(
            RollbackInstanceSnapshotRequest(request_id=new_request_id(), instance_snapshot_id=snapshot.id)
        )
        wait_for(self._connections, answer.operation_id)
        return time.monotonic() - began

    def delete(self, snapshot: Snapshot) -> None:
        """Leaves nothing of it; it must be stopped."""
        gone = self._connections.instance_snapshots.DeleteInstanceSnapshot(
            DeleteInstanceSnapshotRequest(request_id=new_request_id(), instance_snapshot_id=snapshot.id)
        )
        wait_for(self._connections, gone.operation_id)
        left = self._connections.instances.DeleteInstance(
            DeleteInstanceRequest(request_id=new_request_id(), instance_id=self.id)
        )
        wait_for(self._connections, left.operation_id)
        for disk in self.disks[1:]:
            deleted = self._connections.disks.DeleteDisk(
                DeleteDiskRequest(request_id=new_request_id(), disk_id=disk.id)
            )
            wait_for(self._connections, deleted.operation_id)
