"""`stillpoint disk`: disks, their bytes, and snapshots of one disk."""

from pathlib import Path
from typing import Annotated

import typer

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_service_pb2 import (
    CreateDiskRequest,
    DeleteDiskRequest,
    GetDiskRequest,
    ListDisksRequest,
    ResizeDiskRequest,
    RollbackDiskRequest,
    UpdateDiskRequest,
)
from stillpoint.disk.v1.disk_snapshot_service_pb2 import CreateDiskSnapshotRequest, GetDiskSnapshotRequest
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import CreateInstanceSnapshotRequest
from stillpoint_cli.asking import YesOption, ask
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.disk_rollback import refuse_rollback
from stillpoint_cli.commands.disk_snapshot import print_disk_snapshot
from stillpoint_cli.commands.disk_views import DISK_COLUMNS, print_disk, walk_disks
from stillpoint_cli.commands.instance_snapshot import take_snapshot
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.describing import (
    NAME_HELP,
    BeforeOption,
    ClearLabelsOption,
    DescriptionOption,
    LabelOption,
    NameOption,
    NewDescriptionOption,
    NewLabelOption,
    NewNameOption,
    SinceOption,
    WithLabelOption,
    change,
    label_map,
    narrowed,
    one_of,
)
from stillpoint_cli.following import WaitOption, wait_for
from stillpoint_cli.keeping import KeepOption
from stillpoint_cli.output import (
    JsonOption,
    LimitOption,
    print_card,
    print_json,
    print_list,
    printable,
)
from stillpoint_cli.paging import page_size
from stillpoint_cli.transfer import export_file, import_file
from stillpoint_cli.values import format_in_full, parse_size

app = make_app(
    "Disks. They are attached and detached with `stillpoint instance`.",
)

DiskArgument = Annotated[str, typer.Argument(metavar="DISK", help="The disk's id, disk-….")]


def size_in_bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)],
    *,
    size: Annotated[
        int | None,
        typer.Option(
            parser=size_in_bytes,
            metavar="SIZE",
            help="The size: 512MiB, 10GiB or plain bytes. With --from, it may be left out: then the snapshot's.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="SNAPSHOT", help="The snap-… to start from.", show_default=False)
    ] = "",
    description: DescriptionOption = "",
    label: LabelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a detached data disk, blank or from a snapshot."""
    if size is None and not source:
        raise typer.BadParameter("a blank disk needs a size", param_hint="--size")
    response = Connections.of(context).disks.CreateDisk(
        CreateDiskRequest(
            request_id=new_request_id(),
            name=name,
            size_bytes=size or 0,
            source_snapshot_id=source,
            description=description,
            labels=label_map(label),
        )
    )
    print_json(response) if as_json else print_disk(response.disk)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    instance: Annotated[str, typer.Option(metavar="INSTANCE", help="Only disks of this instance.")] = "",
    source: Annotated[
        str, typer.Option("--from", metavar="SNAPSHOT", help="Only disks made from this snapshot.")
    ] = "",
    state: Annotated[int | None, one_of(Disk.State, "STATE_", "disks in this state")] = None,
    role: Annotated[int | None, one_of(Disk.Role, "ROLE_", "disks of this role")] = None,
    name: NameOption = "",
    label: WithLabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List disks, newest first."""
    wanted = narrowed(
        ListDisksRequest.Filter,
        instance_id=instance,
        source_snapshot_id=source,
        state=state,
        role=role,
        name=name,
        labels=label,
        since=since,
        before=before,
    )
    disks = walk_disks(Connections.of(context), wanted, page_size(limit))
    print_list(
        disks, DISK_COLUMNS, limit=limit, as_json=as_json, nothing="No disks.", to_json=lambda disk: disk
    )


@app.command()
def show(context: typer.Context, disk: DiskArgument, as_json: JsonOption = False) -> None:
    """Show a disk."""
    found = Connections.of(context).disks.GetDisk(GetDiskRequest(disk_id=disk)).disk
    print_json(found) if as_json else print_disk(found)


@app.command()
def update(
    context: typer.Context,
    disk: DiskArgument,
    *,
    name: NewNameOption = None,
    description: NewDescriptionOption = None,
    label: NewLabelOption = None,
    clear_labels: ClearLabelsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Change what a disk is called and labelled, whatever state it is in. What is not given stays."""
    changed = Disk(id=disk)
    mask = change(changed, name=name, description=description, labels=label, clear_labels=clear_labels)
    response = Connections.of(context).disks.UpdateDisk(
        UpdateDiskRequest(request_id=new_request_id(), disk=changed, update_mask=mask)
    )
    print_json(response) if as_json else print_disk(response.disk)


@app.command()
def resize(
    context: typer.Context,
    disk: DiskArgument,
    size: Annotated[
        int,
        typer.Argument(
            parser=size_in_bytes,
            metavar="SIZE",
            help="The new size, larger than it has: 20GiB or plain bytes.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a disk larger, attached or not. The new part reads zero. A disk never becomes smaller again."""
    response = Connections.of(context).disks.ResizeDisk(
        ResizeDiskRequest(request_id=new_request_id(), disk_id=disk, size_bytes=size)
    )
    print_json(response) if as_json else print_disk(response.disk)


@app.command()
def rollback(
    context: typer.Context,
    disk: DiskArgument,
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A snapshot of this disk, snap-….")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Roll a disk back to one of its snapshots, a member of an instance snapshot or not.

    The disk is detached, or on an instance that is stopped. What it holds now is lost: take a snapshot first. Who is
    writing to it is cut off.
    """
    connections = Connections.of(context)
    now = connections.disks.GetDisk(GetDiskRequest(disk_id=disk)).disk
    if not yes:
        request = GetDiskSnapshotRequest(snapshot_id=snapshot)
        target = connections.disk_snapshots.GetDiskSnapshot(request).snapshot
        refuse_rollback(connections, now, target)
        moment = format_in_full(target.cut_time)
        ask(f"Roll {disk} ({printable(now.name)}) back to {moment}? What it holds now is lost.")
    if now.instance_id:
        _roll_back_on_instance(connections, now, snapshot, as_json=as_json)
        return
    response = connections.disks.RollbackDisk(
        RollbackDiskRequest(request_id=new_request_id(), disk_id=disk, snapshot_id=snapshot)
    )
    print_json(response) if as_json else print_disk(response.disk)


def _roll_back_on_instance(connections: Connections, disk: Disk, snapshot: str, *, as_json: bool) -> None:
    response = connections.instances.RollbackDisk(
        instance_service_pb2.RollbackDiskRequest(
            request_id=new_request_id(), instance_id=disk.instance_id, disk_id=disk.id, snapshot_id=snapshot
        )
    )
    if as_json:
        print_json(response)
    else:
        print_disk(connections.disks.GetDisk(GetDiskRequest(disk_id=disk.id)).disk)


@app.command()
def delete(
    context: typer.Context, disk: DiskArgument, wait: WaitOption = True, as_json: JsonOption = False
) -> None:
    """Delete a detached disk. Its snapshots stay, and can still become new disks."""
    connections = Connections.of(context)
    response = connections.disks.DeleteDisk(DeleteDiskRequest(request_id=new_request_id(), disk_id=disk))
    if wait:
        wait_for(connections, response.operation_id)
    if as_json:
        print_json(response)
    else:
        done = "is deleted" if wait else "is being deleted"
        print_card(f"{disk} {done}.", {"operation": response.operation_id})


@app.command()
def snapshot(
    context: typer.Context,
    disk: DiskArgument,
    name: Annotated[
        str,
        typer.Option(
            help="The name; made from the disk's or the instance's when left out.", show_default=False
        ),
    ] = "",
    *,
    whole_instance: Annotated[
        bool, typer.Option("--whole-instance", help="Of every disk of the instance that it is on, as one.")
    ] = False,
    description: DescriptionOption = "",
    label: LabelOption = None,
    keep: KeepOption = None,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Take a snapshot of this one disk, or of its whole instance. Who writes to it is not paused."""
    connections = Connections.of(context)
    labels = label_map(label)
    if whole_instance:
        request = CreateInstanceSnapshotRequest(
            disk_id=disk,
            name=name,
            description=description,
            labels=labels,
            expire_time=keep,
        )
        take_snapshot(connections, request, wait=wait, as_json=as_json)
        return
    response = connections.disk_snapshots.CreateDiskSnapshot(
        CreateDiskSnapshotRequest(
            request_id=new_request_id(),
            disk_id=disk,
            name=name,
            description=description,
            labels=labels,
            expire_time=keep,
        )
    )
    if wait:
        wait_for(connections, response.operation_id)
        found = GetDiskSnapshotRequest(snapshot_id=response.snapshot.id)
        response.snapshot.CopyFrom(connections.disk_snapshots.GetDiskSnapshot(found).snapshot)
    print_json(response) if as_json else print_disk_snapshot(response.snapshot)


@app.command("import")
def import_(
    context: typer.Context,
    disk: DiskArgument,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The raw image."),
    ],
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse",
            help="Do not send what is zero in the file. Only for a fresh, blank disk: "
            "elsewhere, what the disk holds there would stay.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a raw image to the beginning of a disk. Ends when every byte is durable there.

    What the disk has beyond the end of the file stays as it is.
    """
    result = import_file(Connections.of(context), disk, file, sparse=sparse, show_progress=not as_json)
    print_json({"disk_id": disk, **result.as_dict()}) if as_json else print(
        result.describe("written to", disk)
    )


@app.command()
def export(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="DISK|SNAPSHOT", help="What to read: disk-… or snap-….")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", dir_okay=False, help="The raw image to make; replaced when it is there."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Read a disk or a snapshot into a raw image, a sparse file: what reads zero takes no room.

    A disk that is written to meanwhile is read at no one moment; export a snapshot for that.
    """
    result = export_file(Connections.of(context), source, file, show_progress=not as_json)
    print_json({"source_id": source, **result.as_dict()}) if as_json else print(
        result.describe("read from", source)
    )
