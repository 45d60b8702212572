"""`stillpoint snapshot disk-…`: snapshots of single disks, members of instance snapshots too."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import (
    CopyDiskSnapshotRequest,
    DeleteDiskSnapshotRequest,
    ListDiskSnapshotsRequest,
    UpdateDiskSnapshotRequest,
)
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.describing import (
    BeforeOption,
    ClearLabelsOption,
    NameOption,
    NewDescriptionOption,
    NewLabelOption,
    NewNameOption,
    SinceOption,
    WithLabelOption,
    change,
    described,
    narrowed,
    one_of,
)
from stillpoint_cli.following import WaitOption, sent_by, wait_for
from stillpoint_cli.keeping import NewKeepOption
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
from stillpoint_cli.paging import MOST_PER_PAGE, each, page_size
from stillpoint_cli.values import format_size, format_time

DiskSnapshotArgument = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="The disk snapshot's id, snap-….")
]


def list_disk_snapshots(
    context: typer.Context,
    *,
    disk: Annotated[str, typer.Option(metavar="DISK", help="Only snapshots of this disk.")] = "",
    instance_snapshot: Annotated[
        str, typer.Option("--snapshot", metavar="ID", help="Only members of this instance snapshot, isnap-….")
    ] = "",
    state: Annotated[int | None, one_of(DiskSnapshot.State, "STATE_", "snapshots in this state")] = None,
    kind: Annotated[int | None, one_of(DiskSnapshot.Kind, "KIND_", "snapshots of this kind")] = None,
    name: NameOption = "",
    label: WithLabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List snapshots of single disks, newest first, the members of instance snapshots among them."""
    wanted = narrowed(
        ListDiskSnapshotsRequest.Filter,
        disk_id=disk,
        instance_snapshot_id=instance_snapshot,
        state=state,
        kind=kind,
        name=name,
        labels=label,
        since=since,
        before=before,
    )
    snapshots = find_disk_snapshots(Connections.of(context), wanted, per_page=page_size(limit))
    columns: Columns[DiskSnapshot] = {
        "ID": lambda snapshot: snapshot.id,
        "NAME": lambda snapshot: snapshot.name,
        "STATE": disk_snapshot_state,
        "SIZE": lambda snapshot: format_size(snapshot.size_bytes),
        "DISK": lambda snapshot: snapshot.disk_id,
        "FROM REGION": lambda snapshot: snapshot.source_region,
        "MEMBER OF": lambda snapshot: snapshot.instance_snapshot_id,
        "MOMENT": lambda snapshot: format_time(snapshot.cut_time),
        "EXPIRES": lambda snapshot: format_time(snapshot.expire_time),
    }
    nothing = "No disk snapshots."
    print_list(snapshots, columns, limit=limit, as_json=as_json, nothing=nothing, to_json=lambda row: row)


def update_disk_snapshot(
    context: typer.Context,
    snapshot: DiskSnapshotArgument,
    *,
    name: NewNameOption = None,
    description: NewDescriptionOption = None,
    label: NewLabelOption = None,
    clear_labels: ClearLabelsOption = False,
    keep: NewKeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a disk snapshot is called and labelled, a member of an instance snapshot too, and how long it is kept.
    What is not given stays.
    """
    changed = DiskSnapshot(id=snapshot)
    mask = change(
        changed, name=name, description=description, labels=label, clear_labels=clear_labels, keep=keep
    )
    response = Connections.of(context).disk_snapshots.UpdateDiskSnapshot(
        UpdateDiskSnapshotRequest(request_id=new_request_id(), snapshot=changed, update_mask=mask)
    )
    print_json(response) if as_json else print_disk_snapshot(response.snapshot)


def copy_disk_snapshot(
    context: typer.Context,
    snapshot: DiskSnapshotArgument,
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
    sent = sent_by(wait_for(connections, response.operation_id)) if wait else ""
    if as_json:
        print_json(response)
    else:
        done = "is copied" if wait else "is being copied"
        fields = {"copy": response.copy_snapshot_id, "sent": sent, "operation": response.operation_id}
        print_card(f"{snapshot} {done} to {to}.", fields)


def delete_disk_snapshot(
    context: typer.Context,
    snapshot: DiskSnapshotArgument,
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
            "state": disk_snapshot_state(snapshot),
            "disk": snapshot.disk_id,
            "copied from": " ".join([snapshot.source_region, snapshot.source_snapshot_id]).strip(),
            "size": format_size(snapshot.size_bytes),
            "member of": snapshot.instance_snapshot_id,
            "held by": snapshot.operation_id,
            "taken by": snapshot.policy_id,
            "moment": format_time(snapshot.cut_time),
            "expires": format_time(snapshot.expire_time),
            **described(snapshot),
        },
    )


def find_disk_snapshots(
    connections: Connections, wanted: ListDiskSnapshotsRequest.Filter, *, per_page: int = MOST_PER_PAGE
) -> Iterator[DiskSnapshot]:
    return each(
        lambda token: connections.disk_snapshots.ListDiskSnapshots(
            ListDiskSnapshotsRequest(filter=wanted, page_size=per_page, page_token=token)
        ),
        lambda page: page.snapshots,
    )


def disk_snapshot_state(snapshot: DiskSnapshot) -> Text:
    return styled(enum_name(DiskSnapshot.State.Name, snapshot.state, "STATE_"))
