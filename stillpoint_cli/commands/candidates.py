"""`stillpoint snapshot create` without an instance: what there is to take a snapshot of, and what stands in the way."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from rich.progress import track
from rich.text import Text

from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.compute.v1.instance_service_pb2 import ListInstancesRequest
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import CreateInstanceSnapshotRequest
from stillpoint_cli.commands.disk_views import by_device, list_disks, print_disks
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import obstacles_of, reason_of
from stillpoint_cli.output import (
    as_dict,
    enum_name,
    live,
    print_card,
    print_json,
    printable,
    say,
    stdout,
    styled,
)
from stillpoint_cli.paging import MOST_PER_PAGE, each
from stillpoint_cli.pasting import command

# Each asks three services; more at once would wait for each other there.
_ASKED_AT_ONCE = 8
# So many are asked before anybody looks at the clock.
_SOON_DONE = 50


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance, its disks, and everything that stands in the way of a snapshot of it now."""

    instance: Instance
    disks: list[Disk]
    obstacles: list[str]

    def as_dict(self) -> dict[str, Any]:
        disks = [as_dict(disk) for disk in self.disks]
        return {**as_dict(self.instance), "disks": disks, "obstacles": self.obstacles}


def list_candidates(connections: Connections, *, as_json: bool) -> None:
    candidates = list(_find_candidates(connections))
    for candidate in candidates:
        print_json(candidate.as_dict()) if as_json else _print_candidate(candidate)
    if any(not candidate.obstacles for candidate in candidates):
        say(f"Take a snapshot of one of them: {command('snapshot', 'create', 'INSTANCE')}")
    elif candidates:
        say("Of none of them can a snapshot be taken now.")
    else:
        say(f"No instances. Make one: {command('instance', 'create', 'NAME', '--system', 'SIZE')}")


def _find_candidates(connections: Connections) -> Iterator[Candidate]:
    instances = list(
        each(
            lambda token: connections.instances.ListInstances(
                ListInstancesRequest(page_size=MOST_PER_PAGE, page_token=token)
            ),
            lambda page: page.instances,
        )
    )
    disks: defaultdict[str, list[Disk]] = defaultdict(list)
    for disk in list_disks(connections, instance_id=""):
        disks[disk.instance_id].append(disk)
    pool = ThreadPoolExecutor(_ASKED_AT_ONCE)
    try:
        found = pool.map(partial(_find_obstacles, connections), instances)
        asked = track(
            zip(instances, found, strict=True),
            description="Asking",
            total=len(instances),
            console=live(),
            transient=True,
            disable=len(instances) <= _SOON_DONE or not live().is_terminal,
        )
        for instance, obstacles in asked:
            if obstacles is not None:
                yield Candidate(instance, by_device(disks[instance.id]), obstacles)
    finally:
        pool.shutdown(cancel_futures=True)


def _find_obstacles(connections: Connections, instance: Instance) -> list[str] | None:
    """None for an instance that has been deleted since it was listed."""
    request = CreateInstanceSnapshotRequest(instance_id=instance.id, validate_only=True)
    try:
        connections.instance_snapshots.CreateInstanceSnapshot(request)
    except grpc.RpcError as error:
        return None if reason_of(error) == "INSTANCE_NOT_FOUND" else obstacles_of(error)
    return []


def _print_candidate(candidate: Candidate) -> None:
    instance = candidate.instance
    print_card(
        instance.name,
        {
            "id": instance.id,
            "state": styled(enum_name(Instance.State.Name, instance.state, "STATE_")),
            "snapshot": Text("not now", style="red")
            if candidate.obstacles
            else Text("can be taken now", style="green"),
        },
    )
    for obstacle in candidate.obstacles:
        stdout().print(Text(printable(f"  • {obstacle}")))
    print_disks(candidate.disks)
    stdout().print()
