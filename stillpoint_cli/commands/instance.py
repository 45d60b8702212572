"""`stillpoint instance`: machines with a system disk and data disks."""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Annotated

import typer
from rich.text import Text

from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.compute.v1.instance_service_pb2 import (
    AttachDiskRequest,
    CreateInstanceRequest,
    DeleteInstanceRequest,
    DetachDiskRequest,
    GetInstanceRequest,
    ListInstancesRequest,
    NewDisk,
    StartInstanceRequest,
    StopInstanceRequest,
    UpdateInstanceRequest,
)
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.disk_views import by_device, list_disks, print_disks
from stillpoint_cli.commands.instance_snapshot import get_snapshot
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
    described,
    label_map,
    narrowed,
    one_of,
)
from stillpoint_cli.errors import Failure
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    as_dict,
    enum_name,
    print_card,
    print_json,
    print_list,
    styled,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_time, parse_size

app = make_app(
    "Machines: one system disk and any number of data disks. What a snapshot is taken of.",
)

InstanceArgument = Annotated[str, typer.Argument(metavar="INSTANCE", help="The instance's id, i-….")]
DiskArgument = Annotated[str, typer.Argument(metavar="DISK", help="The data disk's id, disk-….")]


def parse_new_disk(text: str) -> NewDisk:
    """A size makes a blank disk; a snapshot's id makes a disk like it."""
    if text.startswith("snap-"):
        return NewDisk(source_snapshot_id=text)
    try:
        return NewDisk(size_bytes=parse_size(text))
    except ValueError as error:
        raise typer.BadParameter(f"{error}, or a disk snapshot's id, snap-…") from error


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)],
    *,
    system: Annotated[
        NewDisk | None,
        typer.Option(
            parser=parse_new_disk,
            metavar="SIZE|SNAPSHOT",
            help="The system disk: a size such as 10GiB, or the snap-… to make it from.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[NewDisk] | None,
        typer.Option(
            parser=parse_new_disk,
            metavar="SIZE|SNAPSHOT",
            help="A data disk, likewise; once for each disk, mounted in this order.",
            show_default=False,
        ),
    ] = None,
    description: DescriptionOption = "",
    label: LabelOption = None,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="ISNAP",
            help="The isnap-… to make all disks from. Then --system and --data say only which are to be larger.",
            show_default=False,
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Make an instance with its disks, blank, from disk snapshots, or all of them from an instance snapshot.

    It is running when this returns.
    """
    connections = Connections.of(context)
    if source:
        disks = _disks_like(get_snapshot(connections, source), [system or NewDisk(), *(data or [])])
    elif system:
        disks = [system, *(data or [])]
    else:
        raise typer.BadParameter("without --from, an instance needs one", param_hint="--system")
    response = connections.instances.CreateInstance(
        CreateInstanceRequest(
            request_id=new_request_id(),
            name=name,
            system_disk=disks[0],
            data_disks=disks[1:],
            description=description,
            labels=label_map(label),
        )
    )
    if as_json:
        print_json(response)
    else:
        _print_instance(response.instance)
        print_disks(by_device(list_disks(connections, instance_id=response.instance.id)))


@app.command("list")
def list_(
    context: typer.Context,
    *,
    state: Annotated[int | None, one_of(Instance.State, "STATE_", "instances in this state")] = None,
    name: NameOption = "",
    label: WithLabelOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List instances, newest first."""
    connections = Connections.of(context)
    wanted = narrowed(
        ListInstancesRequest.Filter, state=state, name=name, labels=label, since=since, before=before
    )
    instances = each(
        lambda token: connections.instances.ListInstances(
            ListInstancesRequest(filter=wanted, page_size=page_size(limit), page_token=token)
        ),
        lambda page: page.instances,
    )
    columns: Columns[Instance] = {
        "ID": lambda instance: instance.id,
        "NAME": lambda instance: instance.name,
        "STATE": _state,
        "SYSTEM DISK": lambda instance: instance.system_disk_id,
        "HELD BY": lambda instance: instance.operation_id,
        "CREATED": lambda instance: format_time(instance.create_time),
    }
    print_list(
        instances, columns, limit=limit, as_json=as_json, nothing="No instances.", to_json=lambda row: row
    )


@app.command()
def show(context: typer.Context, instance: InstanceArgument, as_json: JsonOption = False) -> None:
    """Show an instance and its disks. As JSON, the disks are in its field `disks`."""
    connections = Connections.of(context)
    found = connections.instances.GetInstance(GetInstanceRequest(instance_id=instance)).instance
    disks = by_device(list_disks(connections, instance_id=instance))
    if as_json:
        print_json({**as_dict(found), "disks": [as_dict(disk) for disk in disks]})
    else:
        _print_instance(found)
        print_disks(disks)


@app.command()
def update(
    context: typer.Context,
    instance: InstanceArgument,
    *,
    name: NewNameOption = None,
    description: NewDescriptionOption = None,
    label: NewLabelOption = None,
    clear_labels: ClearLabelsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Change what an instance is called and labelled, whatever state it is in. What is not given stays."""
    changed = Instance(id=instance)
    mask = change(changed, name=name, description=description, labels=label, clear_labels=clear_labels)
    response = Connections.of(context).instances.UpdateInstance(
        UpdateInstanceRequest(request_id=new_request_id(), instance=changed, update_mask=mask)
    )
    print_json(response) if as_json else _print_instance(response.instance)


@app.command()
def start(context: typer.Context, instance: InstanceArgument, as_json: JsonOption = False) -> None:
    """Start a stopped instance."""
    response = Connections.of(context).instances.StartInstance(
        StartInstanceRequest(request_id=new_request_id(), instance_id=instance)
    )
    print_json(response) if as_json else _print_instance(response.instance)


@app.command()
def stop(
    context: typer.Context,
    instance: InstanceArgument,
    no_charge: Annotated[
        bool, typer.Option("--no-charge", help='Stop it with "No charge for stopped instances".')
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop an instance, as a rollback needs it."""
    response = Connections.of(context).instances.StopInstance(
        StopInstanceRequest(request_id=new_request_id(), instance_id=instance, no_charge=no_charge)
    )
    print_json(response) if as_json else _print_instance(response.instance)


@app.command()
def delete(context: typer.Context, instance: InstanceArgument, as_json: JsonOption = False) -> None:
    """Delete a stopped instance with its system disk. Data disks are detached and stay, and so do all snapshots."""
    response = Connections.of(context).instances.DeleteInstance(
        DeleteInstanceRequest(request_id=new_request_id(), instance_id=instance)
    )
    if as_json:
        print_json(response)
    else:
        detached = ", ".join(response.detached_disk_ids)
        print_card(f"{instance} is deleted.", {"detached": detached, "operation": response.operation_id})


@app.command()
def attach(
    context: typer.Context, instance: InstanceArgument, disk: DiskArgument, as_json: JsonOption = False
) -> None:
    """Mount a detached data disk on an instance."""
    response = Connections.of(context).instances.AttachDisk(
        AttachDiskRequest(request_id=new_request_id(), instance_id=instance, disk_id=disk)
    )
    if as_json:
        print_json(response)
    else:
        print_card(f"{disk} is mounted on {instance}.", {"operation": response.operation_id})


@app.command()
def detach(
    context: typer.Context, instance: InstanceArgument, disk: DiskArgument, as_json: JsonOption = False
) -> None:
    """Take a data disk off an instance. Who is writing to it is cut off."""
    response = Connections.of(context).instances.DetachDisk(
        DetachDiskRequest(request_id=new_request_id(), instance_id=instance, disk_id=disk)
    )
    if as_json:
        print_json(response)
    else:
        print_card(f"{disk} is detached.", {"operation": response.operation_id})


def _disks_like(snapshot: InstanceSnapshot, sizes: Sequence[NewDisk]) -> list[NewDisk]:
    """A disk from each member, as large as it, or as the size at its place says; 0 says nothing."""
    members = snapshot.members
    if not members:
        raise Failure(f"{snapshot.id} has no members to make disks from: {snapshot.state_reason}")
    if len(sizes) > len(members):
        raise typer.BadParameter(f"{snapshot.id} has {len(members) - 1} data disk(s)", param_hint="--data")
    if any(size.source_snapshot_id for size in sizes):
        raise typer.BadParameter(
            "with it, each disk is made from its member: name sizes", param_hint="--from"
        )
    said = chain(sizes, repeat(NewDisk()))
    return [
        NewDisk(source_snapshot_id=member.snapshot_id, size_bytes=size.size_bytes)
        for member, size in zip(members, said, strict=False)
    ]


def _print_instance(instance: Instance) -> None:
    print_card(
        instance.name,
        {
            "id": instance.id,
            "state": _state(instance),
            "held by": instance.operation_id,
            "system disk": instance.system_disk_id,
            "region": instance.region,
            "created": format_time(instance.create_time),
            **described(instance),
        },
    )


def _state(instance: Instance) -> Text:
    return styled(enum_name(Instance.State.Name, instance.state, "STATE_"))
