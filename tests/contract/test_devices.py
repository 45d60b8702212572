"""As which device an instance sees each of its disks, and that a snapshot remembers it."""

from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import CreateInstanceSnapshotRequest
from tests.contract.cloud import MIB, Cloud


def devices(cloud: Cloud, disk_ids: list[str]) -> list[str]:
    return [cloud.disk(disk_id).device for disk_id in disk_ids]


def test_the_system_disk_is_vda_and_the_data_disks_follow_in_the_order_asked_for(cloud: Cloud):
    machine = cloud.an_instance(data_disks=3)
    assert devices(cloud, machine.disk_ids) == ["vda", "vdb", "vdc", "vdd"]


def test_after_vdz_comes_vdaa(cloud: Cloud):
    machine = cloud.an_instance(data_disks=27)
    assert devices(cloud, machine.disk_ids)[24:] == ["vdy", "vdz", "vdaa", "vdab"]


def test_a_detached_disk_is_no_device(cloud: Cloud):
    machine = cloud.an_instance(data_disks=1, stopped=True)
    [kept] = machine.data_disk_ids
    detached = cloud.a_disk()
    assert devices(cloud, [detached]) == [""]
    cloud.attach(machine.id, detached)
    cloud.detach(machine.id, detached)
    cloud.delete_instance(machine.id)
    assert devices(cloud, [detached, kept]) == ["", ""]


def test_a_disk_that_is_attached_gets_the_lowest_device_that_is_free(cloud: Cloud):
    machine = cloud.an_instance(data_disks=3)
    first, second, third = machine.data_disk_ids
    cloud.detach(machine.id, first)
    cloud.detach(machine.id, second)
    late = cloud.a_disk()
    cloud.attach(machine.id, late)
    cloud.attach(machine.id, second)
    cloud.attach(machine.id, first)
    assert devices(cloud, [late, second, third, first]) == ["vdb", "vdc", "vdd", "vde"]


def test_a_snapshot_has_its_members_in_the_order_of_devices_and_remembers_them(cloud: Cloud):
    machine = cloud.an_instance(data_disks=1, size_bytes=2 * MIB)
    [early] = machine.data_disk_ids
    late = cloud.a_disk()
    cloud.detach(machine.id, early)
    cloud.attach(machine.id, late)
    cloud.attach(machine.id, early)
    whole = cloud.an_instance_snapshot(machine.id)
    cloud.detach(machine.id, late)
    assert [(member.disk_id, member.device) for member in cloud.instance_snapshot(whole.id).members] == [
        (machine.system_disk_id, "vda"),
        (late, "vdb"),
        (early, "vdc"),
    ]


def test_validating_a_snapshot_answers_the_devices_that_it_would_remember(cloud: Cloud):
    machine = cloud.an_instance(data_disks=2)
    request = CreateInstanceSnapshotRequest(instance_id=machine.id, validate_only=True)
    members = cloud.instance_snapshots.CreateInstanceSnapshot(request).instance_snapshot.members
    assert [member.device for member in members] == ["vda", "vdb", "vdc"]


def test_a_rollback_leaves_a_disk_the_device_it_is_now(cloud: Cloud):
    machine = cloud.an_instance(data_disks=2, stopped=True)
    whole = cloud.an_instance_snapshot(machine.id)
    first, second = machine.data_disk_ids
    cloud.detach(machine.id, first)
    cloud.detach(machine.id, second)
    cloud.attach(machine.id, second)
    cloud.roll_back(whole.id)
    assert devices(cloud, machine.disk_ids) == ["vda", "", "vdb"]
