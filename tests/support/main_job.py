"""What Stillpoint is for, as a client of its public ports does it: machines with bytes on their disks, snapshots of the
whole, and the way back. Each mutation carries a `request_id`, and what failed is for the channel's retry policy alone to
hide; only a stream of bytes, which no retry policy can resume, is begun again here.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc

from stillpoint.compute.v1 import instance_service_pb2, instance_service_pb2_grpc
from stillpoint.disk.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    disk_service_pb2,
    disk_service_pb2_grpc,
)
from stillpoint.operation.v1 import operation_pb2, operation_service_pb2, operation_service_pb2_grpc
from stillpoint.snapshot.v1 import (
    instance_snapshot_pb2,
    instance_snapshot_service_pb2,
    instance_snapshot_service_pb2_grpc,
)
from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import code_of

DISK_BYTES = 1 << 20
BLOCK_BYTES = 4096
PATIENCE_SECONDS = 60.0

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance; the system disk is the first of its disks."""

    id: str
    disk_ids: tuple[str, ...]


class MainJob:
    """`channels` are those to the public ports. `broken_streams` counts how often a stream was begun again, within
    `patience_seconds` of its beginning.
    """

    def __init__(
        self, channels: Mapping[Service, grpc.Channel], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._channels = channels
        self._patience_seconds = patience_seconds
        self.broken_streams = 0
        self.instances = instance_service_pb2_grpc.InstanceServiceStub(channels[Service.COMPUTE])
        self.disks = disk_service_pb2_grpc.DiskServiceStub(channels[Service.DISK])
        self.blocks = block_service_pb2_grpc.BlockServiceStub(channels[Service.DISK])
        self.snapshots = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(
            channels[Service.SNAPSHOT]
        )

    # Machines

    def make_machine(self, *, data_disks: int = 1) -> Machine:
        disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)
        made = self.instances.CreateInstance(
            instance_service_pb2.CreateInstanceRequest(
                request_id=new_request_id(), name="machine", system_disk=disk, data_disks=[disk] * data_disks
            )
        )
        return Machine(made.instance.id, (made.instance.system_disk_id, *made.data_disk_ids))

    def stop(self, machine: Machine) -> None:
        request = instance_service_pb2.StopInstanceRequest(
            request_id=new_request_id(), instance_id=machine.id
        )
        self.instances.StopInstance(request)

    def delete_machine(self, machine: Machine) -> None:
        """A stopped one, with its data disks, which the instance leaves behind."""
        deletion = self.instances.DeleteInstance(
            instance_service_pb2.DeleteInstanceRequest(request_id=new_request_id(), instance_id=machine.id)
        )
        self.follow(Service.COMPUTE, deletion.operation_id)
        for disk_id in machine.disk_ids[1:]:
            request = disk_service_pb2.DeleteDiskRequest(request_id=new_request_id(), disk_id=disk_id)
            self.follow(Service.DISK, self.disks.DeleteDisk(request).operation_id)

    # Bytes

    def fill(self, machine: Machine, word: str) -> None:
        """Each disk's first block says the word and which disk it is."""
        for number, disk_id in enumerate(machine.disk_ids):
            text = f"{word} {number}".encode().ljust(BLOCK_BYTES, b"\0")
            extent = block_service_pb2.Extent(offset_bytes=0, data=text)
            self._write(block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent]))

    def words_on(self, machine: Machine) -> list[str]:
        return [
            self._read(block_service_pb2.ReadBlocksRequest(disk_id=disk_id, length_bytes=BLOCK_BYTES))
            for disk_id in machine.disk_ids
        ]

    def words_in(self, snapshot: instance_snapshot_pb2.InstanceSnapshot) -> list[str]:
        return [
            self._read(
                block_service_pb2.ReadBlocksRequest(snapshot_id=member.snapshot_id, length_bytes=BLOCK_BYTES)
            )
            for member in snapshot.members
        ]

    def _write(self, request: block_service_pb2.WriteBlocksRequest) -> None:
        self._resumed(lambda: list(self.blocks.WriteBlocks(iter([request]))))

    def _read(self, request: block_service_pb2.ReadBlocksRequest) -> str:
        pieces = self._resumed(lambda: list(self.blocks.ReadBlocks(request)))
        return b"".join(piece.data for piece in pieces).rstrip(b"\0").decode()

    # Snapshots

    def take_snapshot(self, machine: Machine) -> instance_snapshot_pb2.InstanceSnapshot:
        """AVAILABLE."""
        taken = self.snapshots.CreateInstanceSnapshot(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=new_request_id(), instance_id=machine.id
            )
        )
        self.follow(Service.SNAPSHOT, taken.operation_id)
        return self.snapshot(taken.instance_snapshot.id)

    def snapshot(self, snapshot_id: str) -> instance_snapshot_pb2.InstanceSnapshot:
        request = instance_snapshot_service_pb2.GetInstanceSnapshotRequest(instance_snapshot_id=snapshot_id)
        return self.snapshots.GetInstanceSnapshot(request).instance_snapshot

    def all_snapshots(self) -> list[instance_snapshot_pb2.InstanceSnapshot]:
        request = instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(page_size=500)
        return list(self.snapshots.ListInstanceSnapshots(request).instance_snapshots)

    def roll_back(self, snapshot_id: str) -> None:
        request = instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest(
            request_id=new_request_id(), instance_snapshot_id=snapshot_id
        )
        self.follow(Service.SNAPSHOT, self.snapshots.RollbackInstanceSnapshot(request).operation_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        request = instance_snapshot_service_pb2.DeleteInstanceSnapshotRequest(
            request_id=new_request_id(), instance_snapshot_id=snapshot_id
        )
        self.follow(Service.SNAPSHOT, self.snapshots.DeleteInstanceSnapshot(request).operation_id)

    # Operations

    def follow(self, service: Service, operation_id: str) -> None:
        """Watch it until it has succeeded."""
        stub = operation_service_pb2_grpc.OperationServiceStub(self._channels[service])
        request = operation_service_pb2.WatchOperationRequest(operation_id=operation_id)
        last = self._resumed(lambda: list(stub.WatchOperation(request)))[-1].operation
        assert last.state == operation_pb2.Operation.STATE_SUCCEEDED, last

    def unfinished(self) -> list[operation_pb2.Operation]:
        request = operation_service_pb2.ListOperationsRequest(
            filter=operation_service_pb2.ListOperationsRequest.Filter(unfinished=True), page_size=500
        )
        stubs = [
            operation_service_pb2_grpc.OperationServiceStub(channel) for channel in self._channels.values()
        ]
        return [operation for stub in stubs for operation in stub.ListOperations(request).operations]

    def _resumed(self, run: Callable[[], Answer]) -> Answer:
        """Of a stream that was cut short nothing is kept here: what is sent again is the same."""
        give_up = time.monotonic() + self._patience_seconds
        while True:
            try:
                return run()
            except grpc.RpcError as error:
                if code_of(error) is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up:
                    raise
                self.broken_streams += 1
                time.sleep(0.1)


def new_request_id() -> str:
    return str(uuid.uuid4())
