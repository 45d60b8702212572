"""`stillpoint policy`: which disks are snapshotted by themselves, when, and how long that is kept."""

from typing import Annotated, Any, NamedTuple

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.text import Text

from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy, Weekday
from stillpoint.disk.v1.auto_snapshot_policy_service_pb2 import (
    CreateAutoSnapshotPolicyRequest,
    DeleteAutoSnapshotPolicyRequest,
    GetAutoSnapshotPolicyRequest,
    ListAutoSnapshotPoliciesRequest,
    UpdateAutoSnapshotPolicyRequest,
)
from stillpoint_cli.commands import make_app
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.describing import NAME_HELP
from stillpoint_cli.errors import sum_up
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    make_table,
    print_card,
    print_json,
    print_list,
    printable,
    stdout,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.parsing import at_least
from stillpoint_cli.values import format_in_full, format_time

app = make_app(
    "Automatic snapshot policies: snapshots of disks at hours of the week, and how long they are kept.",
)

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Days(NamedTuple):
    """Days of the week; 1 is Monday."""

    values: tuple[int, ...]


class Hours(NamedTuple):
    """Hours of the day."""

    values: tuple[int, ...]


DAILY = Days(tuple(range(1, 8)))


def parse_days(text: str) -> Days:
    """`daily`, `mon,thu`, `mon-fri` or `fri-sun,tue`."""
    if text.strip().lower() == "daily":
        return DAILY
    found: list[int] = []
    for part in text.lower().split(","):
        names = [name.strip() for name in part.split("-")]
        if len(names) > 2 or not all(name in _DAYS for name in names):
            raise typer.BadParameter(f"{text!r} is not a list of days: write mon,thu or mon-fri or daily")
        begin, end = _DAYS.index(names[0]), _DAYS.index(names[-1])
        found += [(begin + days) % 7 + 1 for days in range((end - begin) % 7 + 1)]
    return Days(tuple(dict.fromkeys(found)))


def parse_hours(text: str) -> Hours:
    """`2,14` or `02:00,14:00`."""
    hours = [part.strip().removesuffix(":00") for part in text.split(",")]
    if not all(hour.isdecimal() and int(hour) < 24 for hour in hours):
        raise typer.BadParameter(f"{text!r} is not a list of hours: write 2,14 or 02:00,14:00")
    return Hours(tuple(dict.fromkeys(int(hour) for hour in hours)))


PolicyArgument = Annotated[str, typer.Argument(metavar="POLICY", help="The policy's id, asp-….")]
OnOption = Annotated[
    Days | None,
    typer.Option("--on", parser=parse_days, metavar="DAYS", help="The days: mon,thu or mon-fri or daily."),
]
AtOption = Annotated[
    Hours, typer.Option(parser=parse_hours, metavar="HOURS", help="The hours of those days: 2,14.")
]
NewAtOption = Annotated[
    Hours | None, typer.Option("--at", parser=parse_hours, metavar="HOURS", help="The hours: 2,14.")
]
TimeZoneOption = Annotated[
    str | None,
    typer.Option(help="Whose days and hours these are, such as Europe/Berlin. UTC when never given."),
]
DiskOption = Annotated[list[str] | None, typer.Option(metavar="DISK", help="A disk, disk-…; once for each.")]
KeepDaysOption = Annotated[
    int | None,
    typer.Option(parser=at_least(1), metavar="DAYS", help="Delete its snapshots that are older, at a slot."),
]
KeepCountOption = Annotated[
    int | None,
    typer.Option(parser=at_least(1), metavar="COUNT", help="Keep so many of each disk, the newest."),
]


def settings(
    *,
    name: str | None,
    on: Days | None,
    at: Hours | None,
    time_zone: str | None,
    keep_days: int | None,
    keep_count: int | None,
    disk: list[str] | None,
) -> dict[str, Any]:
    """The fields that were given."""
    if keep_days is not None and keep_count is not None:
        raise typer.BadParameter("give days or a count, not both", param_hint="--keep-days, --keep-count")
    fields = {
        "name": name,
        "weekdays": on.values if on else None,
        "hours": at.values if at else None,
        "time_zone": time_zone,
        "retention_days": keep_days,
        "retention_count": keep_count,
        "disk_ids": list(dict.fromkeys(disk)) if disk else None,
    }
    return {field: value for field, value in fields.items() if value is not None}


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)],
    at: AtOption,
    on: OnOption = None,
    disk: DiskOption = None,
    *,
    time_zone: TimeZoneOption = None,
    keep_days: KeepDaysOption = None,
    keep_count: KeepCountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a policy, daily unless --on says otherwise. Its snapshots are kept until somebody deletes them, unless --keep-days or
    --keep-count says otherwise.
    """
    given = settings(
        name=name,
        on=on or DAILY,
        at=at,
        time_zone=time_zone,
        keep_days=keep_days,
        keep_count=keep_count,
        disk=disk,
    )
    response = Connections.of(context).policies.CreateAutoSnapshotPolicy(
        CreateAutoSnapshotPolicyRequest(request_id=new_request_id(), policy=AutoSnapshotPolicy(**given))
    )
    print_json(response) if as_json else _print_policy(response.policy)


@app.command("list")
def list_(
    context: typer.Context,
    disk: Annotated[str, typer.Option(metavar="DISK", help="Only policies that this disk is in.")] = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List policies, newest first."""
    connections = Connections.of(context)
    wanted = ListAutoSnapshotPoliciesRequest.Filter(disk_id=disk)
    policies = each(
        lambda token: connections.policies.ListAutoSnapshotPolicies(
            ListAutoSnapshotPoliciesRequest(filter=wanted, page_size=page_size(limit), page_token=token)
        ),
        lambda page: page.policies,
    )
    columns: Columns[AutoSnapshotPolicy] = {
        "ID": lambda policy: policy.id,
        "NAME": lambda policy: policy.name,
        "WHEN": _when,
        "KEEPS": _keeps,
        "DISKS": lambda policy: str(len(policy.disk_ids)),
        "FAILED": _failed,
        "NEXT": lambda policy: format_time(policy.next_slot_time),
    }
    nothing = "No policies."
    print_list(policies, columns, limit=limit, as_json=as_json, nothing=nothing, to_json=lambda row: row)


@app.command()
def show(context: typer.Context, policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Show a policy, when its next slot is, and what came of the latest on each disk."""
    request = GetAutoSnapshotPolicyRequest(policy_id=policy)
    found = Connections.of(context).policies.GetAutoSnapshotPolicy(request).policy
    print_json(found) if as_json else _print_policy(found)


@app.command()
def update(
    context: typer.Context,
    policy: PolicyArgument,
    *,
    name: Annotated[str | None, typer.Option(help=f"The new name. {NAME_HELP}")] = None,
    on: OnOption = None,
    at: NewAtOption = None,
    time_zone: TimeZoneOption = None,
    keep_days: KeepDaysOption = None,
    keep_count: KeepCountOption = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep its snapshots until somebody deletes them.")
    ] = False,
    disk: Annotated[
        list[str] | None,
        typer.Option(metavar="DISK", help="A disk; once for each. They take the place of all that it has."),
    ] = None,
    clear_disks: Annotated[bool, typer.Option("--clear-disks", help="Take all disks away.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Change a policy. What is not given stays. After other days, hours or another time zone, a missed slot is not made
    up for.
    """
    given = settings(
        name=name,
        on=on,
        at=at,
        time_zone=time_zone,
        keep_days=keep_days,
        keep_count=keep_count,
        disk=disk,
    )
    if clear_disks and disk:
        raise typer.BadParameter("give disks or --clear-disks, not both", param_hint="--disk")
    if keep_all and (keep_days or keep_count):
        raise typer.BadParameter("give it alone", param_hint="--keep-all")
    mask = [*given, *(["disk_ids"] if clear_disks else []), *(["retention_days"] if keep_all else [])]
    if not mask:
        raise typer.BadParameter("nothing to change; --help lists what can be")
    response = Connections.of(context).policies.UpdateAutoSnapshotPolicy(
        UpdateAutoSnapshotPolicyRequest(
            request_id=new_request_id(),
            policy=AutoSnapshotPolicy(id=policy, **given),
            update_mask=FieldMask(paths=mask),
        )
    )
    print_json(response) if as_json else _print_policy(response.policy)


@app.command()
def delete(context: typer.Context, policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Delete a policy. The snapshots that it has taken stay."""
    response = Connections.of(context).policies.DeleteAutoSnapshotPolicy(
        DeleteAutoSnapshotPolicyRequest(request_id=new_request_id(), policy_id=policy)
    )
    print_json(response) if as_json else print_card(f"{policy} is deleted. Its snapshots stay.", {})


_RESULT_COLUMNS: Columns[AutoSnapshotPolicy.Result] = {
    "DISK": lambda result: result.disk_id,
    "SLOT": lambda result: format_time(result.slot_time),
    "SNAPSHOT": lambda result: result.snapshot_id or Text("none", style="bold red"),
    "DELETED": lambda result: str(result.pruned_count),
    "OPERATION": lambda result: result.operation_id,
    "BECAUSE": lambda result: sum_up(result.error) if result.HasField("error") else "",
}


def _print_policy(policy: AutoSnapshotPolicy) -> None:
    print_card(
        policy.name,
        {
            "id": policy.id,
            "when": _when(policy),
            "keeps": _keeps(policy),
            "next": format_in_full(policy.next_slot_time),
            "disks": ", ".join(policy.disk_ids),
            "region": policy.region,
            "created": format_time(policy.create_time),
        },
    )
    if policy.results:
        stdout().print(make_table(policy.results, _RESULT_COLUMNS))


def _when(policy: AutoSnapshotPolicy) -> str:
    if len(policy.weekdays) == len(_DAYS):
        days = "daily"
    else:
        days = ",".join(Weekday.Name(day).removeprefix("WEEKDAY_")[:3].lower() for day in policy.weekdays)
    return f"{days} {','.join(f'{hour:02}:00' for hour in policy.hours)} {printable(policy.time_zone)}"


def _keeps(policy: AutoSnapshotPolicy) -> str:
    match policy.WhichOneof("retention"):
        case "retention_days":
            return f"{policy.retention_days} days"
        case "retention_count":
            return f"the newest {policy.retention_count}"
        case None:
            return "all"


def _failed(policy: AutoSnapshotPolicy) -> Text:
    """On how many disks the latest slot failed."""
    failed = sum(result.HasField("error") for result in policy.results)
    return Text(str(failed), style="bold red") if failed else Text("")
