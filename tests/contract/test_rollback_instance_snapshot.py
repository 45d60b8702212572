"""RollbackInstanceSnapshot of stillpoint.snapshot.v1.InstanceSnapshotService."""

import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused

State = instance_snapshot_pb2.InstanceSnapshot


def roll_back(cloud: Cloud, instance_snapshot_id: str) -> pb.RollbackInstanceSnapshotResponse:
    return cloud.instance_snapshots.RollbackInstanceSnapshot(
        pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=instance_snapshot_id)
    )


def assert_at_rest(cloud: Cloud, whole: instance_snapshot_pb2.InstanceSnapshot) -> None:
    now = cloud.instance_snapshot(whole.id)
    assert (now.state, now.operation_id) == (State.STATE_AVAILABLE, "")
    assert not cloud.instance(whole.instance_id).operation_id


class TestRollbackInstanceSnapshot:
    def test_answers_when_it_can_only_go_forward_and_brings_every_disk_back(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (5000, b"then"))
        whole = cloud.an_instance_snapshot(machine.id)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (5000, b"now!"), (90000, b"later"))
        cloud.stop(machine.id)
        answer = roll_back(cloud, whole.id)
        assert answer.instance_snapshot.state == State.STATE_ROLLING_BACK
        assert answer.instance_snapshot.operation_id == answer.operation_id
        assert not answer.untouched_disk_ids
        cloud.finish(answer.operation_id)
        assert_at_rest(cloud, whole)
        for disk_id in machine.disk_ids:
            assert cloud.read(disk_id, 5000, 4) == b"then"
            assert cloud.read(disk_id, 90000, 5) == bytes(5)
            assert not cloud.disk(disk_id).operation_id
        assert cloud.instance(machine.id).state == instance_pb2.Instance.STATE_STOPPED
        cloud.start(machine.id)

    def test_can_be_done_again_and_to_an_older_one(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        wholes = []
        for number in (b"1", b"2"):
            for disk_id in machine.disk_ids:
                cloud.write(disk_id, (0, number))
            wholes.append(cloud.an_instance_snapshot(machine.id))
        for which in (1, 0, 0, 1):
            cloud.roll_back(wholes[which].id)
            content = [cloud.read(disk_id, 0, 1) for disk_id in machine.disk_ids]
            assert content == [b"%d" % (which + 1)] * 2

    def test_rolls_back_on_an_instance_that_is_stopped_without_charge(self, cloud: Cloud):
        machine = cloud.an_instance()
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.instances.StopInstance(
            instance_service_pb2.StopInstanceRequest(instance_id=machine.id, no_charge=True)
        )
        cloud.roll_back(whole.id)
        assert cloud.instance(machine.id).state == instance_pb2.Instance.STATE_STOPPED_NO_CHARGE

    def test_rolls_back_a_disk_that_is_detached_by_now_and_leaves_it_detached(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        cloud.write(disk_id, (0, b"then"))
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.stop(machine.id)
        cloud.detach(machine.id, disk_id)
        cloud.write(disk_id, (0, b"now!"))
        cloud.roll_back(whole.id)
        assert cloud.read(disk_id, 0, 4) == b"then"
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_leaves_disks_alone_that_were_attached_since_and_names_them(self, cloud: Cloud):
        machine = cloud.an_instance()
        whole = cloud.an_instance_snapshot(machine.id)
        later = cloud.a_disk()
        cloud.attach(machine.id, later)
        cloud.write(later, (0, b"untouched"))
        cloud.stop(machine.id)
        answer = roll_back(cloud, whole.id)
        assert list(answer.untouched_disk_ids) == [later]
        cloud.finish(answer.operation_id)
        assert cloud.read(later, 0, 9) == b"untouched"

    def test_leaves_the_snapshots_that_are_newer(self, cloud: Cloud):
        machine = cloud.an_instance(stopped=True)
        old = cloud.an_instance_snapshot(machine.id)
        cloud.write(machine.system_disk_id, (0, b"newer"))
        new = cloud.an_instance_snapshot(machine.id)
        cloud.roll_back(old.id)
        assert cloud.read(new.members[0].snapshot_id, 0, 5) == b"newer"
        cloud.roll_back(new.id)
        assert cloud.read(machine.system_disk_id, 0, 5) == b"newer"

    def test_fails_when_the_instance_snapshot_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("isnap")
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT) as refusal:
            roll_back(cloud, unknown)
        assert refusal.metadata == {"instance_snapshot_id": unknown}

    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("instance_snapshot_id"):
            roll_back(cloud, malformed)

    def test_fails_when_the_instance_runs(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.write(machine.system_disk_id, (0, b"stays"))
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE) as refusal:
            roll_back(cloud, whole.id)
        assert refusal.metadata == {"instance_id": machine.id, "state": "RUNNING"}
        assert refusal.violations == [("INSTANCE_STATE", f"instance/{machine.id}")]
        assert cloud.read(machine.system_disk_id, 0, 5) == b"stays"
        assert_at_rest(cloud, whole)

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        with inside.leased(machine.id) as operation_id:
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE) as refusal:
                roll_back(cloud, whole.id)
        assert refusal.metadata["operation_id"] == operation_id
        cloud.roll_back(whole.id)

    def test_fails_when_the_account_is_in_debt(self, cloud: Cloud):
        machine = cloud.an_instance(stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        with cloud.account_in_debt(), refused("FAILED_PRECONDITION", "ACCOUNT_IN_DEBT", COMPUTE):
            roll_back(cloud, whole.id)
        assert_at_rest(cloud, whole)

    def test_fails_when_a_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                roll_back(cloud, whole.id)
        assert refusal.metadata["disk_id"] == machine.system_disk_id
        assert_at_rest(cloud, whole)

    def test_fails_when_a_disk_is_mounted_on_another_instance(self, cloud: Cloud):
        machine, other = cloud.an_instance(data_disks=1), cloud.an_instance()
        [disk_id] = machine.data_disk_ids
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.stop(machine.id)
        cloud.detach(machine.id, disk_id)
        cloud.attach(other.id, disk_id)
        cloud.write(machine.system_disk_id, (0, b"stays"))
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            roll_back(cloud, whole.id)
        assert refusal.metadata == {"disk_id": disk_id, "state": "MOUNTED"}
        assert other.id in refusal.message
        assert cloud.read(machine.system_disk_id, 0, 5) == b"stays"

    def test_fails_when_a_disk_was_deleted_and_names_it(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        [disk_id] = machine.data_disk_ids
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.detach(machine.id, disk_id)
        cloud.delete_disk(disk_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            roll_back(cloud, whole.id)
        assert refusal.metadata == {"disk_id": disk_id}
        assert refusal.violations == [("DISK_NOT_FOUND", f"disk/{disk_id}")]
        assert_at_rest(cloud, whole)

    def test_fails_when_its_instance_was_deleted_and_names_the_missing_system_disk(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        cloud.write(machine.system_disk_id, (0, b"recovered"))
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.stop(machine.id)
        cloud.delete_instance(machine.id)
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
            roll_back(cloud, whole.id)
        assert sorted(refusal.violations) == [
            ("DISK_NOT_FOUND", f"disk/{machine.system_disk_id}"),
            ("INSTANCE_NOT_FOUND", f"instance/{machine.id}"),
        ]
        [member] = [member for member in whole.members if member.is_system_disk]
        made = cloud.disks.CreateDisk(
            disk_service_pb2.CreateDiskRequest(
                name=a_name("disk"), source_snapshot_id=member.snapshot_id, size_bytes=2 * MIB
            )
        ).disk
        assert cloud.read(made.id, 0, 9) == b"recovered"

    def test_fails_for_everything_at_once_in_one_answer(self, cloud: Cloud, inside: Inside):
        """The account in debt, the instance running, one disk mounted elsewhere, one deleted, one with a task."""
        machine, other = cloud.an_instance(data_disks=3), cloud.an_instance()
        elsewhere, deleted, busy = machine.data_disk_ids
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.detach(machine.id, elsewhere)
        cloud.attach(other.id, elsewhere)
        cloud.detach(machine.id, deleted)
        cloud.delete_disk(deleted)
        [snapshot_of_busy] = [member.snapshot_id for member in whole.members if member.disk_id == busy]
        with (
            cloud.account_in_debt(),
            inside.rolling_back((busy, snapshot_of_busy), instance_id=machine.id),
        ):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                roll_back(cloud, whole.id)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            ("DISK_BUSY", f"disk/{busy}"),
            ("DISK_NOT_FOUND", f"disk/{deleted}"),
            ("DISK_STATE", f"disk/{elsewhere}"),
            ("INSTANCE_STATE", f"instance/{machine.id}"),
        ]
        assert_at_rest(cloud, whole)

    def test_fails_for_several_disks_at_once_and_names_each(self, cloud: Cloud):
        machine, other = cloud.an_instance(data_disks=2, stopped=True), cloud.an_instance()
        whole = cloud.an_instance_snapshot(machine.id)
        for disk_id in machine.data_disk_ids:
            cloud.detach(machine.id, disk_id)
            cloud.attach(other.id, disk_id)
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            roll_back(cloud, whole.id)
        assert sorted(refusal.violations) == sorted(
            ("DISK_STATE", f"disk/{disk_id}") for disk_id in machine.data_disk_ids
        )
