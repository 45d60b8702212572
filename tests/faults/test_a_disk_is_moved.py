"""A disk is moved while the instance that it was on is about to be snapshotted for its sake."""

from stillpoint.compute.v1 import instance_service_pb2
from tests.faults.stage import Stage, new_request_id, refusal_of


def test_a_disk_that_is_moved_before_its_instance_is_leased_makes_no_snapshot_of_the_wrong_instance(
    stage: Stage,
):
    machine, other = stage.make_machine(), stage.make_machine()
    disk_id, request_id = machine.disk_ids[-1], new_request_id()
    gate, call = stage.stopped_at(
        "before LeaseInstance", lambda: stage.begin_snapshot_from(disk_id, request_id)
    )
    stage.instances.DetachDisk(
        instance_service_pb2.DetachDiskRequest(instance_id=machine.id, disk_id=disk_id)
    )
    stage.instances.AttachDisk(instance_service_pb2.AttachDiskRequest(instance_id=other.id, disk_id=disk_id))
    gate.let_go()
    refusal = refusal_of(call)
    assert refusal.reason == "DISK_STATE"
    assert other.id in refusal.message
    assert stage.states_of(machine) == stage.states_of(other) == []
    stage.assert_nothing_left()

    answer = stage.begin_snapshot_from(disk_id, request_id).result()
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    assert answer.instance_snapshot.instance_id == other.id
    assert disk_id in {member.disk_id for member in answer.instance_snapshot.members}
    stage.assert_nothing_left()
