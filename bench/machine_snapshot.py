"""An instance snapshot of 8 disks, by how much was written to each: time to the moment, and time to AVAILABLE.

Starts the three services as real processes, everything durable, and prints start-up time, stream throughput, and for each
amount of written data the median and the spread over several snapshots. One run, one machine: compare the rows with each
other, not with another day's.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stillpoint.compute.v1 import instance_service_pb2, instance_service_pb2_grpc
from stillpoint.disk.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    disk_service_pb2,
    disk_service_pb2_grpc,
)
from stillpoint.operation.v1 import operation_service_pb2, operation_service_pb2_grpc
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2, instance_snapshot_service_pb2_grpc
from stillpoint_cli.local import LocalDeployment
from svckit.memory import keep_large_buffers

_MIB = 1 << 20
_DISKS = 8

console = Console()


class Client:
    """The stubs that the measurement needs."""

    def __init__(self, deployment: LocalDeployment) -> None:
        addresses = deployment.addresses
        disk = grpc.insecure_channel(addresses.disk.public)
        snapshot = grpc.insecure_channel(addresses.snapshot.public)
        self.instances = instance_service_pb2_grpc.InstanceServiceStub(
            grpc.insecure_channel(addresses.compute.public)
        )
        self.disks = disk_service_pb2_grpc.DiskServiceStub(disk)
        self.blocks = block_service_pb2_grpc.BlockServiceStub(disk)
        self.snapshots = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(snapshot)
        self.operations = operation_service_pb2_grpc.OperationServiceStub(snapshot)

    def instance(self) -> tuple[str, list[str]]:
        """A new instance with 8 disks of 4 GiB: its id and theirs."""
        created = self.instances.CreateInstance(
            instance_service_pb2.CreateInstanceRequest(
                name="bench",
                system_disk=instance_service_pb2.NewDisk(size_bytes=4096 * _MIB),
                data_disks=[instance_service_pb2.NewDisk(size_bytes=4096 * _MIB)] * (_DISKS - 1),
            )
        )
        instance_id = created.instance.id
        listed = self.disks.ListDisks(
            disk_service_pb2.ListDisksRequest(
                filter=disk_service_pb2.ListDisksRequest.Filter(instance_id=instance_id)
            )
        )
        return instance_id, [disk.id for disk in listed.disks]

    def write(self, disk_id: str, start_mib: int, end_mib: int) -> float:
        """Write bytes that do not compress, in messages of 1 MiB; returns seconds until all are durable."""
        blocks = [os.urandom(_MIB) for _ in range(8)]

        def messages() -> Iterator[block_service_pb2.WriteBlocksRequest]:
            for number in range(start_mib, end_mib):
                extent = block_service_pb2.Extent(
                    offset_bytes=number * _MIB, data=blocks[number % len(blocks)]
                )
                yield block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])

        begun = time.perf_counter()
        for _ in self.blocks.WriteBlocks(messages()):
            pass
        return time.perf_counter() - begun

    def read(self, disk_id: str, length_mib: int) -> float:
        begun = time.perf_counter()
        request = block_service_pb2.ReadBlocksRequest(disk_id=disk_id, length_bytes=length_mib * _MIB)
        for _ in self.blocks.ReadBlocks(request):
            pass
        return time.perf_counter() - begun

    def snapshot(self, instance_id: str) -> tuple[float, float]:
        """Milliseconds to the moment fixed, and to AVAILABLE."""
        begun = time.perf_counter()
        created = self.snapshots.CreateInstanceSnapshot(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(instance_id=instance_id)
        )
        moment = time.perf_counter()
        watching = operation_service_pb2.WatchOperationRequest(operation_id=created.operation_id)
        for _ in self.operations.WatchOperation(watching):
            pass
        return (moment - begun) * 1000, (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest-mib", type=int, default=1024, help="written to each disk in the last row")
    parser.add_argument("--snapshots", type=int, default=9, help="snapshots per row")
    arguments = parser.parse_args()
    keep_large_buffers()
    with tempfile.TemporaryDirectory(prefix="stillpoint-bench-") as folder:
        begun = time.perf_counter()
        with LocalDeployment(Path(folder), free_ports=True) as deployment:
            console.print(f"three services serve after {time.perf_counter() - begun:.2f} s")
            console.print(_measure(Client(deployment), arguments.largest_mib, arguments.snapshots))


def _measure(client: Client, largest_mib: int, snapshots: int) -> Table:
    table = Table(title=f"instance snapshot of {_DISKS} disks")
    for heading in ("written to each disk", "moment fixed", "AVAILABLE", "written at", "read at"):
        table.add_column(heading, justify="right")
    instance_id, disk_ids = client.instance()
    client.snapshot(instance_id)  # the first opens connections
    written_mib = 0
    for size_mib in (1, 16, 128, largest_mib):
        seconds = sum(
            client.write(disk_id, written_mib, size_mib)
            for disk_id in track(disk_ids, f"writing up to {size_mib} MiB to each disk", console=console)
        )
        write_rate = (size_mib - written_mib) * _DISKS * _MIB / seconds / 1e6
        read_rate = size_mib * _MIB / client.read(disk_ids[0], size_mib) / 1e6
        written_mib = size_mib
        moments, availables = zip(*(client.snapshot(instance_id) for _ in range(snapshots)), strict=True)
        table.add_row(
            f"{size_mib} MiB",
            _spread(moments),
            _spread(availables),
            f"{write_rate:.0f} MB/s",
            f"{read_rate:.0f} MB/s",
        )
    return table


def _spread(milliseconds: tuple[float, ...]) -> str:
    return f"{statistics.median(milliseconds):.0f} ms ({min(milliseconds):.0f}-{max(milliseconds):.0f})"


if __name__ == "__main__":
    main()
