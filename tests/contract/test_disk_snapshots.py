"""stillpoint.disk.v1.DiskSnapshotService."""

import pytest

from stillpoint.disk.v1 import disk_snapshot_pb2, participant_service_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused

State = disk_snapshot_pb2.DiskSnapshot


def create(cloud: Cloud, disk_id: str, name: str = "") -> pb.CreateDiskSnapshotResponse:
    return cloud.disk_snapshots.CreateDiskSnapshot(pb.CreateDiskSnapshotRequest(disk_id=disk_id, name=name))


def delete(cloud: Cloud, snapshot_id: str) -> None:
    answer = cloud.disk_snapshots.DeleteDiskSnapshot(pb.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id))
    cloud.finish(answer.operation_id)


class TestCreateDiskSnapshot:
    def test_answers_when_the_moment_is_fixed_and_is_available_when_its_operation_has_ended(
        self, cloud: Cloud
    ):
        disk_id, name = cloud.a_disk(size_bytes=2 * MIB), a_name("snapshot")
        cloud.write(disk_id, (0, b"before"))
        answer = create(cloud, disk_id, name)
        cloud.write(disk_id, (0, b"after!"))
        snapshot = answer.snapshot
        assert snapshot.HasField("cut_time")
        assert snapshot.state in (State.STATE_CREATING, State.STATE_AVAILABLE)
        assert (snapshot.name, snapshot.account_id, snapshot.disk_id) == (name, ACCOUNT, disk_id)
        assert (snapshot.kind, snapshot.size_bytes) == (State.KIND_MANUAL, 2 * MIB)
        assert snapshot.instance_snapshot_id == ""
        cloud.finish(answer.operation_id)
        done = cloud.disk_snapshot(snapshot.id)
        assert (done.state, done.operation_id) == (State.STATE_AVAILABLE, "")
        assert done.cut_time == snapshot.cut_time
        assert cloud.read(snapshot.id, 0, 6) == b"before"
        assert not cloud.disk(disk_id).operation_id

    @pytest.mark.parametrize("which", [0, 1])
    def test_takes_a_snapshot_of_a_system_disk_and_of_a_mounted_one(self, cloud: Cloud, which: int):
        disk_id = cloud.an_instance(data_disks=1).disk_ids[which]
        assert cloud.disk_snapshot(cloud.a_disk_snapshot(disk_id)).disk_id == disk_id

    def test_makes_a_name_from_the_disks_name_when_none_is_given(self, cloud: Cloud):
        disk_id = cloud.a_disk(name="d" * 65)
        answer = create(cloud, disk_id)
        assert answer.snapshot.name.startswith("d" * 40)
        assert len(answer.snapshot.name) <= 65
        cloud.finish(answer.operation_id)

    @pytest.mark.parametrize("name", ["n" * 66, " x", "a\nb"])
    def test_fails_when_the_name_is_malformed(self, cloud: Cloud, name: str):
        with invalid("name"):
            create(cloud, cloud.a_disk(), name)

    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(self, cloud: Cloud):
        with invalid("request_id", "disk_id", "name"):
            cloud.disk_snapshots.CreateDiskSnapshot(
                pb.CreateDiskSnapshotRequest(request_id="1", name="n" * 66)
            )

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            create(cloud, unknown)
        assert refusal.metadata == {"disk_id": unknown}

    def test_fails_when_an_operation_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                create(cloud, machine.system_disk_id)
        assert refusal.metadata["disk_id"] == machine.system_disk_id
        assert refusal.metadata["state"] == "SNAPSHOTTING"

    def test_fails_when_no_slot_is_free_and_says_the_limit_and_the_use(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        first, *_ = cloud.fill_snapshot_slots(disk_id)
        limit = cloud.disk(disk_id).manual_snapshots.limit
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK) as refusal:
            create(cloud, disk_id)
        assert refusal.metadata == {"disk_id": disk_id}
        [full] = refusal.quotas.values()
        assert (full.subject, full.quota_value) == (f"disk/{disk_id}", limit)
        assert full.quota_metric == "manual_snapshots_per_disk"
        assert f"{limit} of {limit}" in full.description
        assert cloud.disk(disk_id).manual_snapshots.used == limit
        delete(cloud, first)
        cloud.a_disk_snapshot(disk_id)

    def test_fails_when_the_disk_is_busy_and_full_and_says_both(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        first, *_ = cloud.fill_snapshot_slots(disk_id)
        with inside.rolling_back((disk_id, first)):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                create(cloud, disk_id)
        assert refusal.violations == [("DISK_BUSY", f"disk/{disk_id}")]
        assert list(refusal.quotas) == [f"disk/{disk_id}"]

    def test_gives_a_deleted_disks_slots_to_nobody(self, cloud: Cloud):
        """A disk that is made from a full disk's snapshot has all its slots."""
        full = cloud.a_disk()
        first, *_ = cloud.fill_snapshot_slots(full)
        assert cloud.disk(cloud.a_disk(source_snapshot_id=first)).manual_snapshots.used == 0


class TestGetDiskSnapshot:
    def test_fails_when_the_snapshot_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            cloud.disk_snapshot(unknown)
        assert refusal.metadata == {"snapshot_id": unknown}

    @pytest.mark.parametrize("malformed", ["", "Snap", "snap/1"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("snapshot_id"):
            cloud.disk_snapshot(malformed)


class TestListDiskSnapshots:
    def test_lists_newest_first_and_narrows_by_disk_instance_snapshot_and_state(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        alone = cloud.a_disk_snapshot(machine.system_disk_id)
        whole = cloud.an_instance_snapshot(machine.id)
        members = {member.disk_id: member.snapshot_id for member in whole.members}
        of_disk = [snapshot.id for snapshot in cloud.snapshots_of(disk_id=machine.system_disk_id)]
        assert of_disk == [members[machine.system_disk_id], alone]
        of_whole = [snapshot.id for snapshot in cloud.snapshots_of(instance_snapshot_id=whole.id)]
        assert of_whole == sorted(members.values(), reverse=True)
        for state, found in ((State.STATE_AVAILABLE, of_disk), (State.STATE_DELETING, [])):
            listed = cloud.disk_snapshots.ListDiskSnapshots(
                pb.ListDiskSnapshotsRequest(
                    filter=pb.ListDiskSnapshotsRequest.Filter(disk_id=machine.system_disk_id, state=state)
                )
            )
            assert [snapshot.id for snapshot in listed.snapshots] == found

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListDiskSnapshotsRequest(page_size=-7), "page_size"),
            (
                pb.ListDiskSnapshotsRequest(filter=pb.ListDiskSnapshotsRequest.Filter(disk_id="No Id")),
                "filter.disk_id",
            ),
            (
                pb.ListDiskSnapshotsRequest(
                    filter=pb.ListDiskSnapshotsRequest.Filter(instance_snapshot_id="No Id")
                ),
                "filter.instance_snapshot_id",
            ),
        ],
    )
    def test_fails_when_page_size_is_negative_or_a_filter_value_malformed(
        self, cloud: Cloud, request_: pb.ListDiskSnapshotsRequest, field: str
    ):
        with invalid(field):
            cloud.disk_snapshots.ListDiskSnapshots(request_)


class TestDeleteDiskSnapshot:
    def test_deletes_a_snapshot_and_leaves_its_disk_its_siblings_and_its_offspring(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (0, b"1"))
        first = cloud.a_disk_snapshot(disk_id)
        cloud.write(disk_id, (0, b"2"))
        second = cloud.a_disk_snapshot(disk_id)
        made = cloud.a_disk(source_snapshot_id=first)
        delete(cloud, first)
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            cloud.disk_snapshot(first)
        assert [cloud.read(each, 0, 1) for each in (made, second, disk_id)] == [b"1", b"2", b"2"]

    def test_fails_when_the_snapshot_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            delete(cloud, an_unknown_id("snap"))

    def test_fails_when_the_snapshot_is_a_member_of_an_instance_snapshot(self, cloud: Cloud):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        [member] = whole.members
        with refused("FAILED_PRECONDITION", "MEMBER_OF_INSTANCE_SNAPSHOT", DISK) as refusal:
            delete(cloud, member.snapshot_id)
        assert refusal.metadata == {"snapshot_id": member.snapshot_id, "instance_snapshot_id": whole.id}
        assert refusal.violations == [("MEMBER_OF_INSTANCE_SNAPSHOT", f"snapshot/{member.snapshot_id}")]
        assert cloud.disk_snapshot(member.snapshot_id).state == State.STATE_AVAILABLE

    def test_fails_when_the_snapshot_is_being_made(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK) as refusal:
                delete(cloud, point.members[0].snapshot_id)
        assert refusal.metadata == {"snapshot_id": point.members[0].snapshot_id, "state": "CREATING"}

    def test_fails_when_a_disk_is_being_made_from_the_snapshot(self, cloud: Cloud, inside: Inside):
        snapshot_id = cloud.a_disk_snapshot()
        with inside.being_made(snapshot_id):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK) as refusal:
                delete(cloud, snapshot_id)
        assert refusal.metadata == {"snapshot_id": snapshot_id}
        delete(cloud, snapshot_id)

    def test_fails_when_a_disk_is_being_rolled_back_to_the_snapshot(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id, other = cloud.a_disk_snapshot(disk_id), cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK) as refusal:
                delete(cloud, snapshot_id)
            delete(cloud, other)
        assert refusal.metadata == {"snapshot_id": snapshot_id}
        delete(cloud, snapshot_id)

    def test_fails_when_the_snapshot_is_a_member_in_use_and_says_both(self, cloud: Cloud, inside: Inside):
        [member] = cloud.an_instance_snapshot(cloud.an_instance().id).members
        with inside.being_made(member.snapshot_id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                delete(cloud, member.snapshot_id)
        assert {kind for kind, _ in refusal.violations} == {"MEMBER_OF_INSTANCE_SNAPSHOT", "SNAPSHOT_IN_USE"}

    def test_fails_when_the_snapshot_is_being_deleted(self, cloud: Cloud, inside: Inside):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        request = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(request)
        try:
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                delete(cloud, whole.members[0].snapshot_id)
        finally:
            inside.disk.WithdrawSnapshotDeletion(
                participant_service_pb2.WithdrawSnapshotDeletionRequest(key=request.key)
            )
        assert {kind for kind, _ in refusal.violations} == {"MEMBER_OF_INSTANCE_SNAPSHOT", "SNAPSHOT_STATE"}

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("snapshot_id"):
            delete(cloud, "")
