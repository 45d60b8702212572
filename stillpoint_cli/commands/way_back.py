"""Snapshots of what a rollback is about to overwrite, taken before it.

spec.md: "For the security of data in your disks, we recommend creating Snapshots for corresponding disks before Instance
Snapshot rollback". A snapshot of the instance has the disks that are on it; a member's disk that is detached gets a
snapshot of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from stillpoint.disk.v1.disk_snapshot_service_pb2 import CreateDiskSnapshotRequest
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import CreateInstanceSnapshotRequest
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.errors import Failure, explain
from stillpoint_cli.following import wait_for


@dataclass(slots=True)
class WayBack:
    """What was taken so far, all of it AVAILABLE."""

    instance_snapshot_id: str = ""
    chosen: Sequence[str] = ()
    """The disks that go back; empty means all."""
    disk_snapshots: dict[str, str] = field(default_factory=dict)
    """The snapshot of each detached disk, by the disk."""

    @property
    def snapshot_ids(self) -> list[str]:
        return [*filter(None, [self.instance_snapshot_id]), *self.disk_snapshots.values()]

    def commands(self) -> list[str]:
        """How to go back to what the disks held before."""
        in_whole = [disk_id for disk_id in self.chosen if disk_id not in self.disk_snapshots]
        only = "".join(f" --disk {disk_id}" for disk_id in in_whole)
        whole = [f"stillpoint snapshot rollback {self.instance_snapshot_id}{only}"]
        return [
            *(whole if in_whole or not self.chosen else []),
            *(
                f"stillpoint disk rollback {disk} {snapshot}"
                for disk, snapshot in self.disk_snapshots.items()
            ),
        ]

    @contextmanager
    def named_when_it_fails(self, outcome: str = "") -> Iterator[None]:
        """What goes wrong inside is told together with what was taken before, which stays."""
        try:
            yield
        except (grpc.RpcError, Failure) as error:
            ids = ", ".join(self.snapshot_ids)
            lines = [explain(error), outcome, f"Snapshots that were taken first: {ids}." if ids else ""]
            raise Failure("\n".join(filter(None, lines))) from error


def check_way_back(connections: Connections, target: InstanceSnapshot) -> None:
    """Refuses when the instance's snapshot could not be taken now. Those of detached disks cannot be asked for so."""
    connections.instance_snapshots.CreateInstanceSnapshot(
        CreateInstanceSnapshotRequest(instance_id=target.instance_id, validate_only=True)
    )


def take_way_back(connections: Connections, target: InstanceSnapshot, chosen: Sequence[str]) -> WayBack:
    """Of all members' disks, or of those chosen. Waits until every snapshot can be rolled back to."""
    way_back = WayBack(chosen=chosen)
    name = f"before-rollback-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with way_back.named_when_it_fails("Nothing was rolled back."):
        whole = connections.instance_snapshots.CreateInstanceSnapshot(
            CreateInstanceSnapshotRequest(
                request_id=new_request_id(), instance_id=target.instance_id, name=name
            )
        )
        wait_for(connections, whole.operation_id)
        way_back.instance_snapshot_id = whole.instance_snapshot.id
        # Whatever was attached or detached meanwhile: what the one snapshot does not have gets another.
        kept = {member.disk_id for member in whole.instance_snapshot.members}
        going_back = chosen or [member.disk_id for member in target.members]
        for disk_id in (each for each in going_back if each not in kept):
            single = connections.disk_snapshots.CreateDiskSnapshot(
                CreateDiskSnapshotRequest(request_id=new_request_id(), disk_id=disk_id, name=name)
            )
            wait_for(connections, single.operation_id)
            way_back.disk_snapshots[disk_id] = single.snapshot.id
    return way_back
