"""Two regions for worst days: a stage each, and a network between them that can be held up or that damages what it carries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillpoint.disk.v1 import block_service_pb2, disk_service_pb2, disk_snapshot_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.gates import Gates
from tests.faults.proxy import Proxy
from tests.faults.stage import REST_SECONDS, DatabaseUrls, Stage, new_request_id

MIB = 1 << 20


class Regions:
    """Two stages, and proxies on the ways from north to south: of disk_svc, and of snapshot_svc."""

    def __init__(
        self, folder: Path, *, deadline_seconds: float, database_urls: Callable[[], DatabaseUrls]
    ) -> None:
        self.gates, self.whole_gates = Gates(), Gates()
        self.proxy, self._whole_proxy = Proxy(self.gates), Proxy(self.whole_gates)
        self.south = Stage(
            folder / "south", deadline_seconds=deadline_seconds, region="south", database_urls=database_urls()
        )
        self.proxy.connect(self.south.internal_address(Service.DISK))
        self._whole_proxy.connect(self.south.internal_address(Service.SNAPSHOT))
        self.north = Stage(
            folder / "north",
            deadline_seconds=deadline_seconds,
            region="north",
            database_urls=database_urls(),
            peers={
                Service.DISK: {"south": self.proxy.address},
                Service.SNAPSHOT: {"south": self._whole_proxy.address},
            },
        )

    def close(self) -> None:
        self.lose_all()
        for stage in (self.north, self.south):
            stage.close()
        self.proxy.stop()
        self._whole_proxy.stop()

    def lose_all(self) -> None:
        for gates in (self.gates, self.whole_gates, self.north.gates, self.south.gates):
            gates.lose_all()

    def a_snapshot(self, data: bytes, *, disk_id: str = "") -> str:
        """Of a disk in the north that begins with these bytes."""
        if not disk_id:
            disk_id = self.a_disk(len(data))
        self.north_writes(disk_id, data)
        request = disk_snapshot_service_pb2.CreateDiskSnapshotRequest(disk_id=disk_id)
        answer = self.north.disk_snapshots.CreateDiskSnapshot(request)
        assert self.north.outcome(answer.operation_id) == "SUCCEEDED"
        return answer.snapshot.id

    def a_disk(self, size_bytes: int) -> str:
        request = disk_service_pb2.CreateDiskRequest(name="copied", size_bytes=size_bytes)
        return self.north.disks.CreateDisk(request).disk.id

    def north_writes(self, disk_id: str, data: bytes) -> None:
        messages = (
            block_service_pb2.WriteBlocksRequest(
                disk_id=disk_id,
                extents=[block_service_pb2.Extent(offset_bytes=at, data=data[at : at + MIB])],
            )
            for at in range(0, len(data), MIB)
        )
        for _durable in self.north.blocks.WriteBlocks(messages):
            pass

    def copy(self, snapshot_id: str, request_id: str = "") -> Any:
        """Ask for a copy in the south; returns the call, a future."""
        return self.north.disk_snapshots.CopyDiskSnapshot.future(
            disk_snapshot_service_pb2.CopyDiskSnapshotRequest(
                request_id=request_id or new_request_id(),
                snapshot_id=snapshot_id,
                destination_region="south",
            ),
            timeout=REST_SECONDS,
        )

    def copy_whole(self, instance_snapshot_id: str, request_id: str = "") -> Any:
        """Ask for a copy of an instance snapshot in the south; returns the call, a future."""
        return self.north.snapshots.CopyInstanceSnapshot.future(
            instance_snapshot_service_pb2.CopyInstanceSnapshotRequest(
                request_id=request_id or new_request_id(),
                instance_snapshot_id=instance_snapshot_id,
                destination_region="south",
            ),
            timeout=REST_SECONDS,
        )

    def read_in_the_south(self, copy_snapshot_id: str) -> bytes:
        request = block_service_pb2.ReadBlocksRequest(snapshot_id=copy_snapshot_id)
        return b"".join(
            piece.data or bytes(piece.length_bytes) for piece in self.south.blocks.ReadBlocks(request)
        )

    def copies_in_the_south(self) -> set[str]:
        request = disk_snapshot_service_pb2.ListDiskSnapshotsRequest(page_size=500)
        return {each.id for each in self.south.disk_snapshots.ListDiskSnapshots(request).snapshots}

    def assert_nothing_left(self) -> None:
        for stage in (self.north, self.south):
            stage.assert_nothing_left()
