"""Snapshots of what a rollback is about to overwrite, taken before it.

spec.md: "For the security of data in your disks, we recommend creating Snapshots for corresponding disks before Instance
Snapshot rollback". Where any that goes back is on the instance, a snapshot of the instance has all that are; a disk that is
detached gets a snapshot of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from stillpoint.disk.v1.disk_snapshot_service_pb2 import CreateDiskSnapshotRequest
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import CreateInstanceSnapshotRequest
from stillpoint_cli.commands.disk_views import list_disks
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.errors import Failure, explain
from stillpoint_cli.following import wait_for
from stillpoint_cli.pasting import command


@dataclass(slots=True)
class WayBack:
    """What was taken so far, all of it AVAILABLE."""

    instance_snapshot_id: str = ""
    members: Sequence[str] = ()
    """The disks that it has."""
    going_back: Sequence[str] = ()
    """The disks that are rolled back."""
    disk_snapshots: dict[str, str] = field(default_factory=dict)
    """The snapshot of each disk that it does not have, by the disk."""

    @property
    def snapshot_ids(self) -> list[str]:
        return [*filter(None, [self.instance_snapshot_id]), *self.disk_snapshots.values()]

    def commands(self) -> list[str]:
        """How to go back to what the disks held before."""
        in_whole = [disk_id for disk_id in self.going_back if disk_id in self.members]
        # A disk that is on the instance and does not go back is left alone on the way back, too.
        named = in_whole if len(in_whole) < len(self.members) else []
        only = [word for disk_id in named for word in ("--disk", disk_id)]
        return [
            *([command("snapshot", "rollback", self.instance_snapshot_id, *only)] if in_whole else []),
            *(command("disk", "rollback", disk, snapshot) for disk, snapshot in self.disk_snapshots.items()),
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


def check_way_back(connections: Connections, target: InstanceSnapshot, chosen: Sequence[str]) -> None:
    """Refuses when the instance's snapshot could not be taken now. Those of detached disks cannot be asked for so."""
    if _on_instance(connections, target, _going_back(target, chosen)):
        connections.instance_snapshots.CreateInstanceSnapshot(
            CreateInstanceSnapshotRequest(instance_id=target.instance_id, validate_only=True)
        )


def take_way_back(connections: Connections, target: InstanceSnapshot, chosen: Sequence[str]) -> WayBack:
    """Of all members' disks, or of those chosen. Waits until every snapshot can be rolled back to."""
    way_back = WayBack(going_back=_going_back(target, chosen))
    name = f"before-rollback-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with way_back.named_when_it_fails("Nothing was rolled back."):
        if _on_instance(connections, target, way_back.going_back):
            whole = connections.instance_snapshots.CreateInstanceSnapshot(
                CreateInstanceSnapshotRequest(
                    request_id=new_request_id(), instance_id=target.instance_id, name=name
                )
            )
            wait_for(connections, whole.operation_id)
            way_back.instance_snapshot_id = whole.instance_snapshot.id
            way_back.members = [member.disk_id for member in whole.instance_snapshot.members]
        # Whatever was attached or detached meanwhile: what the one snapshot does not have gets another.
        for disk_id in (each for each in way_back.going_back if each not in way_back.members):
            single = connections.disk_snapshots.CreateDiskSnapshot(
                CreateDiskSnapshotRequest(request_id=new_request_id(), disk_id=disk_id, name=name)
            )
            wait_for(connections, single.operation_id)
            way_back.disk_snapshots[disk_id] = single.snapshot.id
    return way_back


def _going_back(target: InstanceSnapshot, chosen: Sequence[str]) -> Sequence[str]:
    return chosen or [member.disk_id for member in target.members]


def _on_instance(connections: Connections, target: InstanceSnapshot, disk_ids: Sequence[str]) -> bool:
    """Whether any of the disks is on the instance, whose snapshot would have it."""
    return any(disk.id in disk_ids for disk in list_disks(connections, instance_id=target.instance_id))
