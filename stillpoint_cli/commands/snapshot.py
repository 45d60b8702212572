"""`stillpoint snapshot`: one snapshot of a whole machine."""

from collections.abc import Callable
from typing import Annotated

import grpc
import typer
from rich.text import Text

from stillpoint.disk.v1.disk_service_pb2 import GetDiskRequest
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    BatchDeleteInstanceSnapshotsRequest,
    BatchDeleteInstanceSnapshotsResponse,
    CopyInstanceSnapshotRequest,
    CreateInstanceSnapshotRequest,
    ListInstanceSnapshotsRequest,
    RollbackInstanceSnapshotRequest,
)
from stillpoint_cli.asking import YesOption, ask
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.disk import disk_state
from stillpoint_cli.commands.disk_snapshot import (
    copy_disk_snapshot,
    delete_disk_snapshot,
    list_disk_snapshots,
)
from stillpoint_cli.commands.instance_snapshot import (
    DRY_RUN,
    MEMBER_COLUMNS,
    DryRunOption,
    get_snapshot,
    print_snapshot,
    snapshot_state,
    take_snapshot,
)
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.errors import OperationFailed, code_of, explain, sum_up
from stillpoint_cli.following import WaitOption, wait_for
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    make_table,
    print_card,
    print_error,
    print_json,
    print_list,
    say,
    stderr,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_size, format_time

app = make_app(
    "Snapshots of whole machines: every disk of an instance, at one moment, under one id.",
)
app.command("disk-list", rich_help_panel="Snapshots of single disks")(list_disk_snapshots)
app.command("disk-copy", rich_help_panel="Snapshots of single disks")(copy_disk_snapshot)
app.command("disk-delete", rich_help_panel="Snapshots of single disks")(delete_disk_snapshot)

SnapshotArgument = Annotated[str, typer.Argument(metavar="ID", help="The instance snapshot's id, isnap-….")]
_MOST_IN_A_BATCH = 100


@app.command()
def create(
    context: typer.Context,
    instance: Annotated[str, typer.Argument(metavar="INSTANCE", help="The instance's id, i-….")],
    name: Annotated[
        str, typer.Option(help="The name; made from the instance's when left out.", show_default=False)
    ] = "",
    dry_run: DryRunOption = False,
    *,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Take a snapshot of every disk of an instance, at one moment. Who writes to them is not paused."""
    request = CreateInstanceSnapshotRequest(instance_id=instance, name=name, validate_only=dry_run)
    take_snapshot(Connections.of(context), request, wait=wait, as_json=as_json)


@app.command("list")
def list_(
    context: typer.Context,
    instance: Annotated[str, typer.Option(metavar="INSTANCE", help="Only snapshots of this instance.")] = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List instance snapshots, newest first."""
    connections = Connections.of(context)
    wanted = ListInstanceSnapshotsRequest.Filter(instance_id=instance)
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
    }
    nothing = "No instance snapshots."
    print_list(snapshots, columns, limit=limit, as_json=as_json, nothing=nothing, to_json=lambda row: row)


@app.command()
def show(context: typer.Context, snapshot: SnapshotArgument, as_json: JsonOption = False) -> None:
    """Show an instance snapshot and its members."""
    found = get_snapshot(Connections.of(context), snapshot)
    print_json(found) if as_json else print_snapshot(found)


@app.command()
def rollback(
    context: typer.Context,
    snapshot: SnapshotArgument,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    *,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Roll every disk of a snapshot back to its moment, together. The instance must be stopped.

    What the disks hold now is lost: take a snapshot first. Disks attached since are left alone.
    """
    connections = Connections.of(context)
    if not yes and not dry_run:
        found = get_snapshot(connections, snapshot)
        stderr().print(make_table(found.members, {**MEMBER_COLUMNS, "NOW": _state_now(connections)}))
        moment = format_time(found.cut_time)
        ask(f"Roll these {len(found.members)} disks back to {moment}? What they hold now is lost.")
    response = connections.instance_snapshots.RollbackInstanceSnapshot(
        RollbackInstanceSnapshotRequest(
            request_id=new_request_id(), instance_snapshot_id=snapshot, validate_only=dry_run
        )
    )
    if wait and not dry_run:
        wait_for(connections, response.operation_id)
        response.instance_snapshot.CopyFrom(get_snapshot(connections, snapshot))
    if as_json:
        print_json(response)
    else:
        print_snapshot(response.instance_snapshot)
        left = "would be" if dry_run else "was"
        for disk_id in response.untouched_disk_ids:
            say(f"{disk_id} is on the instance and not in the snapshot: it {left} left alone.")
    if dry_run:
        say(f"{DRY_RUN} Nothing stands in the way of this rollback.")


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
        members = [member for snapshot in snapshots for member in get_snapshot(connections, snapshot).members]
        stderr().print(make_table(members, MEMBER_COLUMNS))
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
    if wait:
        wait_for(connections, response.operation_id)
    if as_json:
        print_json(response)
        return
    done = "is copied" if wait else "is being copied"
    print_card(
        f"{snapshot} {done} to {to}.",
        {"copy": response.copy_instance_snapshot_id, "operation": response.operation_id},
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


def _state_now(connections: Connections) -> Callable[[Member], Text]:
    """The state of a member's disk at this moment: a rollback is refused when one is gone or busy."""

    def state(member: Member) -> Text:
        try:
            return disk_state(connections.disks.GetDisk(GetDiskRequest(disk_id=member.disk_id)).disk)
        except grpc.RpcError as error:
            if code_of(error) is grpc.StatusCode.NOT_FOUND:
                return Text("gone", style="bold red")
            raise

    return state
