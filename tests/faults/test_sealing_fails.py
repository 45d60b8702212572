"""One disk of four cannot be sealed: "the others' snapshots are deleted, the point and the lease released, and the instance
snapshot rests in ERROR with the reason and no members" (design.md §6).
"""

import grpc
import pytest

from stillpoint.disk.v1 import disk_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from tests.faults.stage import Machine, Stage

THIRD = 2
STATES = instance_snapshot_pb2.InstanceSnapshot


def states_and_slots(stage: Stage, machine: Machine) -> list[tuple[str, str, int]]:
    disks = [stage.disk(disk_id) for disk_id in machine.disk_ids]
    return [
        (disk_pb2.Disk.State.Name(disk.state), disk.operation_id, disk.manual_snapshots.used)
        for disk in disks
    ]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        ("OutOfSpace", grpc.StatusCode.RESOURCE_EXHAUSTED, "the block store is full"),
        ("DataLoss", grpc.StatusCode.DATA_LOSS, "do not match their checksum"),
    ],
)
def test_when_the_third_of_four_disks_cannot_be_sealed_the_other_snapshots_are_deleted_and_the_next_one_works(
    stage: Stage, error: str, code: grpc.StatusCode, reason: str
):
    machine = stage.make_machine(data_disks=3)
    stage.fill(machine, "before")
    good = stage.take_snapshot(machine)
    before = states_and_slots(stage, machine)

    stage.director.failing_seal = (THIRD, error)
    try:
        answer = stage.begin_snapshot(machine).result()
        assert len(answer.instance_snapshot.members) == 4
        assert stage.outcome(answer.operation_id) == "FAILED"
    finally:
        stage.director.failing_seal = None

    broken = stage.snapshot(answer.instance_snapshot.id)
    assert broken.state == STATES.STATE_ERROR
    assert machine.disk_ids[THIRD] in broken.state_reason
    assert reason in broken.state_reason
    assert list(broken.members) == []
    assert broken.operation_id == ""
    operation = stage.operation(answer.operation_id)
    assert (operation.error.code, operation.error.reason) == (code.value[0], "MEMBER_FAILED")

    assert states_and_slots(stage, machine) == before
    assert {member.instance_snapshot_id for member in stage.disk_snapshots_of(machine)} == {good.id}
    assert stage.instance(machine).operation_id == ""
    stage.assert_nothing_left()  # so no bytes either: a cut without a row is a finding

    assert stage.outcome(stage.begin_deletion(broken.id).result().operation_id) == "SUCCEEDED"
    stage.fill(machine, "after")
    stage.take_snapshot(machine)
    assert stage.states_of(machine) == ["AVAILABLE", "AVAILABLE"]
    stage.assert_nothing_left()


def test_a_snapshot_in_error_takes_no_slot_however_many_there_are(stage: Stage):
    machine = stage.make_machine(data_disks=3)
    stage.director.failing_seal = (THIRD, "OutOfSpace")
    try:
        for _ in range(3):
            answer = stage.begin_snapshot(machine).result()
            assert stage.outcome(answer.operation_id) == "FAILED"
    finally:
        stage.director.failing_seal = None
    assert stage.states_of(machine) == ["ERROR"] * 3
    assert {slots for _, _, slots in states_and_slots(stage, machine)} == {0}
    stage.assert_nothing_left()
