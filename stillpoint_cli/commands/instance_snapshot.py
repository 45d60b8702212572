"""One instance snapshot, taken and shown: for `stillpoint snapshot`, and for `stillpoint disk snapshot --whole-instance`."""

from typing import Annotated

import typer
from rich.text import Text

from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    CreateInstanceSnapshotRequest,
    GetInstanceSnapshotRequest,
)
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.describing import described
from stillpoint_cli.following import wait_for
from stillpoint_cli.output import Columns, enum_name, make_table, print_card, print_json, say, stdout, styled
from stillpoint_cli.values import format_size, format_time

SnapshotArgument = Annotated[str, typer.Argument(metavar="ID", help="The instance snapshot's id, isnap-….")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, or everything that stands in the way.")
]

DRY_RUN = "A dry run: nothing was changed."

MEMBER_COLUMNS: Columns[Member] = {
    "DISK": lambda member: member.disk_id,
    "NAME": lambda member: member.disk_name,
    "ROLE": lambda member: "system" if member.is_system_disk else "data",
    "DEVICE": lambda member: member.device,
    "SIZE": lambda member: format_size(member.size_bytes),
    "SNAPSHOT": lambda member: member.snapshot_id,
}


def take_snapshot(
    connections: Connections, request: CreateInstanceSnapshotRequest, *, wait: bool, as_json: bool
) -> None:
    """Send the request and print its answer."""
    request.request_id = new_request_id()
    response = connections.instance_snapshots.CreateInstanceSnapshot(request)
    if wait and not request.validate_only:
        wait_for(connections, response.operation_id)
        response.instance_snapshot.CopyFrom(get_snapshot(connections, response.instance_snapshot.id))
    print_json(response) if as_json else print_snapshot(response.instance_snapshot)
    if request.validate_only:
        say(f"{DRY_RUN} Nothing stands in the way of this snapshot.")


def get_snapshot(connections: Connections, snapshot_id: str) -> InstanceSnapshot:
    request = GetInstanceSnapshotRequest(instance_snapshot_id=snapshot_id)
    return connections.instance_snapshots.GetInstanceSnapshot(request).instance_snapshot


def print_snapshot(snapshot: InstanceSnapshot, *, with_members: bool = True) -> None:
    print_card(
        snapshot.name,
        {
            "id": snapshot.id,
            "state": snapshot_state(snapshot) if snapshot.state else "",
            "because": snapshot.state_reason,
            "instance": snapshot.instance_id,
            "copy of": _source(snapshot),
            "held by": snapshot.operation_id,
            "moment": format_time(snapshot.cut_time) if snapshot.id else "",
            "expires": format_time(snapshot.expire_time),
            "asked for": format_time(snapshot.create_time) if snapshot.id else "",
            **described(snapshot),
        },
    )
    if snapshot.members and with_members:
        stdout().print(make_table(snapshot.members, MEMBER_COLUMNS))


def _source(snapshot: InstanceSnapshot) -> str:
    return (
        f"{snapshot.source_instance_snapshot_id} in {snapshot.source_region}"
        if snapshot.source_region
        else ""
    )


def snapshot_state(snapshot: InstanceSnapshot) -> Text:
    return styled(enum_name(InstanceSnapshot.State.Name, snapshot.state, "STATE_"))
