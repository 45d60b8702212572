"""Operations that are abandoned in the middle of every step: while the call is on its way, and while its answer is.

All services are asked, the operation's own first. Whoever was at work on it finds that it has lost it; the calls come late
and must have no effect. Nothing is held any more, and what the operation worked on can be used, or deleted.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2, disk_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.gates import WAIT_SECONDS
from tests.faults.positions import (
    WHEN,
    Begin,
    Position,
    bring_into_position,
    creation_on,
    deletion_on,
    deliver_ghosts,
    machines_for,
    rollback_on,
    states,
    words,
)
from tests.faults.stage import DISK_BYTES, Machine, Stage, new_request_id, refusal_of
from tests.faults.test_snapshot_svc_dies import CREATE, DELETE, ROLL_BACK
from tests.support.waiting import eventually

UNDONE_LATE = {"LeaseInstance", "ReleaseInstance"}


def abandon_all(stage: Stage, service: Service, positions: Mapping[str, Position]) -> None:
    """What stands at the gates is not answered meanwhile."""
    operations = [operation.id for operation in stage.unfinished(service)]
    assert len(operations) == len(positions), "in position"
    for operation_id in operations:
        stage.abandon(operation_id)
        assert stage.outcome(operation_id) == "ABANDONED"
    stage.assert_nothing_left()


def assert_ghosts_are_refused(positions: Mapping[str, Position], *, but: str = "") -> None:
    deliver_ghosts(positions)
    ended = {place: position.gate.ended.result(WAIT_SECONDS) for place, position in positions.items()}
    late = {
        place: end for place, end in ended.items() if place.startswith("before") and place != f"before {but}"
    }
    assert {end.partition(":")[0] for end in late.values()} == {"ABORTED"}, late


def members_left(stage: Stage, positions: Mapping[str, Position]) -> dict[str, int]:
    return {place: len(stage.disk_snapshots_of(p.machine)) for place, p in positions.items()}


def delete_all_snapshots(stage: Stage, positions: Mapping[str, Position]) -> None:
    for position in positions.values():
        for snapshot in stage.snapshots_of(position.machine):
            assert stage.outcome(stage.begin_deletion(snapshot.id).result().operation_id) == "SUCCEEDED"
    assert set(members_left(stage, positions).values()) == {0}


def slots_taken(stage: Stage, positions: Mapping[str, Position]) -> set[int]:
    return {
        stage.disk(disk_id).manual_snapshots.used
        for position in positions.values()
        for disk_id in position.machine.disk_ids
    }


@pytest.mark.on_both_databases
def test_a_creation_leaves_nothing_before_its_moment_and_can_be_deleted_after_it(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, CREATE, creation_on))
    abandon_all(stage, Service.SNAPSHOT, positions)
    expected = (
        dict.fromkeys((f"{when} {step}" for step in CREATE[:2] for when in WHEN), "")
        | dict.fromkeys((f"{when} {step}" for step in CREATE[2:4] for when in WHEN), "ERROR")
        | dict.fromkeys((f"{when} ReleaseInstance" for when in WHEN), "AVAILABLE")
    )
    assert states(stage, positions) == expected
    whole = {"after FinishConsistencyPoint", "before ReleaseInstance", "after ReleaseInstance"}
    assert members_left(stage, positions) == {place: 2 if place in whole else 0 for place in positions}

    assert_ghosts_are_refused(positions, but="ReleaseInstance")
    assert states(stage, positions) == expected
    stage.assert_nothing_left()
    delete_all_snapshots(stage, positions)
    assert slots_taken(stage, positions) == {0}
    for position in positions.values():
        assert refusal_or_none(position) in (None, "OPERATION_ABANDONED")
        stage.take_snapshot(position.machine)
    stage.assert_nothing_left()


def refusal_or_none(position: Position) -> str | None:
    """Of the very same request, which stands for the operation: it may have had its answer."""
    again = position.again()
    return None if again.exception() is None else refusal_of(again).reason


def test_a_rollback_has_rolled_back_all_disks_or_none_and_can_be_done_again(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, ROLL_BACK, rollback_on))
    abandon_all(stage, Service.SNAPSHOT, positions)
    expected = {
        place: "ERROR_ROLLBACK" if place.endswith("ApplyRollback") else "AVAILABLE" for place in positions
    }
    back = {"after ApplyRollback", "before ReleaseInstance", "after ReleaseInstance"}
    said = {place: "old" if place in back else "new" for place in positions}
    assert (states(stage, positions), words(stage, positions)) == (expected, said)

    for position in positions.values():
        stage.fill(position.machine, "newest")
    assert_ghosts_are_refused(positions, but="ReleaseInstance")
    assert states(stage, positions) == expected
    assert words(stage, positions) == dict.fromkeys(positions, "newest")
    stage.assert_nothing_left()
    for position in positions.values():
        [snapshot] = stage.snapshots_of(position.machine)
        assert stage.outcome(stage.begin_rollback(snapshot.id).result().operation_id) == "SUCCEEDED"
    assert words(stage, positions) == dict.fromkeys(positions, "old")
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()


def test_a_deletion_keeps_its_members_or_is_carried_out_and_can_be_done_again(stage: Stage):
    positions = bring_into_position(
        stage, machines_for(stage, [*DELETE, "store.delete_snapshots"], deletion_on)
    )
    abandon_all(stage, Service.SNAPSHOT, positions)
    begun = {
        f"{when} {step}" for step in ("ApplySnapshotDeletion", "store.delete_snapshots") for when in WHEN
    }
    expected = {place: "ERROR" if place in begun else "AVAILABLE" for place in positions}
    gone = begun - {"before ApplySnapshotDeletion"}
    assert states(stage, positions) == expected
    assert members_left(stage, positions) == {place: 0 if place in gone else 2 for place in positions}

    for position in positions.values():
        position.gate.let_go()
    stage.assert_nothing_left()
    assert states(stage, positions) == expected
    for place in set(positions) - begun:
        [snapshot] = stage.snapshots_of(positions[place].machine)
        assert {stage.read(snapshot_id=member.snapshot_id) for member in snapshot.members} == {""}
    delete_all_snapshots(stage, positions)
    stage.assert_nothing_left()


@pytest.mark.parametrize(
    ("missing", "operations"),
    [
        (Service.COMPUTE, [creation_on, rollback_on]),
        (Service.DISK, [creation_on, rollback_on, deletion_on]),
    ],
)
def test_what_waits_for_a_service_that_is_gone_ends_without_it_and_there_when_it_is_back(
    stage: Stage, missing: Service, operations: list[Callable[[Stage], tuple[Machine, Begin]]]
):
    machines = [prepare(stage) for prepare in operations]
    stage.kill(missing)
    calls = [begin(new_request_id()) for _, begin in machines]
    waiting = eventually(
        lambda: (
            found
            if len(found := stage.unfinished(Service.SNAPSHOT)) == len(machines)
            and all(operation.attempts for operation in found)
            else None
        ),
        what="a try of each",
    )
    there = [
        service for service in (Service.SNAPSHOT, Service.COMPUTE, Service.DISK) if service is not missing
    ]
    for operation in waiting:
        stage.abandon(operation.id, *there)
    assert [refusal_of(call).reason for call in calls] == ["OPERATION_ABANDONED"] * len(calls)
    stage.restart(missing)
    for operation in waiting:
        stage.abandon(operation.id, missing)
    stage.assert_nothing_left()
    for machine, begin in machines:
        assert stage.outcome(begin(new_request_id()).result().operation_id) == "SUCCEEDED"
        assert stage.instance(machine).operation_id == ""
    stage.assert_nothing_left()


def test_what_others_hold_is_let_go_when_an_operations_own_service_is_gone(stage: Stage):
    """Its service comes back after all, with an operation that nobody has abandoned there, and that everybody refuses."""
    machine, begin = creation_on(stage)
    gate, call = stage.stopped_at("after SealConsistencyPoint", lambda: begin(new_request_id()))
    operation_id = call.result().operation_id
    stage.kill(Service.SNAPSHOT)
    assert stage.abandon(operation_id, Service.COMPUTE) == ["lease"]
    assert "point" in stage.abandon(operation_id, Service.DISK)
    assert stage.instance(machine).operation_id == ""
    gate.lose()
    stage.restart(Service.SNAPSHOT)
    assert stage.outcome(operation_id) == "FAILED"
    assert stage.states_of(machine) == ["ERROR"]
    stage.assert_nothing_left()
    stage.take_snapshot(machine)
    stage.assert_nothing_left()


# Operations of compute_svc


def making_a_machine(stage: Stage) -> tuple[Machine, Begin]:
    disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)
    return Machine("", []), lambda request_id: stage.instances.CreateInstance.future(
        instance_service_pb2.CreateInstanceRequest(
            request_id=request_id, name="abandoned", system_disk=disk, data_disks=[disk]
        )
    )


def deleting_a_machine(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    stage.stop_machine(machine)
    return machine, lambda request_id: stage.instances.DeleteInstance.future(
        instance_service_pb2.DeleteInstanceRequest(request_id=request_id, instance_id=machine.id)
    )


def detaching_a_disk(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    return machine, lambda request_id: stage.instances.DetachDisk.future(
        instance_service_pb2.DetachDiskRequest(
            request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[1]
        )
    )


def attaching_a_disk(stage: Stage) -> tuple[Machine, Begin]:
    machine, detach = detaching_a_disk(stage)
    detach("").result()
    return machine, lambda request_id: stage.instances.AttachDisk.future(
        instance_service_pb2.AttachDiskRequest(
            request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[1]
        )
    )


def rolling_a_disk_back(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    stage.fill(machine, "old")
    [_, member] = stage.take_snapshot(machine).members
    stage.fill(machine, "new")
    stage.stop_machine(machine)
    return machine, lambda request_id: stage.instances.RollbackDisk.future(
        instance_service_pb2.RollbackDiskRequest(
            request_id=request_id,
            instance_id=machine.id,
            disk_id=member.disk_id,
            snapshot_id=member.snapshot_id,
        )
    )


def test_each_operation_of_compute_svc_leaves_the_instance_free_and_the_late_calls_do_nothing(stage: Stage):
    of_disks = {"AttachDisk": attaching_a_disk, "DetachDisk": detaching_a_disk}
    rollbacks = machines_for(stage, ["ReserveRollback", "ApplyRollback"], rolling_a_disk_back)
    moves = {
        place: machine
        for step, prepare in of_disks.items()
        for place, machine in machines_for(stage, [step], prepare).items()
    }
    positions = bring_into_position(stage, rollbacks | moves)
    abandon_all(stage, Service.COMPUTE, positions)
    on_instance = {"before DetachDisk", "after AttachDisk", *rollbacks}
    said = {place: "old" if place == "after ApplyRollback" else "new" for place in rollbacks}

    def assert_as_it_was() -> None:
        for place, position in positions.items():
            machine = position.machine
            assert stage.disk(machine.disk_ids[1]).instance_id == (machine.id if place in on_instance else "")
            assert stage.instance(machine).operation_id == ""
        assert {
            place: stage.read(disk_id=positions[place].machine.disk_ids[1]).split()[0] for place in rollbacks
        } == said

    assert_as_it_was()
    assert_ghosts_are_refused(positions)
    assert_as_it_was()
    stage.assert_nothing_left()
    for place in moves:
        _, again = of_disks[place.split()[1]](stage)
        assert stage.outcome(again("").result().operation_id) == "SUCCEEDED"
    for place in rollbacks:
        _, begin_again = rollbacks[place]
        assert stage.outcome(begin_again("").result().operation_id) == "SUCCEEDED"
    stage.assert_nothing_left()


def test_an_instance_that_is_made_or_deleted_rests_in_error_and_is_deleted_with_what_disks_it_has(
    stage: Stage,
):
    positions = bring_into_position(
        stage,
        machines_for(stage, ["CreateInstanceDisks", "store.create_volume"], making_a_machine)
        | machines_for(stage, ["ReleaseInstanceDisks", "store.delete_volume"], deleting_a_machine),
    )
    operations = [operation.resource_id for operation in stage.unfinished(Service.COMPUTE)]
    abandon_all(stage, Service.COMPUTE, positions)
    instances = [stage.instance(Machine(instance_id, [])) for instance_id in operations]
    assert {instance.state for instance in instances} == {instance_pb2.Instance.STATE_ERROR}
    for position in positions.values():
        position.gate.let_go()
    stage.assert_nothing_left()
    for instance in instances:
        request = instance_service_pb2.DeleteInstanceRequest(instance_id=instance.id)
        assert stage.outcome(stage.instances.DeleteInstance(request).operation_id) == "SUCCEEDED"
    listed = disk_service_pb2.ListDisksRequest.Filter
    for instance in instances:
        assert not stage.disks.ListDisks(
            disk_service_pb2.ListDisksRequest(filter=listed(instance_id=instance.id))
        ).disks
    stage.assert_nothing_left()


# Operations of disk_svc, whose participant is the store


def making_a_disk(stage: Stage) -> tuple[Machine, Begin]:
    return Machine("", []), lambda request_id: stage.disks.CreateDisk.future(
        disk_service_pb2.CreateDiskRequest(request_id=request_id, name="abandoned", size_bytes=DISK_BYTES)
    )


def a_disk(stage: Stage) -> str:
    request = disk_service_pb2.CreateDiskRequest(name="abandoned", size_bytes=DISK_BYTES)
    return stage.disks.CreateDisk(request).disk.id


def a_snapshot_of(stage: Stage, disk_id: str) -> str:
    answer = stage.disk_snapshots.CreateDiskSnapshot(
        disk_snapshot_service_pb2.CreateDiskSnapshotRequest(disk_id=disk_id)
    )
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    return answer.snapshot.id


def working_on_a_disk(
    ask: Callable[[Stage, str], Callable[[str], Any]],
) -> Callable[[Stage], tuple[Machine, Begin]]:
    def prepare(stage: Stage) -> tuple[Machine, Begin]:
        disk_id = a_disk(stage)
        return Machine("", [disk_id]), ask(stage, disk_id)

    return prepare


def _deletes(stage: Stage, disk_id: str) -> Callable[[str], Any]:
    return lambda request_id: stage.disks.DeleteDisk.future(
        disk_service_pb2.DeleteDiskRequest(request_id=request_id, disk_id=disk_id)
    )


def _resizes(stage: Stage, disk_id: str) -> Callable[[str], Any]:
    return lambda request_id: stage.disks.ResizeDisk.future(
        disk_service_pb2.ResizeDiskRequest(request_id=request_id, disk_id=disk_id, size_bytes=2 * DISK_BYTES)
    )


def _snapshots(stage: Stage, disk_id: str) -> Callable[[str], Any]:
    return lambda request_id: stage.disk_snapshots.CreateDiskSnapshot.future(
        disk_snapshot_service_pb2.CreateDiskSnapshotRequest(request_id=request_id, disk_id=disk_id)
    )


def _deletes_a_snapshot(stage: Stage, disk_id: str) -> Callable[[str], Any]:
    snapshot_id = a_snapshot_of(stage, disk_id)
    return lambda request_id: stage.disk_snapshots.DeleteDiskSnapshot.future(
        disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(request_id=request_id, snapshot_id=snapshot_id)
    )


def _rolls_back(stage: Stage, disk_id: str) -> Callable[[str], Any]:
    stage.write(disk_id, "old")
    snapshot_id = a_snapshot_of(stage, disk_id)
    stage.write(disk_id, "new")
    return lambda request_id: stage.disks.RollbackDisk.future(
        disk_service_pb2.RollbackDiskRequest(request_id=request_id, disk_id=disk_id, snapshot_id=snapshot_id)
    )


def test_each_operation_of_disk_svc_is_ended_or_carried_out_and_the_store_holds_nothing_for_it(stage: Stage):
    making = machines_for(stage, ["store.create_volume"], making_a_disk)
    rolling_back = machines_for(stage, ["store.restore"], working_on_a_disk(_rolls_back))
    snapshotting = machines_for(stage, ["store.cut", "store.seal"], working_on_a_disk(_snapshots))
    forgetting = machines_for(stage, ["store.delete_snapshots"], working_on_a_disk(_deletes_a_snapshot))
    growing = machines_for(stage, ["store.resize_volume"], working_on_a_disk(_resizes))
    # Last: making the others' disks deletes no volume, and a gate stops whoever comes first.
    deleting = machines_for(stage, ["store.delete_volume"], working_on_a_disk(_deletes))
    # While its volume is being deleted or made, an operation holds a worker of the store's gates, and nobody else.
    positions = bring_into_position(
        stage, rolling_back | snapshotting | forgetting | growing | deleting | making
    )
    abandon_all(stage, Service.DISK, positions)

    def outcome(place: str) -> str:
        machine = positions[place].machine
        disks = [stage.disk(disk_id) for disk_id in machine.disk_ids if is_there(stage, disk_id)]
        return " ".join(
            f"{disk_pb2.Disk.State.Name(disk.state)} {disk.size_bytes // DISK_BYTES} "
            f"{disk.manual_snapshots.used} {stage.read(disk_id=disk.id)}"
            for disk in disks
        ).strip()

    expected = {
        **dict.fromkeys(making, ""),
        "before store.restore": "STATE_DETACHED 1 1 new",
        "after store.restore": "STATE_DETACHED 1 1 old",
        **dict.fromkeys(snapshotting, "STATE_DETACHED 1 0"),
        **dict.fromkeys(forgetting, "STATE_DETACHED 1 0"),
        **dict.fromkeys(growing, "STATE_DETACHED 2 0"),
        **dict.fromkeys(deleting, ""),
    }
    assert {place: outcome(place) for place in positions} == expected
    for position in positions.values():
        position.gate.let_go()
    stage.assert_nothing_left()
    assert {place: outcome(place) for place in positions} == expected
    for place in snapshotting:
        a_snapshot_of(stage, positions[place].machine.disk_ids[0])
    stage.assert_nothing_left()


def is_there(stage: Stage, disk_id: str) -> bool:
    call = stage.disks.GetDisk.future(disk_service_pb2.GetDiskRequest(disk_id=disk_id))
    return call.exception() is None
