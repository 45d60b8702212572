"""`stillpoint snapshot`: one snapshot of a whole machine."""

from typing import Annotated

import grpc
import typer

from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    BatchDeleteInstanceSnapshotsRequest,
    BatchDeleteInstanceSnapshotsResponse,
    CopyInstanceSnapshotRequest,
    CreateInstanceSnapshotRequest,
    ListInstanceSnapshotsRequest,
    UpdateInstanceSnapshotRequest,
)
from stillpoint_cli.asking import YesOption, ask
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.candidates import list_candidates
from stillpoint_cli.commands.disk_snapshot import (
    copy_disk_snapshot,
    delete_disk_snapshot,
    list_disk_snapshots,
    update_disk_snapshot,
)
from stillpoint_cli.commands.instance_snapshot import (
    DryRunOption,
    SnapshotArgument,
    get_snapshot,
    print_snapshot,
    snapshot_state,
    take_snapshot,
)
from stillpoint_cli.commands.members import DETAILED_COLUMNS, TOUCHED_COLUMNS, MemberNow, look_at_members
from stillpoint_cli.commands.snapshot_rollback import roll_back_snapshot
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.describing import (
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
from stillpoint_cli.errors import OperationFailed, explain, sum_up
from stillpoint_cli.following import WaitOption, sent_by, wait_for
from stillpoint_cli.keeping import KeepOption, NewKeepOption
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    as_dict,
    make_table,
    print_card,
    print_error,
    print_json,
    print_list,
    stderr,
    stdout,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_size, format_time

app = make_app(
    "Snapshots of whole machines: every disk of an instance, at one moment, under one id.",
)

_MOST_IN_A_BATCH = 100
_DOOMED_COLUMNS: Columns[MemberNow] = {
    "INSTANCE SNAPSHOT": lambda now: now.instance_snapshot_id,
    **TOUCHED_COLUMNS,
}


@app.command()
def create(
    context: typer.Context,
    instance: Annotated[
        str, typer.Argument(metavar="INSTANCE", help="The instance's id, i-….", show_default=False)
    ] = "",
    *,
    name: Annotated[
        str, typer.Option(help="The name; made from the instance's when left out.", show_default=False)
    ] = "",
    description: DescriptionOption = "",
    label: LabelOption = None,
    keep: KeepOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Take a snapshot of every disk of an instance, at one moment. Who writes to them is not paused.

    Without an instance: list all instances with their disks, whether a snapshot could be taken now, and why not. As
    JSON, the reasons are in the field `obstacles`.
    """
    if not instance:
        if name or description or label or keep or not wait:
            raise typer.BadParameter(
                "name the instance; without one, this takes no snapshot, and of its options only --json",
                param_hint="INSTANCE",
            )
        list_candidates(Connections.of(context), as_json=as_json)
        return
    request = CreateInstanceSnapshotRequest(
        instance_id=instance,
        name=name,
        description=description,
        labels=label_map(label),
        expire_time=keep,
        validate_only=dry_run,
    )
    take_snapshot(Connections.of(context), request, wait=wait, as_json=as_json)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    instance: Annotated[str, typer.Option(metavar="INSTANCE", help="Only snapshots of this instance.")] = "",
    disk: Annotated[str, typer.Option(metavar="DISK", help="Only snapshots that this disk is in.")] = "",
    state: Annotated[int | None, one_of(InstanceSnapshot.State, "STATE_", "snapshots in this state")] = None,
    name: NameOption = "",
    label: WithLabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List instance snapshots, newest first."""
    connections = Connections.of(context)
    wanted = narrowed(
        ListInstanceSnapshotsRequest.Filter,
        instance_id=instance,
        disk_id=disk,
        state=state,
        name=name,
        labels=label,
        since=since,
        before=before,
    )
    snapshots = each(
        lambda token: connections.instance_snapshots.ListInstanceSnapshots(
            ListInstanceSnapshotsRequest(filter=wanted, page_size=page_size(limit), page_token=token)
        ),
        lambda page: page.instance_snapshots,
    )
    columns: Columns[InstanceSnapshot] = {
        "ID": lambda snapshot: snapshot.id,
        "NAME": lambda snapshot: snapshot.name,
        "STATE": snapshot_state,
        "DISKS": lambda snapshot: str(len(snapshot.members)),
        "SIZE": lambda snapshot: format_size(sum(member.size_bytes for member in snapshot.members)),
        "INSTANCE": lambda snapshot: snapshot.instance_id,
        "MOMENT": lambda snapshot: format_time(snapshot.cut_time),
        "EXPIRES": lambda snapshot: format_time(snapshot.expire_time),
    }
    nothing = "No instance snapshots."
    print_list(snapshots, columns, limit=limit, as_json=as_json, nothing=nothing, to_json=lambda row: row)


@app.command()
def show(context: typer.Context, snapshot: SnapshotArgument, as_json: JsonOption = False) -> None:
    """Show an instance snapshot with each member's disk snapshot, and its disk as it is now.

    As JSON, those are in its fields `disk_snapshots` and `disks`, where they have not been deleted since.
    """
    connections = Connections.of(context)
    found = get_snapshot(connections, snapshot)
    members = look_at_members(connections, found)
    if as_json:
        snapshots = [as_dict(each.snapshot) for each in members if each.snapshot]
        disks = [as_dict(each.disk) for each in members if each.disk]
        print_json({**as_dict(found), "disk_snapshots": snapshots, "disks": disks})
        return
    print_snapshot(found, with_members=False)
    if members:
        stdout().print(make_table(members, DETAILED_COLUMNS))


@app.command()
def update(
    context: typer.Context,
    snapshot: SnapshotArgument,
    *,
    name: NewNameOption = None,
    description: NewDescriptionOption = None,
    label: NewLabelOption = None,
    clear_labels: ClearLabelsOption = False,
    keep: NewKeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what an instance snapshot is called and labelled, and how long it is kept, whatever state it is in.

    What is not given stays, and its members keep theirs.
    """
    changed = InstanceSnapshot(id=snapshot)
    mask = change(
        changed, name=name, description=description, labels=label, clear_labels=clear_labels, keep=keep
    )
    response = Connections.of(context).instance_snapshots.UpdateInstanceSnapshot(
        UpdateInstanceSnapshotRequest(
            request_id=new_request_id(), instance_snapshot=changed, update_mask=mask
        )
    )
    print_json(response) if as_json else print_snapshot(response.instance_snapshot)


app.command("rollback")(roll_back_snapshot)


@app.command()
def delete(
    context: typer.Context,
    snapshots: Annotated[list[str], typer.Argument(metavar="ID...", help="Instance snapshots, isnap-….")],
    yes: YesOption = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Delete instance snapshots with all their members, for good. One that cannot be deleted does not stop the others."""
    connections = Connections.of(context)
    snapshots = list(dict.fromkeys(snapshots))
    if not yes:
        members = [
            member
            for snapshot in snapshots
            for member in look_at_members(connections, get_snapshot(connections, snapshot))
        ]
        stderr().print(make_table(members, _DOOMED_COLUMNS))
        what = snapshots[0] if len(snapshots) == 1 else f"these {len(snapshots)} instance snapshots"
        ask(
            f"Delete {what} with {len(members)} disk snapshots? They cannot be restored. The disks stay as they are."
        )
    outcomes = [
        _finish_deletion(connections, result, wait=wait, as_json=as_json)
        for begin in range(0, len(snapshots), _MOST_IN_A_BATCH)
        for result in connections.instance_snapshots.BatchDeleteInstanceSnapshots(
            BatchDeleteInstanceSnapshotsRequest(
                request_id=new_request_id(), instance_snapshot_ids=snapshots[begin : begin + _MOST_IN_A_BATCH]
            )
        ).results
    ]
    if not all(outcomes):
        raise typer.Exit(1)


@app.command()
def copy(
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
    """Copy an instance snapshot with all its members to another region, for new disks or a whole new instance there.

    The copy stands by itself; until it is complete, the snapshot here cannot be deleted.
    """
    connections = Connections.of(context)
    response = connections.instance_snapshots.CopyInstanceSnapshot(
        CopyInstanceSnapshotRequest(
            request_id=new_request_id(), instance_snapshot_id=snapshot, destination_region=to, name=name
        )
    )
    sent = sent_by(wait_for(connections, response.operation_id)) if wait else ""
    if as_json:
        print_json(response)
        return
    done = "is copied" if wait else "is being copied"
    print_card(
        f"{snapshot} {done} to {to}.",
        {
            "copy": response.copy_instance_snapshot_id,
            "sent": sent,
            "operation": response.operation_id,
        },
    )


def _finish_deletion(
    connections: Connections,
    result: BatchDeleteInstanceSnapshotsResponse.Result,
    *,
    wait: bool,
    as_json: bool,
) -> bool:
    snapshot = result.instance_snapshot_id
    if result.HasField("error"):
        print_error(f"{snapshot}: {sum_up(result.error)}")
        return False
    try:
        if wait:
            wait_for(connections, result.operation_id)
    except (grpc.RpcError, OperationFailed) as error:
        print_error(f"{snapshot}: {explain(error)}")
        return False
    if as_json:
        print_json({"instance_snapshot_id": snapshot, "operation_id": result.operation_id})
    else:
        done = "is deleted" if wait else "is being deleted"
        print_card(f"{snapshot} {done}.", {"operation": result.operation_id})
    return True


# Last, as help lists them.
app.command("disk-list")(list_disk_snapshots)
app.command("disk-update")(update_disk_snapshot)
app.command("disk-copy")(copy_disk_snapshot)
app.command("disk-delete")(delete_disk_snapshot)
