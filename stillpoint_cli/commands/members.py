"""The members of an instance snapshot as they are now: their disk snapshots, and what has become of their disks."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from rich.text import Text

from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_service_pb2 import GetDiskRequest
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import ListDiskSnapshotsRequest
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from stillpoint_cli.commands.disk_snapshot import disk_snapshot_state, find_disk_snapshots
from stillpoint_cli.commands.disk_views import disk_state
from stillpoint_cli.commands.instance_snapshot import MEMBER_COLUMNS
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import code_of
from stillpoint_cli.output import Columns
from stillpoint_cli.values import format_size, format_time


@dataclass(frozen=True, slots=True)
class MemberNow:
    """A member, its disk snapshot and its disk; None for what has been deleted since. The disks of a copy are in another
    region.
    """

    instance_snapshot_id: str
    source_region: str
    member: Member
    snapshot: DiskSnapshot | None
    disk: Disk | None


def look_at_members(connections: Connections, snapshot: InstanceSnapshot) -> list[MemberNow]:
    wanted = ListDiskSnapshotsRequest.Filter(instance_snapshot_id=snapshot.id)
    snapshots = {each.id: each for each in find_disk_snapshots(connections, wanted)}
    return [
        MemberNow(
            snapshot.id,
            snapshot.source_region,
            member,
            snapshots.get(member.snapshot_id),
            None if snapshot.source_region else _find_disk(connections, member.disk_id),
        )
        for member in snapshot.members
    ]


def _find_disk(connections: Connections, disk_id: str) -> Disk | None:
    try:
        return connections.disks.GetDisk(GetDiskRequest(disk_id=disk_id)).disk
    except grpc.RpcError as error:
        if code_of(error) is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def _of_member(make: Callable[[Member], str | Text]) -> Callable[[MemberNow], str | Text]:
    return lambda now: make(now.member)


def _state(now: MemberNow) -> Text:
    return disk_snapshot_state(now.snapshot) if now.snapshot else Text("deleted", style="bold red")


def _disk_now(now: MemberNow) -> Text:
    """A rollback is refused when the disk is gone or busy; one that grew since keeps its size."""
    if now.source_region:
        return Text(f"in {now.source_region}")
    if now.disk is None:
        return Text("deleted", style="bold red")
    grown = now.disk.size_bytes > now.member.size_bytes
    return Text.assemble(disk_state(now.disk), f" {format_size(now.disk.size_bytes)}" if grown else "")


TOUCHED_COLUMNS: Columns[MemberNow] = {
    **{name: _of_member(make) for name, make in MEMBER_COLUMNS.items()},
    "STATE": _state,
    "DISK NOW": _disk_now,
}

DETAILED_COLUMNS: Columns[MemberNow] = {
    **TOUCHED_COLUMNS,
    "MOMENT": lambda now: format_time(now.snapshot.cut_time) if now.snapshot else "",
    "ASKED FOR": lambda now: format_time(now.snapshot.create_time) if now.snapshot else "",
}
