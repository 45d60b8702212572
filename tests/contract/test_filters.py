"""What the lists of instances, disks, disk snapshots and instance snapshots are narrowed by."""

import uuid

import pytest

from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from tests.contract.cloud import Cloud, a_name
from tests.contract.refusals import invalid
from tests.contract.resources import A_DISK, DISK_SNAPSHOT, INSTANCE_SNAPSHOT, RESOURCES, Resource

each_resource = pytest.mark.parametrize("resource", RESOURCES, ids=str)


def a_mark() -> dict[str, str]:
    """A label of this test's own."""
    return {"contract": uuid.uuid4().hex}


@each_resource
def test_a_list_is_narrowed_by_the_very_name(cloud: Cloud, resource: Resource):
    name = a_name("named")
    first, second = (resource.make(cloud, name=name) for _ in range(2))
    resource.make(cloud, name=f"{name}x")
    resource.make(cloud, name=name.upper())
    assert resource.listed(cloud, name=name) == [second.id, first.id]


@each_resource
def test_a_list_is_narrowed_by_labels_every_one_of_which_must_match(cloud: Cloud, resource: Resource):
    mark = a_mark()
    odd = {"example.org/tier": "1", "a.b/c-d_e.f": "", "number": "007", "bool": "true", "null": "null"}
    plain, all_of_it = (resource.make(cloud, labels={**mark, **extra}).id for extra in ({}, odd))
    resource.make(cloud, labels=odd)
    assert resource.listed(cloud, labels=mark) == [all_of_it, plain]
    for key, value in odd.items():
        assert resource.listed(cloud, labels={**mark, key: value}) == [all_of_it]
    assert resource.listed(cloud, labels={**mark, **odd}) == [all_of_it]
    for key, value in (("number", "7"), ("a.b/c-d_e.f", "x"), ("example", ""), ("absent", ""), ("bool", "1")):
        assert resource.listed(cloud, labels={**mark, key: value}) == []


@each_resource
def test_labels_that_were_changed_are_those_that_a_list_is_narrowed_by(cloud: Cloud, resource: Resource):
    before, after = a_mark(), a_mark()
    made = resource.make(cloud, labels=before)
    resource.update(cloud, {"id": made.id, "labels": after})
    assert (resource.listed(cloud, labels=before), resource.listed(cloud, labels=after)) == ([], [made.id])


@each_resource
def test_a_list_is_narrowed_from_one_moment_on_and_to_just_before_another(cloud: Cloud, resource: Resource):
    mark = a_mark()
    first, second, third = (resource.make(cloud, labels=mark) for _ in range(3))

    def listed(**moments: object) -> list[str]:
        return resource.listed(cloud, labels=mark, **moments)

    assert listed(created_from=second.create_time) == [third.id, second.id]
    assert listed(created_before=second.create_time) == [first.id]
    assert listed(created_from=first.create_time, created_before=third.create_time) == [second.id, first.id]
    assert listed(created_from=third.create_time, created_before=first.create_time) == []
    assert listed(created_from={"seconds": 0}, created_before={"seconds": 253402300799}) == [
        third.id,
        second.id,
        first.id,
    ]


@each_resource
@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": "1st"}, "filter.name"),
        ({"labels": {"Key": ""}}, "filter.labels"),
        ({"labels": {"key": "a b"}}, "filter.labels"),
        ({"created_from": {"seconds": 1 << 60}}, "filter.created_from"),
        ({"created_before": {"nanos": -1}}, "filter.created_before"),
    ],
)
def test_fails_when_a_value_to_filter_by_is_malformed(
    cloud: Cloud, resource: Resource, wanted: dict[str, object], field: str
):
    with invalid(field):
        resource.listed(cloud, **wanted)


@each_resource
def test_no_row_is_skipped_or_repeated_under_a_filter_while_others_come_and_go(
    cloud: Cloud, resource: Resource
):
    mark = a_mark()
    made = [resource.make(cloud, labels=mark).id for _ in range(6)]
    unmarked = resource.make(cloud).id
    walked, token = resource.page(cloud, filter={"labels": mark}, page_size=2)
    assert walked == [made[5], made[4]]
    later = resource.make(cloud, labels=mark).id
    for gone in (made[4], made[2]):  # the row that the token names, and one that was not reached yet
        resource.delete(cloud, gone)
    while token:
        rows, token = resource.page(cloud, filter={"labels": mark}, page_size=2, page_token=token)
        walked += rows
    assert walked == [made[5], made[4], made[3], made[1], made[0]]
    assert {later, unmarked}.isdisjoint(walked)


def test_disks_are_narrowed_by_role_instance_and_state_together(cloud: Cloud):
    machine = cloud.an_instance(data_disks=2)
    assert A_DISK.listed(cloud, instance_id=machine.id, role=Disk.ROLE_SYSTEM) == [machine.system_disk_id]
    assert A_DISK.listed(cloud, instance_id=machine.id, role=Disk.ROLE_DATA) == machine.data_disk_ids[::-1]
    assert A_DISK.listed(cloud, instance_id=machine.id, role=Disk.ROLE_DATA, state=Disk.STATE_RUNNING) == []


def test_disks_are_narrowed_by_the_snapshot_they_were_made_from_which_may_be_gone(cloud: Cloud):
    snapshot_id, other = cloud.a_disk_snapshot(), cloud.a_disk_snapshot()
    copies = [cloud.a_disk(source_snapshot_id=snapshot_id) for _ in range(2)]
    cloud.a_disk(source_snapshot_id=other)
    DISK_SNAPSHOT.delete(cloud, snapshot_id)
    assert A_DISK.listed(cloud, source_snapshot_id=snapshot_id) == copies[::-1]


def test_disk_snapshots_are_narrowed_by_kind(cloud: Cloud):
    disk_id = cloud.a_disk()
    snapshot_id = cloud.a_disk_snapshot(disk_id)
    assert DISK_SNAPSHOT.listed(cloud, disk_id=disk_id, kind=DiskSnapshot.KIND_MANUAL) == [snapshot_id]
    assert DISK_SNAPSHOT.listed(cloud, disk_id=disk_id, kind=DiskSnapshot.KIND_AUTOMATIC) == []


def test_instance_snapshots_are_narrowed_by_a_disk_that_has_a_member_in_them(cloud: Cloud):
    machine, other = cloud.an_instance(data_disks=1), cloud.an_instance()
    [moved] = machine.data_disk_ids
    with_disk = cloud.an_instance_snapshot(machine.id).id
    cloud.detach(machine.id, moved)
    cloud.attach(other.id, moved)
    without = cloud.an_instance_snapshot(machine.id).id
    elsewhere = cloud.an_instance_snapshot(other.id).id
    assert INSTANCE_SNAPSHOT.listed(cloud, disk_id=moved) == [elsewhere, with_disk]
    assert INSTANCE_SNAPSHOT.listed(cloud, disk_id=moved, instance_id=machine.id) == [with_disk]
    assert INSTANCE_SNAPSHOT.listed(cloud, disk_id=machine.system_disk_id) == [without, with_disk]


@pytest.mark.parametrize(
    ("resource", "field"),
    [(A_DISK, "source_snapshot_id"), (INSTANCE_SNAPSHOT, "disk_id"), (INSTANCE_SNAPSHOT, "instance_id")],
    ids=str,
)
def test_fails_when_an_id_to_filter_by_is_malformed(cloud: Cloud, resource: Resource, field: str):
    with invalid(f"filter.{field}"):
        resource.listed(cloud, **{field: "No Id"})
