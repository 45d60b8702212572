"""disk_svc and compute_svc are killed in the middle of what they do for others and for themselves: before a change is
made, and after it was made and before anybody was told.
"""

import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_service_pb2, disk_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.positions import (
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
from tests.faults.stage import DISK_BYTES, Machine, Stage


def die(stage: Stage, service: Service, *positions: dict[str, Position]) -> None:
    """Kill and restart; what stands in a proxy is lost with the service."""
    stage.kill(service)
    for group in positions:
        for position in group.values():
            position.gate.lose()
    stage.restart(service)
    stage.come_to_rest()


def test_disk_svc_dies_in_the_middle_of_its_steps_and_creations_rollbacks_and_deletions_end_as_they_should(
    stage: Stage,
):
    to_create = machines_for(
        stage,
        [
            "store.cut",
            "CreateConsistencyPoint",
            "store.seal",
            "SealConsistencyPoint",
            "FinishConsistencyPoint",
        ],
        creation_on,
    )
    to_roll_back = machines_for(stage, ["store.fence", "store.restore"], rollback_on)
    to_delete = machines_for(stage, ["store.delete_snapshots"], deletion_on)
    creations = bring_into_position(stage, to_create)
    rollbacks = bring_into_position(stage, to_roll_back)
    deletions = bring_into_position(stage, to_delete)
    die(stage, Service.DISK, creations, rollbacks, deletions)

    assert states(stage, creations) == dict.fromkeys(creations, "AVAILABLE")
    assert words(stage, rollbacks) == dict.fromkeys(rollbacks, "old")
    assert states(stage, rollbacks) == dict.fromkeys(rollbacks, "AVAILABLE")
    assert states(stage, deletions) == dict.fromkeys(deletions, "")
    for position in [*creations.values(), *rollbacks.values(), *deletions.values()]:
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"
    stage.assert_nothing_left()


def test_disk_svc_dies_in_the_middle_of_an_undo_and_the_undo_is_finished(stage: Stage):
    machines = machines_for(stage, ["store.withdraw_cut", "WithdrawConsistencyPoint"], creation_on)
    stage.director.failing_seal = (0, "OutOfSpace")
    try:
        positions = bring_into_position(stage, machines)
    finally:
        stage.director.failing_seal = None
    die(stage, Service.DISK, positions)
    assert states(stage, positions) == dict.fromkeys(positions, "ERROR")
    assert [s for p in positions.values() for s in stage.disk_snapshots_of(p.machine)] == []
    stage.assert_nothing_left()


def test_disk_svc_dies_in_the_middle_of_its_own_operations_and_finishes_them(stage: Stage):
    def making_a_disk(_stage: Stage) -> tuple[Machine, Begin]:
        return Machine("", []), lambda request_id: stage.disks.CreateDisk.future(
            disk_service_pb2.CreateDiskRequest(request_id=request_id, name="new", size_bytes=DISK_BYTES)
        )

    def deleting_a_disk(_stage: Stage) -> tuple[Machine, Begin]:
        request = disk_service_pb2.CreateDiskRequest(name="doomed", size_bytes=DISK_BYTES)
        disk_id = stage.disks.CreateDisk(request).disk.id
        return Machine("", [disk_id]), lambda request_id: stage.disks.DeleteDisk.future(
            disk_service_pb2.DeleteDiskRequest(request_id=request_id, disk_id=disk_id)
        )

    def snapshotting_a_disk(_stage: Stage) -> tuple[Machine, Begin]:
        machine = stage.make_machine(data_disks=0)
        return machine, lambda request_id: stage.disk_snapshots.CreateDiskSnapshot.future(
            disk_snapshot_service_pb2.CreateDiskSnapshotRequest(
                request_id=request_id, disk_id=machine.disk_ids[0]
            )
        )

    def deleting_a_snapshot(_stage: Stage) -> tuple[Machine, Begin]:
        machine, begin = snapshotting_a_disk(stage)
        answer = begin("").result()
        assert stage.outcome(answer.operation_id) == "SUCCEEDED"
        return machine, lambda request_id: stage.disk_snapshots.DeleteDiskSnapshot.future(
            disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(
                request_id=request_id, snapshot_id=answer.snapshot.id
            )
        )

    to_snapshot = machines_for(stage, ["store.cut", "store.seal"], snapshotting_a_disk)
    to_delete = machines_for(stage, ["store.delete_snapshots"], deleting_a_snapshot)
    to_end = machines_for(stage, ["store.delete_volume"], deleting_a_disk)
    positions = bring_into_position(stage, to_snapshot | to_delete | to_end)
    positions |= bring_into_position(stage, machines_for(stage, ["store.create_volume"], making_a_disk))
    die(stage, Service.DISK, positions)

    for position in positions.values():
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"
    for place in to_snapshot:
        assert len(stage.disk_snapshots_of(positions[place].machine)) == 1
    for place in to_delete:
        assert stage.disk_snapshots_of(positions[place].machine) == []
    stage.assert_nothing_left()


def test_compute_svc_dies_with_a_lease_half_given_or_half_returned_and_the_snapshots_end_as_they_should(
    stage: Stage,
):
    leases = ["LeaseInstance", "ReleaseInstance"]
    to_create, to_roll_back = (
        machines_for(stage, leases, creation_on),
        machines_for(stage, leases, rollback_on),
    )
    creations = bring_into_position(stage, to_create)
    rollbacks = bring_into_position(stage, to_roll_back)
    die(stage, Service.COMPUTE, creations, rollbacks)
    assert states(stage, creations) == dict.fromkeys(creations, "AVAILABLE")
    assert states(stage, rollbacks) == dict.fromkeys(rollbacks, "AVAILABLE")
    assert words(stage, rollbacks) == dict.fromkeys(rollbacks, "old")
    stage.assert_nothing_left()


@pytest.mark.on_both_databases
def test_compute_svc_dies_in_the_middle_of_its_own_operations_and_late_calls_of_the_first_try_do_nothing(
    stage: Stage,
):
    def making_a_machine(_stage: Stage) -> tuple[Machine, Begin]:
        disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)
        return Machine("", []), lambda request_id: stage.instances.CreateInstance.future(
            instance_service_pb2.CreateInstanceRequest(
                request_id=request_id, name="new", system_disk=disk, data_disks=[disk]
            )
        )

    def deleting_a_machine(_stage: Stage) -> tuple[Machine, Begin]:
        machine = stage.make_machine()
        stage.stop_machine(machine)
        return machine, lambda request_id: stage.instances.DeleteInstance.future(
            instance_service_pb2.DeleteInstanceRequest(request_id=request_id, instance_id=machine.id)
        )

    def detaching_a_disk(_stage: Stage) -> tuple[Machine, Begin]:
        machine = stage.make_machine()
        return machine, lambda request_id: stage.instances.DetachDisk.future(
            instance_service_pb2.DetachDiskRequest(
                request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[1]
            )
        )

    def attaching_a_disk(_stage: Stage) -> tuple[Machine, Begin]:
        machine, detach = detaching_a_disk(stage)
        detach("").result()
        return machine, lambda request_id: stage.instances.AttachDisk.future(
            instance_service_pb2.AttachDiskRequest(
                request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[1]
            )
        )

    machines = (
        machines_for(stage, ["AttachDisk"], attaching_a_disk)
        | machines_for(stage, ["DetachDisk"], detaching_a_disk)
        | machines_for(stage, ["ReleaseInstanceDisks"], deleting_a_machine)
        | machines_for(stage, ["CreateInstanceDisks"], making_a_machine)
    )
    positions = bring_into_position(stage, machines)
    stage.kill(Service.COMPUTE)
    stage.restart(Service.COMPUTE)
    stage.come_to_rest()

    for position in positions.values():
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"

    def attachments() -> dict[str, str]:
        return {
            place: stage.disk(position.machine.disk_ids[1]).instance_id
            for place, position in positions.items()
            if position.machine.disk_ids
        }

    expected = {
        place: position.machine.id if place.endswith("AttachDisk") else ""
        for place, position in positions.items()
        if position.machine.disk_ids
    }
    assert attachments() == expected
    stage.assert_nothing_left()
    deliver_ghosts(positions)
    assert attachments() == expected
    stage.assert_nothing_left()
