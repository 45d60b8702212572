"""`stillpoint snapshot disk-list`, `disk-copy` and `disk-delete`: snapshots of single disks, members of instance snapshots too."""

from typing import Annotated

import typer
from rich.text import Text

from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import (
    CopyDiskSnapshotRequest,
    DeleteDiskSnapshotRequest,
    ListDiskSnapshotsRequest,
)
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.following import WaitOption, wait_for
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    enum_name,
    print_card,
    print_json,
    print_list,
    styled,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_size, format_time

SnapshotArgument = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The disk snapshot's id, snap-….")]


def list_disk_snapshots(
    context: typer.Context,
    disk: Annotated[str, typer.Option(metavar="DISK", help="Only snapshots of this disk.")] = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List snapshots of single disks, newest first, the members of instance snapshots among them."""
    connections = Connections.of(context)
    wanted = ListDiskSnapshotsRequest.Filter(disk_id=disk)
    snapshots = each(
        lambda token: connections.disk_snapshots.ListDiskSnapshots(
            ListDiskSnapshotsRequest(filter=wanted, page_size=page_size(limit), page_token=token)
        ),
        lambda page: page.snapshots,
    )
    columns: Columns[DiskSnapshot] = {
        "ID": lambda snapshot: snapshot.id,
        "NAME": lambda snapshot: snapshot.name,
        "STATE": _state,
        "SIZE": lambda snapshot: format_size(snapshot.size_bytes),
        "DISK": lambda snapshot: snapshot.disk_id,
        "FROM REGION": lambda snapshot: snapshot.source_region,
        "MEMBER OF": lambda snapshot: snapshot.instance_snapshot_id,
        "MOMENT": lambda snapshot: format_time(snapshot.cut_time),
    }
    nothing = "No disk snapshots."
    print_list(snapshots, columns, limit=limit, as_json=as_json, nothing=nothing, to_json=lambda row: row)


def copy_disk_snapshot(
    context: typer.Context,
    snapshot: SnapshotArgument,
    to: Annotated[str, typer.Option(metavar="REGION", help="The region to copy it to.", show_default=False)],
    name: Annotated[
        str, typer.Option(help="The copy's name; the snapshot's when left out.", show_default=False)
    ] = "",
    *,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Copy a disk snapshot to another region. Only what differs from an earlier copy of the same disk is sent."""
    connections = Connections.of(context)
    response = connections.disk_snapshots.CopyDiskSnapshot(
        CopyDiskSnapshotRequest(
            request_id=new_request_id(), snapshot_id=snapshot, destination_region=to, name=name
        )
    )
    if wait:
        wait_for(connections, response.operation_id)
    if as_json:
        print_json(response)
    else:
        done = "is copied" if wait else "is being copied"
        fields = {"copy": response.copy_snapshot_id, "operation": response.operation_id}
        print_card(f"{snapshot} {done} to {to}.", fields)


def delete_disk_snapshot(
    context: typer.Context,
    snapshot: SnapshotArgument,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Delete a disk snapshot that stands alone. A member of an instance snapshot goes only with that."""
    connections = Connections.of(context)
    response = connections.disk_snapshots.DeleteDiskSnapshot(
        DeleteDiskSnapshotRequest(request_id=new_request_id(), snapshot_id=snapshot)
    )
    if wait:
        wait_for(connections, response.operation_id)
    if as_json:
        print_json(response)
    else:
        done = "is deleted" if wait else "is being deleted"
        print_card(f"{snapshot} {done}.", {"operation": response.operation_id})


def print_disk_snapshot(snapshot: DiskSnapshot) -> None:
    print_card(
        snapshot.name,
        {
            "id": snapshot.id,
            "state": _state(snapshot),
            "disk": snapshot.disk_id,
            "copied from": " ".join([snapshot.source_region, snapshot.source_snapshot_id]).strip(),
            "size": format_size(snapshot.size_bytes),
            "member of": snapshot.instance_snapshot_id,
            "held by": snapshot.operation_id,
            "moment": format_time(snapshot.cut_time),
        },
    )


def _state(snapshot: DiskSnapshot) -> Text:
    return styled(enum_name(DiskSnapshot.State.Name, snapshot.state, "STATE_"))
