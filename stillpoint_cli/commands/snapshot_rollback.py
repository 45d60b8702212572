"""`stillpoint snapshot rollback`: what goes back is shown first, and kept first where that is asked for."""

from collections.abc import Sequence
from typing import Annotated

import typer

from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    RollbackInstanceSnapshotRequest,
    RollbackInstanceSnapshotResponse,
)
from stillpoint_cli.asking import YesOption, ask
from stillpoint_cli.commands.instance_snapshot import (
    DRY_RUN,
    DryRunOption,
    SnapshotArgument,
    get_snapshot,
    print_snapshot,
)
from stillpoint_cli.commands.members import TOUCHED_COLUMNS, look_at_members
from stillpoint_cli.commands.way_back import WayBack, check_way_back, take_way_back
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.following import WaitOption, wait_for
from stillpoint_cli.output import (
    JsonOption,
    as_dict,
    make_table,
    print_json,
    say,
    stderr,
)
from stillpoint_cli.values import format_in_full


def roll_back_snapshot(
    context: typer.Context,
    snapshot: SnapshotArgument,
    *,
    disks: Annotated[
        list[str] | None,
        typer.Option("--disk", metavar="DISK", help="Only this member's disk; repeat for more."),
    ] = None,
    snapshot_first: Annotated[
        bool,
        typer.Option(
            "--snapshot-first",
            help="Take snapshots of the disks as they are now, before they are rolled back.",
        ),
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Roll every disk of a snapshot back to its moment, together. The instance must be stopped.

    What the disks hold now is lost, unless --snapshot-first keeps it: a snapshot of the instance, and one of each
    member's disk that is detached. Disks attached since are left alone.
    """
    connections = Connections.of(context)
    chosen = list(dict.fromkeys(disks or ()))
    way_back = WayBack()
    if dry_run or snapshot_first or not yes:
        foreseen = _roll_back(connections, snapshot, chosen, validate_only=True)
        if dry_run:
            if snapshot_first:
                check_way_back(connections, foreseen.instance_snapshot, chosen)
            _print_rollback(foreseen, "would be", as_json=as_json)
            say(f"{DRY_RUN} Nothing stands in the way of this rollback.")
            return
        if not yes:
            _ask_for_rollback(connections, foreseen, chosen, snapshot_first=snapshot_first)
        if snapshot_first:
            way_back = take_way_back(connections, foreseen.instance_snapshot, chosen)
    with way_back.named_when_it_fails():
        response = _roll_back(connections, snapshot, chosen, validate_only=False)
        if wait:
            wait_for(connections, response.operation_id)
            response.instance_snapshot.CopyFrom(get_snapshot(connections, snapshot))
    _print_rollback(response, "was", as_json=as_json, taken_first=way_back.snapshot_ids)
    if snapshot_first:
        say(f"Snapshots that were taken first: {', '.join(way_back.snapshot_ids)}.")
        say("To go back to what the disks held before:")
        for command in way_back.commands():
            say(f"  {command}")


def _roll_back(
    connections: Connections, snapshot: str, disk_ids: Sequence[str], *, validate_only: bool
) -> RollbackInstanceSnapshotResponse:
    return connections.instance_snapshots.RollbackInstanceSnapshot(
        RollbackInstanceSnapshotRequest(
            request_id=new_request_id(),
            instance_snapshot_id=snapshot,
            disk_ids=disk_ids,
            validate_only=validate_only,
        )
    )


def _ask_for_rollback(
    connections: Connections,
    foreseen: RollbackInstanceSnapshotResponse,
    chosen: Sequence[str],
    *,
    snapshot_first: bool,
) -> None:
    target = foreseen.instance_snapshot
    going_back = [
        each for each in look_at_members(connections, target) if not chosen or each.member.disk_id in chosen
    ]
    stderr().print(make_table(going_back, TOUCHED_COLUMNS))
    _say_untouched(foreseen, "will be")
    many = len(going_back) > 1
    what, hold = (f"these {len(going_back)} disks", "they hold") if many else ("this disk", "it holds")
    lost = "kept in new snapshots first" if snapshot_first else "lost"
    ask(f"Roll {what} back to {format_in_full(target.cut_time)}? What {hold} now is {lost}.")


def _print_rollback(
    response: RollbackInstanceSnapshotResponse,
    untouched: str,
    *,
    as_json: bool,
    taken_first: Sequence[str] = (),
) -> None:
    if as_json:
        print_json({**as_dict(response), "taken_first": list(taken_first)})
    else:
        print_snapshot(response.instance_snapshot)
        _say_untouched(response, untouched)


def _say_untouched(response: RollbackInstanceSnapshotResponse, untouched: str) -> None:
    for disk_id in response.untouched_disk_ids:
        say(f"{disk_id} is on the instance and does not go back: it {untouched} left alone.")
