"""The rows' databases have no room, really: each service says so, keeps what it has, and goes on when there is some."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2, instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from svckit.errors import Refusal
from tests.faults.positions import bring_into_position, creation_on, deletion_on, rollback_on, states, words
from tests.faults.stage import REST_SECONDS, Machine, Stage, new_request_id, refusal_of
from tests.support.postgresql import from_the_wheel
from tests.support.small_disk import SmallDisk, small_disk

DISK_BYTES = 64 << 20
"""Three empty databases of PostgreSQL take half of it."""
ENOUGH_REQUESTS = 2000
"""Until there is no room in pages that are there already."""
DESCRIPTION_BYTES = 200
DEADLINE_SECONDS = 120.0
"""Longer than there is no room: what is before its point of no return goes on too."""


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    # Not in pytest's folder, which is closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="stillpoint-full-"))
    try:
        folder.chmod(0o755)
        with small_disk(folder / "disk", DISK_BYTES) as disk:
            yield disk
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def stage(disk: SmallDisk, database_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Its rows are on the small disk; with SQLite also all that it keeps beside them, the logs among it."""
    with ExitStack() as held:
        elsewhere = tmp_path_factory.mktemp("rows")
        urls = {}
        if database_kind == "postgresql":
            server = held.enter_context(from_the_wheel())
            (disk.folder / "space").mkdir()
            server.make_tablespace("small", disk.folder / "space")
            urls = {service: server.make_database("small") for service in Service}
        stage = Stage(
            (elsewhere if urls else disk.folder) / "s",
            deadline_seconds=DEADLINE_SECONDS,
            database_urls=urls,
            store=elsewhere / "store",
        )
        held.callback(stage.close)
        yield stage


def changes(stage: Stage, machine: Machine, snapshot_id: str) -> dict[Service, Callable[[str], Any]]:
    """Of each service a mutation of its rows alone, as a future; the text is what they say then."""
    return {
        Service.COMPUTE: lambda text: stage.instances.UpdateInstance.future(
            instance_service_pb2.UpdateInstanceRequest(
                request_id=new_request_id(), instance=instance_pb2.Instance(id=machine.id, description=text)
            ),
            timeout=REST_SECONDS,
        ),
        Service.DISK: lambda text: stage.disks.UpdateDisk.future(
            disk_service_pb2.UpdateDiskRequest(
                request_id=new_request_id(), disk=disk_pb2.Disk(id=machine.disk_ids[0], description=text)
            ),
            timeout=REST_SECONDS,
        ),
        Service.SNAPSHOT: lambda text: stage.snapshots.UpdateInstanceSnapshot.future(
            instance_snapshot_service_pb2.UpdateInstanceSnapshotRequest(
                request_id=new_request_id(),
                instance_snapshot=instance_snapshot_pb2.InstanceSnapshot(id=snapshot_id, description=text),
            ),
            timeout=REST_SECONDS,
        ),
    }


def descriptions(stage: Stage, machine: Machine, snapshot_id: str) -> dict[Service, str]:
    return {
        Service.COMPUTE: stage.instance(machine).description,
        Service.DISK: stage.disk(machine.disk_ids[0]).description,
        Service.SNAPSHOT: stage.snapshot(snapshot_id).description,
    }


def change_until_refused(change: Callable[[str], Any]) -> tuple[str, Refusal]:
    """What was said last and answered, and the refusal of what came after it."""
    said = ""
    for number in range(ENOUGH_REQUESTS):
        text = str(number).ljust(DESCRIPTION_BYTES, ".")
        call = change(text)
        if call.exception() is not None:
            return said, refusal_of(call)
        said = text
    raise AssertionError("there is always room")


@pytest.mark.on_both_databases
def test_services_whose_databases_are_full_say_so_keep_what_they_have_and_go_on_when_there_is_room(
    stage: Stage, disk: SmallDisk, database_kind: str
):
    machine = stage.make_machine()
    stage.fill(machine, "word")
    taken = stage.take_snapshot(machine)
    prepared = {
        "before LeaseInstance": creation_on(stage),
        "after CreateConsistencyPoint": creation_on(stage),
        "before FinishConsistencyPoint": creation_on(stage),
        "before ApplyRollback": rollback_on(stage),
        "after ApplySnapshotDeletion": deletion_on(stage),
    }
    positions = bring_into_position(stage, prepared)

    disk.fill()
    full = {
        service: change_until_refused(change) for service, change in changes(stage, machine, taken.id).items()
    }
    for _, refusal in full.values():
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DATABASE_FULL")
        assert refusal.retry_after_seconds
    said = {service: text for service, (text, _) in full.items()}
    assert descriptions(stage, machine, taken.id) == said
    assert stage.word_on(machine) == "word"
    for position in positions.values():
        position.gate.let_go()
    if database_kind == "sqlite":
        # PostgreSQL has room in some pages still, and a server without any for a new session's files refuses the session:
        # a service that starts then says so, and ends.
        assert refusal_of(stage.begin_snapshot(machine)).reason == "DATABASE_FULL"
        assert refusal_of(stage.begin_deletion(taken.id)).reason == "DATABASE_FULL"
        assert len(stage.unfinished(Service.SNAPSHOT)) == len(positions)
        for service in Service:
            stage.kill(service)
            stage.restart(service)
    assert descriptions(stage, machine, taken.id) == said

    disk.empty()
    stage.come_to_rest()
    rolled_back = positions.pop("before ApplyRollback")
    deleted = positions.pop("after ApplySnapshotDeletion")
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    assert words(stage, {"": rolled_back}) == {"": "old"}
    assert stage.states_of(deleted.machine) == []
    for position in (*positions.values(), rolled_back, deleted):
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"
    for change in changes(stage, machine, taken.id).values():
        change("room again").result()
    stage.take_snapshot(machine)
    stage.assert_nothing_left()
