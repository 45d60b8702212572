"""Disks, found and shown: for `stillpoint disk`, and for the commands that show the disks of an instance."""

from collections.abc import Iterable, Iterator

from rich.text import Text

from stillpoint.disk.v1.disk_pb2 import Disk, SnapshotQuota
from stillpoint.disk.v1.disk_service_pb2 import ListDisksRequest
from stillpoint_cli.connections import Connections
from stillpoint_cli.describing import described
from stillpoint_cli.output import Columns, enum_name, make_table, print_card, stdout, styled
from stillpoint_cli.paging import MOST_PER_PAGE, each
from stillpoint_cli.values import format_size, format_time


def list_disks(connections: Connections, *, instance_id: str) -> Iterator[Disk]:
    return walk_disks(connections, ListDisksRequest.Filter(instance_id=instance_id), MOST_PER_PAGE)


def walk_disks(connections: Connections, wanted: ListDisksRequest.Filter, per_page: int) -> Iterator[Disk]:
    return each(
        lambda token: connections.disks.ListDisks(
            ListDisksRequest(filter=wanted, page_size=per_page, page_token=token)
        ),
        lambda page: page.disks,
    )


def by_device(disks: Iterable[Disk]) -> list[Disk]:
    """The disks of one instance in the order in which it sees them: vdz before vdaa."""
    return sorted(disks, key=lambda disk: (len(disk.device), disk.device))


def print_disks(disks: Iterable[Disk]) -> None:
    """The disks of one instance, of which there are few."""
    stdout().print(
        make_table(disks, {name: make for name, make in DISK_COLUMNS.items() if name != "INSTANCE"})
    )


def print_disk(disk: Disk) -> None:
    print_card(
        disk.name,
        {
            "id": disk.id,
            "role": _role(disk),
            "state": disk_state(disk),
            "size": format_size(disk.size_bytes),
            "instance": disk.instance_id,
            "device": disk.device,
            "held by": disk.operation_id,
            "made from": disk.source_snapshot_id,
            "manual snapshots": _quota(disk.manual_snapshots),
            "automatic snapshots": _quota(disk.automatic_snapshots),
            "region": disk.region,
            "created": format_time(disk.create_time),
            **described(disk),
        },
    )


def disk_state(disk: Disk) -> Text:
    return styled(enum_name(Disk.State.Name, disk.state, "STATE_"))


def _role(disk: Disk) -> str:
    return enum_name(Disk.Role.Name, disk.role, "ROLE_").lower()


def _quota(quota: SnapshotQuota) -> str:
    return f"{quota.used} of {quota.limit}"


DISK_COLUMNS: Columns[Disk] = {
    "ID": lambda disk: disk.id,
    "NAME": lambda disk: disk.name,
    "ROLE": _role,
    "DEVICE": lambda disk: disk.device,
    "STATE": disk_state,
    "SIZE": lambda disk: format_size(disk.size_bytes),
    "INSTANCE": lambda disk: disk.instance_id,
    "SNAPSHOTS": lambda disk: str(disk.manual_snapshots.used + disk.automatic_snapshots.used),
    "CREATED": lambda disk: format_time(disk.create_time),
}
