"""AttachDisk and DetachDisk of stillpoint.compute.v1.InstanceService."""

import pytest

from stillpoint.compute.v1 import instance_service_pb2 as pb
from stillpoint.disk.v1 import disk_pb2
from tests.contract.cloud import Cloud, a_request_id, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused


class TestAttachDisk:
    @pytest.mark.parametrize("stopped", [False, True])
    def test_mounts_a_detached_disk_on_a_running_or_stopped_instance(self, cloud: Cloud, stopped: bool):
        machine, disk_id = cloud.an_instance(stopped=stopped), cloud.a_disk()
        answer = cloud.instances.AttachDisk(pb.AttachDiskRequest(instance_id=machine.id, disk_id=disk_id))
        assert answer.instance == cloud.instance(machine.id)
        assert not answer.instance.operation_id
        disk = cloud.disk(disk_id)
        assert (disk.state, disk.instance_id) == (disk_pb2.Disk.STATE_MOUNTED, machine.id)
        assert cloud.finish(answer.operation_id).kind == "attach_disk"

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.attach(an_unknown_id("i"), cloud.a_disk())

    def test_fails_when_the_disk_is_not_there_and_the_instance_is_free_again(self, cloud: Cloud):
        machine, unknown = cloud.an_instance(), an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.attach(machine.id, unknown)
        assert refusal.metadata == {"disk_id": unknown}
        assert not cloud.instance(machine.id).operation_id

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine, disk_id = cloud.an_instance(), cloud.a_disk()
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE),
        ):
            cloud.attach(machine.id, disk_id)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_fails_when_the_disk_is_mounted_elsewhere(self, cloud: Cloud):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        [disk_id] = elsewhere.data_disk_ids
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            cloud.attach(here.id, disk_id)
        assert refusal.metadata == {"disk_id": disk_id, "state": "MOUNTED"}
        assert refusal.violations == [("DISK_STATE", f"disk/{disk_id}")]
        assert cloud.disk(disk_id).instance_id == elsewhere.id

    def test_fails_when_the_disk_is_a_system_disk(self, cloud: Cloud):
        here, elsewhere = cloud.an_instance(), cloud.an_instance()
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            cloud.attach(here.id, elsewhere.system_disk_id)

    def test_fails_when_the_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        machine, disk_id = cloud.an_instance(), cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with (
            inside.rolling_back((disk_id, snapshot_id)) as operation_id,
            refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal,
        ):
            cloud.attach(machine.id, disk_id)
        assert refusal.metadata == {
            "disk_id": disk_id,
            "state": "ROLLING_BACK",
            "operation_id": operation_id,
        }

    def test_fails_when_the_disk_is_mounted_and_has_a_task_and_says_both(self, cloud: Cloud, inside: Inside):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        with (
            inside.snapshotting(elsewhere.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal,
        ):
            cloud.attach(here.id, elsewhere.data_disk_ids[0])
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "DISK_STATE"}

    def test_fails_when_instance_and_disk_are_in_the_way_says_all_of_it_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        [disk_id] = elsewhere.data_disk_ids
        with inside.leased(here.id) as operation_id, inside.snapshotting(elsewhere.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                cloud.attach(here.id, disk_id)
            assert cloud.instance(here.id).operation_id == operation_id
        assert sorted(refusal.violations) == sorted(
            [
                ("INSTANCE_BUSY", f"instance/{here.id}"),
                ("DISK_BUSY", f"disk/{disk_id}"),
                ("DISK_STATE", f"disk/{disk_id}"),
            ]
        )
        assert cloud.disk(disk_id).instance_id == elsewhere.id

    def test_fails_when_the_instance_is_held_and_the_disk_not_there_and_says_both_until_neither_holds(
        self, cloud: Cloud, inside: Inside
    ):
        machine, unknown = cloud.an_instance(), an_unknown_id("disk")
        with inside.leased(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                cloud.attach(machine.id, unknown)
        assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "DISK_NOT_FOUND"}
        cloud.attach(machine.id, cloud.a_disk())

    def test_once_refused_the_same_request_may_be_tried_again(self, cloud: Cloud, inside: Inside):
        machine, disk_id = cloud.an_instance(), cloud.a_disk()
        request = pb.AttachDiskRequest(request_id=a_request_id(), instance_id=machine.id, disk_id=disk_id)
        with inside.leased(machine.id), refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE):
            cloud.instances.AttachDisk(request)
        assert not cloud.instances.AttachDisk(request).instance.operation_id
        assert cloud.disk(disk_id).instance_id == machine.id

    def test_fails_when_the_ids_are_malformed(self, cloud: Cloud):
        with invalid("instance_id", "disk_id"):
            cloud.attach("", "A disk")


class TestDetachDisk:
    @pytest.mark.parametrize("stopped", [False, True])
    def test_takes_a_disk_off_a_running_or_stopped_instance(self, cloud: Cloud, stopped: bool):
        machine = cloud.an_instance(data_disks=2, stopped=stopped)
        off, stays = machine.data_disk_ids
        answer = cloud.instances.DetachDisk(pb.DetachDiskRequest(instance_id=machine.id, disk_id=off))
        assert answer.instance == cloud.instance(machine.id)
        disk = cloud.disk(off)
        assert (disk.state, disk.instance_id) == (disk_pb2.Disk.STATE_DETACHED, "")
        assert cloud.disk(stays).instance_id == machine.id
        cloud.attach(machine.id, off)

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.detach(an_unknown_id("i"), cloud.a_disk())

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.detach(cloud.an_instance().id, an_unknown_id("disk"))

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE),
        ):
            cloud.detach(machine.id, machine.data_disk_ids[0])

    def test_fails_when_the_disk_is_mounted_on_another_instance(self, cloud: Cloud):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            cloud.detach(here.id, elsewhere.data_disk_ids[0])
        assert cloud.disk(elsewhere.data_disk_ids[0]).instance_id == elsewhere.id

    def test_fails_when_the_disk_is_detached(self, cloud: Cloud):
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            cloud.detach(cloud.an_instance().id, cloud.a_disk())

    def test_fails_when_the_disk_is_the_system_disk(self, cloud: Cloud):
        machine = cloud.an_instance()
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            cloud.detach(machine.id, machine.system_disk_id)
        assert refusal.metadata == {"disk_id": machine.system_disk_id, "state": "RUNNING"}

    def test_fails_when_the_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        with (
            inside.snapshotting(machine.id),
            refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal,
        ):
            cloud.detach(machine.id, machine.data_disk_ids[0])
        assert refusal.metadata["state"] == "SNAPSHOTTING"

    def test_fails_when_the_disk_is_on_another_instance_and_has_a_task_and_says_both(
        self, cloud: Cloud, inside: Inside
    ):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        with (
            inside.snapshotting(elsewhere.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal,
        ):
            cloud.detach(here.id, elsewhere.data_disk_ids[0])
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "DISK_STATE"}

    def test_fails_when_instance_and_disk_are_in_the_way_says_all_of_it_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        here, elsewhere = cloud.an_instance(), cloud.an_instance(data_disks=1)
        [disk_id] = elsewhere.data_disk_ids
        with inside.leased(here.id) as operation_id, inside.snapshotting(elsewhere.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                cloud.detach(here.id, disk_id)
            assert cloud.instance(here.id).operation_id == operation_id
        assert sorted(refusal.violations) == sorted(
            [
                ("INSTANCE_BUSY", f"instance/{here.id}"),
                ("DISK_BUSY", f"disk/{disk_id}"),
                ("DISK_STATE", f"disk/{disk_id}"),
            ]
        )
        assert cloud.disk(disk_id).instance_id == elsewhere.id

    def test_fails_when_the_ids_are_empty(self, cloud: Cloud):
        with invalid("instance_id", "disk_id"):
            cloud.detach("", "")
