"""RollbackDisk of stillpoint.compute.v1.InstanceService: one disk of a stopped instance."""

import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2
from tests.contract.cloud import MIB, Cloud, Machine, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused


def a_machine_with_a_past(cloud: Cloud, *, stopped: bool = True) -> tuple[Machine, dict[str, str]]:
    """Every disk of it read `then` in its snapshot and reads `now!`; the snapshots by disk."""
    machine = cloud.an_instance(data_disks=1, stopped=stopped)
    snapshots = {}
    for disk_id in machine.disk_ids:
        cloud.write(disk_id, (0, b"then"))
        snapshots[disk_id] = cloud.a_disk_snapshot(disk_id)
        cloud.write(disk_id, (0, b"now!"))
    return machine, snapshots


class TestRollbackDisk:
    @pytest.mark.parametrize(("which", "state"), [(0, "RUNNING"), (1, "MOUNTED")])
    def test_brings_the_system_disk_or_a_mounted_data_disk_back_and_leaves_the_other(
        self, cloud: Cloud, which: int, state: str
    ):
        machine, snapshots = a_machine_with_a_past(cloud)
        rolled, other = machine.disk_ids[which], machine.disk_ids[1 - which]
        answer = cloud.instances.RollbackDisk(
            instance_service_pb2.RollbackDiskRequest(
                instance_id=machine.id, disk_id=rolled, snapshot_id=snapshots[rolled]
            )
        )
        assert answer.instance == cloud.instance(machine.id)
        assert (answer.instance.operation_id, answer.instance.state) == (
            "",
            instance_pb2.Instance.STATE_STOPPED,
        )
        assert cloud.finish(answer.operation_id).resource_id == machine.id
        assert cloud.read(rolled, 0, 4) == b"then"
        assert cloud.read(other, 0, 4) == b"now!"
        disk = cloud.disk(rolled)
        assert disk_pb2.Disk.State.Name(disk.state) == f"STATE_{state}"
        assert (disk.operation_id, disk.instance_id) == ("", machine.id)
        cloud.start(machine.id)

    def test_rolls_back_to_a_member_on_an_instance_that_is_stopped_without_charge_and_in_debt(
        self, cloud: Cloud
    ):
        machine = cloud.an_instance()
        cloud.write(machine.system_disk_id, (0, b"then"))
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.write(machine.system_disk_id, (0, b"now!"))
        cloud.instances.StopInstance(
            instance_service_pb2.StopInstanceRequest(instance_id=machine.id, no_charge=True)
        )
        with cloud.account_in_debt():
            instance = cloud.roll_back_disk_on(
                machine.id, machine.system_disk_id, whole.members[0].snapshot_id
            )
        assert instance.state == instance_pb2.Instance.STATE_STOPPED_NO_CHARGE
        assert cloud.read(machine.system_disk_id, 0, 4) == b"then"
        assert cloud.instance_snapshot(whole.id) == whole

    def test_keeps_the_size_of_a_disk_that_grew_since(self, cloud: Cloud):
        machine, snapshots = a_machine_with_a_past(cloud)
        cloud.resize(machine.system_disk_id, 2 * MIB)
        cloud.write(machine.system_disk_id, (2 * MIB - 4, b"end!"))
        cloud.roll_back_disk_on(machine.id, machine.system_disk_id, snapshots[machine.system_disk_id])
        assert cloud.disk(machine.system_disk_id).size_bytes == 2 * MIB
        assert cloud.read(machine.system_disk_id, MIB) == bytes(MIB)

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("i")
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE) as refusal:
            cloud.roll_back_disk_on(unknown, an_unknown_id("disk"), an_unknown_id("snap"))
        assert refusal.metadata == {"instance_id": unknown}

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        [disk_id] = machine.data_disk_ids
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        cloud.detach(machine.id, disk_id)
        cloud.delete_disk(disk_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.roll_back_disk_on(machine.id, disk_id, snapshot_id)
        assert refusal.metadata == {"disk_id": disk_id}
        assert not cloud.instance(machine.id).operation_id

    def test_fails_when_the_snapshot_is_not_there_or_of_another_disk(self, cloud: Cloud):
        machine, snapshots = a_machine_with_a_past(cloud)
        system, data = machine.disk_ids
        for snapshot_id in (an_unknown_id("snap"), snapshots[data]):
            with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
                cloud.roll_back_disk_on(machine.id, system, snapshot_id)
            assert refusal.metadata == {"snapshot_id": snapshot_id}
        assert cloud.read(system, 0, 4) == b"now!"

    def test_fails_when_the_instance_runs_and_changes_nothing(self, cloud: Cloud):
        machine, snapshots = a_machine_with_a_past(cloud, stopped=False)
        for disk_id in machine.disk_ids:
            with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE) as refusal:
                cloud.roll_back_disk_on(machine.id, disk_id, snapshots[disk_id])
            assert refusal.metadata == {"instance_id": machine.id, "state": "RUNNING"}
            assert cloud.read(disk_id, 0, 4) == b"now!"
            assert not cloud.disk(disk_id).operation_id
        cloud.stop(machine.id)

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine, snapshots = a_machine_with_a_past(cloud)
        disk_id = machine.system_disk_id
        with inside.leased(machine.id) as operation_id:
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE) as refusal:
                cloud.roll_back_disk_on(machine.id, disk_id, snapshots[disk_id])
            assert cloud.instance(machine.id).operation_id == operation_id
        assert refusal.metadata == {"instance_id": machine.id, "operation_id": operation_id}
        cloud.roll_back_disk_on(machine.id, disk_id, snapshots[disk_id])

    def test_fails_when_the_disk_is_detached_or_on_another_instance(self, cloud: Cloud):
        machine, other = cloud.an_instance(stopped=True), cloud.an_instance(data_disks=1, stopped=True)
        for disk_id, state in (
            (cloud.a_disk(), "DETACHED"),
            (other.system_disk_id, "RUNNING"),
            (other.data_disk_ids[0], "MOUNTED"),
        ):
            snapshot_id = cloud.a_disk_snapshot(disk_id)
            with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
                cloud.roll_back_disk_on(machine.id, disk_id, snapshot_id)
            assert refusal.metadata == {"disk_id": disk_id, "state": state}
            assert refusal.message.endswith(f"it must be on instance {machine.id}")
        assert not cloud.instance(machine.id).operation_id

    def test_fails_when_an_operation_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        machine, snapshots = a_machine_with_a_past(cloud)
        disk_id = machine.system_disk_id
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                cloud.roll_back_disk_on(machine.id, disk_id, snapshots[disk_id])
        assert not cloud.instance(machine.id).operation_id

    def test_fails_when_the_snapshot_is_being_made_of_a_busy_disk_and_says_both(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(stopped=True)
        with inside.snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.roll_back_disk_on(machine.id, machine.system_disk_id, point.members[0].snapshot_id)
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "SNAPSHOT_STATE"}

    def test_fails_when_instance_and_disk_and_snapshot_are_in_the_way_and_says_all_of_it(
        self, cloud: Cloud, inside: Inside
    ):
        machine, other = cloud.an_instance(), cloud.an_instance()
        with inside.leased(machine.id), inside.snapshotting(other.id) as point:
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                cloud.roll_back_disk_on(machine.id, other.system_disk_id, point.members[0].snapshot_id)
        assert sorted(refusal.violations) == sorted(
            [
                ("INSTANCE_BUSY", f"instance/{machine.id}"),
                ("INSTANCE_STATE", f"instance/{machine.id}"),
                ("DISK_BUSY", f"disk/{other.system_disk_id}"),
                ("DISK_STATE", f"disk/{other.system_disk_id}"),
                ("SNAPSHOT_STATE", f"snapshot/{point.members[0].snapshot_id}"),
            ]
        )

    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_an_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("instance_id", "disk_id", "snapshot_id"):
            cloud.roll_back_disk_on(malformed, malformed, malformed)
