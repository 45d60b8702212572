"""snapshot_svc is killed in the middle of every step: before the participant has seen the call, and after it has had its
effect. Everything that was begun comes to rest: forwards when it was past its point of no return or is still in time,
undone when it is not.

The call of the first try stands in the proxy all the while, and is delivered when everything has long come to rest: it
must have no effect at all.
"""

from datetime import timedelta

import pytest

from stillpoint_cli.addresses import Service
from svckit.clock import utc_now
from tests.faults.conftest import Stages
from tests.faults.positions import (
    WHEN,
    bring_into_position,
    creation_from_a_disk_of,
    creation_on,
    deletion_on,
    deliver_ghosts,
    machines_for,
    rollback_of_the_last_disk_on,
    rollback_on,
    states,
    words,
)
from tests.faults.stage import Machine, Stage, new_request_id
from tests.support.waiting import eventually

SHORT_SECONDS = 8.0
"""Long enough to bring a dozen operations into position on a busy machine."""

CREATE = (
    "LeaseInstance",
    "CreateConsistencyPoint",
    "SealConsistencyPoint",
    "FinishConsistencyPoint",
    "ReleaseInstance",
)
FROM_A_DISK = ("LocateDisk", "LeaseInstance", "CreateConsistencyPoint")
ROLL_BACK = ("LeaseInstance", "ReserveRollback", "ApplyRollback", "ReleaseInstance")
DELETE = ("ReserveSnapshotDeletion", "ApplySnapshotDeletion")


@pytest.mark.on_both_databases
def test_snapshot_svc_dies_at_every_step_of_a_creation_and_every_snapshot_becomes_available(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, CREATE, creation_on))
    stage.kill(Service.SNAPSHOT)
    for position in positions.values():
        stage.fill(position.machine, "new")
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()

    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    for position in positions.values():
        answer = position.again().result()
        assert [answer.instance_snapshot.id] == [s.id for s in stage.snapshots_of(position.machine)]
    # Where the moment had not been fixed when the service died, it is a later one: with what was written since.
    late = {"before LeaseInstance", "after LeaseInstance", "before CreateConsistencyPoint"}
    assert {place: words_in_snapshot(stage, p.machine) for place, p in positions.items()} == {
        place: {"new" if place in late else "old"} for place in positions
    }
    stage.assert_nothing_left()

    deliver_ghosts(positions)
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()


def test_snapshot_svc_dies_while_it_finds_the_instance_of_a_disk_and_every_snapshot_becomes_available(
    stage: Stage,
):
    positions = bring_into_position(stage, machines_for(stage, FROM_A_DISK, creation_from_a_disk_of))
    stage.kill(Service.SNAPSHOT)
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    for position in positions.values():
        answer = position.again().result()
        assert [answer.instance_snapshot.id] == [s.id for s in stage.snapshots_of(position.machine)]
    deliver_ghosts(positions)
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()


def test_snapshot_svc_dies_in_a_batch_of_deletions_and_the_same_request_finds_each_of_its_operations(
    stage: Stage,
):
    machine, request_id = stage.make_machine(), new_request_id()
    ids = [stage.take_snapshot(machine).id for _ in range(3)]
    gate, _ = stage.stopped_at(
        "before ReserveSnapshotDeletion", lambda: stage.begin_deletions(ids, request_id)
    )
    stage.kill(Service.SNAPSHOT)
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()
    gate.let_go()
    results = stage.begin_deletions(ids, request_id).result().results
    assert [result.instance_snapshot_id for result in results] == ids
    assert [stage.outcome(result.operation_id) for result in results] == ["SUCCEEDED"] * 3
    assert stage.begin_deletions(ids, request_id).result().results == results
    assert stage.states_of(machine) == []
    stage.assert_nothing_left()


def words_in_snapshot(stage: Stage, machine: Machine) -> set[str]:
    [snapshot] = stage.snapshots_of(machine)
    return {stage.read(snapshot_id=member.snapshot_id).split()[0] for member in snapshot.members}


def test_snapshot_svc_dies_at_every_step_of_a_rollback_and_every_machine_is_rolled_back_whole(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, ROLL_BACK, rollback_on))
    stage.kill(Service.SNAPSHOT)
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()

    assert words(stage, positions) == dict.fromkeys(positions, "old")
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()

    for position in positions.values():
        assert position.again().result().operation_id
        stage.fill(position.machine, "newest")
    deliver_ghosts(positions)
    assert words(stage, positions) == dict.fromkeys(positions, "newest")
    stage.assert_nothing_left()


def test_snapshot_svc_dies_at_every_step_of_a_rollback_of_one_disk_and_no_other_disk_goes_back(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, ROLL_BACK, rollback_of_the_last_disk_on))
    stage.kill(Service.SNAPSHOT)
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()

    said = {
        place: " ".join(stage.read(disk_id=disk_id).split()[0] for disk_id in position.machine.disk_ids)
        for place, position in positions.items()
    }
    assert said == dict.fromkeys(positions, "new old")
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()


def test_snapshot_svc_dies_at_every_step_of_a_deletion_and_every_snapshot_goes_with_its_members(stage: Stage):
    positions = bring_into_position(stage, machines_for(stage, DELETE, deletion_on))
    stage.kill(Service.SNAPSHOT)
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()

    assert states(stage, positions) == dict.fromkeys(positions, "")
    assert [s for p in positions.values() for s in stage.disk_snapshots_of(p.machine)] == []
    stage.assert_nothing_left()

    for position in positions.values():
        assert position.again().result().operation_id
        stage.take_snapshot(position.machine)
    deliver_ghosts(positions)
    assert states(stage, positions) == dict.fromkeys(positions, "AVAILABLE")
    stage.assert_nothing_left()


def test_what_snapshot_svc_finds_too_late_is_undone_before_its_point_of_no_return_and_finished_after_it(
    stages: Stages,
):
    stage = stages(SHORT_SECONDS)
    machines = {
        operation: machines_for(stage, steps, prepare)
        for operation, steps, prepare in (
            ("create", CREATE, creation_on),
            ("roll back", ROLL_BACK, rollback_on),
            ("delete", DELETE, deletion_on),
        )
    }
    creations = bring_into_position(stage, machines["create"])
    rollbacks = bring_into_position(stage, machines["roll back"])
    deletions = bring_into_position(stage, machines["delete"])
    last = utc_now()
    unfinished = stage.unfinished(Service.SNAPSHOT)
    assert {(operation.state, operation.attempts) for operation in unfinished} == {(1, 0)}, "in position"
    stage.kill(Service.SNAPSHOT)
    eventually(lambda: utc_now() > last + timedelta(seconds=SHORT_SECONDS), what="the deadline")
    stage.restart(Service.SNAPSHOT)
    stage.come_to_rest()

    undone = {f"{when} {step}" for step in ("LeaseInstance", "CreateConsistencyPoint") for when in WHEN}
    too_late = {f"{when} SealConsistencyPoint" for when in WHEN}
    assert states(stage, creations) == {
        place: "" if place in undone else "ERROR" if place in too_late else "AVAILABLE" for place in creations
    }
    undone = {f"{when} {step}" for step in ("LeaseInstance", "ReserveRollback") for when in WHEN}
    assert words(stage, rollbacks) == {place: "new" if place in undone else "old" for place in rollbacks}
    assert states(stage, rollbacks) == dict.fromkeys(rollbacks, "AVAILABLE")
    undone = {f"{when} ReserveSnapshotDeletion" for when in WHEN}
    assert states(stage, deletions) == {place: "AVAILABLE" if place in undone else "" for place in deletions}
    stage.assert_nothing_left()

    for positions in (creations, rollbacks, deletions):
        before = states(stage, positions)
        deliver_ghosts(positions)
        assert states(stage, positions) == before
    stage.assert_nothing_left()
