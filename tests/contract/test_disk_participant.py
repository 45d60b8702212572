"""stillpoint.disk.v1.ParticipantService: the steps of other services' sagas, each with its undo."""

import pytest

from stillpoint.disk.v1 import disk_pb2, disk_snapshot_pb2
from stillpoint.disk.v1 import participant_service_pb2 as pb
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from tests.contract.cloud import ACCOUNT, MIB, Cloud, Machine, an_unknown_id
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside, step_withdrawn
from tests.contract.refusals import invalid, refused

SnapshotState = disk_snapshot_pb2.DiskSnapshot


def withdraw_disks(inside: Inside, request: pb.CreateInstanceDisksRequest) -> None:
    inside.disk.WithdrawInstanceDisks(
        pb.WithdrawInstanceDisksRequest(
            key=request.key,
            operation_id=request.operation_id,
            disk_ids=[disk.disk_id for disk in request.disks],
        )
    )


def assert_no_disks(cloud: Cloud, request: pb.CreateInstanceDisksRequest) -> None:
    for disk in request.disks:
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.disk(disk.disk_id)


class TestCreateInstanceDisks:
    def test_makes_all_disks_on_the_instance(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"), data_disks=2)
        inside.disk.CreateInstanceDisks(request)
        states = [cloud.disk(disk.disk_id).state for disk in request.disks]
        assert states == [disk_pb2.Disk.STATE_RUNNING] + [disk_pb2.Disk.STATE_MOUNTED] * 2
        withdraw_disks(inside, request)

    def test_the_same_key_again_has_one_effect(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        inside.disk.CreateInstanceDisks(request)
        cloud.write(request.disks[1].disk_id, (0, b"kept"))
        inside.disk.CreateInstanceDisks(request)
        assert cloud.read(request.disks[1].disk_id, 0, 4) == b"kept"
        withdraw_disks(inside, request)

    def test_its_undo_deletes_what_it_made_and_refuses_the_late_call(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        inside.disk.CreateInstanceDisks(request)
        for _ in range(2):
            withdraw_disks(inside, request)
        assert_no_disks(cloud, request)
        with step_withdrawn():
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_an_undo_of_what_never_happened_refuses_the_late_call(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        withdraw_disks(inside, request)
        with step_withdrawn():
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_fails_when_one_source_is_not_there_and_makes_none(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        request.disks[1].source_snapshot_id = an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_fails_when_one_source_is_not_available_and_makes_none(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        with inside.snapshotting(cloud.an_instance().id) as point:
            request.disks[1].source_snapshot_id = point.members[0].snapshot_id
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
                inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_fails_when_one_is_smaller_than_its_source_and_makes_none(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        request.disks[1].source_snapshot_id = cloud.a_disk_snapshot(cloud.a_disk(size_bytes=2 * MIB))
        with refused("INVALID_ARGUMENT", "SIZE_TOO_SMALL", DISK):
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_fails_when_several_are_refused_names_each_by_its_field_or_its_snapshot_and_makes_none(
        self, cloud: Cloud, inside: Inside
    ):
        request = inside.disks_request(an_unknown_id("i"), data_disks=2)
        unknown = [an_unknown_id("snap") for _ in range(2)]
        request.disks[0].source_snapshot_id, request.disks[2].source_snapshot_id = unknown
        request.disks[2].request_field = "data_disks[1]"
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            inside.disk.CreateInstanceDisks(request)
        assert refusal.violations == [
            ("SNAPSHOT_NOT_FOUND", f"snapshot/{unknown[0]}"),
            ("SNAPSHOT_NOT_FOUND", "data_disks[1]"),
        ]
        assert_no_disks(cloud, request)

    def test_fails_when_the_id_of_one_is_taken_and_makes_none(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"), data_disks=2)
        new, taken = request.disks[1], request.disks[2]
        taken.disk_id = cloud.a_disk()
        with invalid("disks"):
            inside.disk.CreateInstanceDisks(request)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.disk(new.disk_id)
        assert cloud.disk(taken.disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_fails_when_one_has_no_role_or_no_size_or_comes_twice(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"), data_disks=3)
        request.disks[0].role = disk_pb2.Disk.ROLE_UNSPECIFIED
        request.disks[1].size_bytes = 0
        request.disks[3].disk_id = request.disks[2].disk_id
        with invalid("disks[0].role", "disks[1].size_bytes", "disks"):
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)

    def test_fails_when_one_has_the_id_of_a_snapshot(self, cloud: Cloud, inside: Inside):
        request = inside.disks_request(an_unknown_id("i"))
        request.disks[1].disk_id = cloud.a_disk_snapshot()
        with invalid("disks"):
            inside.disk.CreateInstanceDisks(request)
        assert_no_disks(cloud, request)


class TestReleaseInstanceDisks:
    def test_the_same_key_again_has_one_effect_and_gets_the_same_answer(self, cloud: Cloud, inside: Inside):
        made = inside.disks_request(an_unknown_id("i"), data_disks=2)
        inside.disk.CreateInstanceDisks(made)
        request = inside.release_request(made.instance_id)
        first = inside.disk.ReleaseInstanceDisks(request)
        system, *data = [disk.disk_id for disk in made.disks]
        assert sorted(first.detached_disk_ids) == sorted(data)
        machine = cloud.an_instance()
        cloud.attach(machine.id, data[0])
        assert inside.disk.ReleaseInstanceDisks(request) == first
        assert cloud.disk(data[0]).instance_id == machine.id
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.disk(system)

    def test_fails_when_a_disk_has_a_task_and_changes_none(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        [data] = machine.data_disk_ids
        with inside.rolling_back((data, cloud.a_disk_snapshot(data)), instance_id=machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.ReleaseInstanceDisks(inside.release_request(machine.id))
        assert [cloud.disk(disk_id).instance_id for disk_id in machine.disk_ids] == [machine.id] * 2

    def test_once_refused_an_earlier_try_that_comes_late_takes_no_disk(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        request = inside.release_request(machine.id)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK):
                inside.disk.ReleaseInstanceDisks(request)
        with step_withdrawn():
            inside.disk.ReleaseInstanceDisks(request)
        assert [cloud.disk(disk_id).instance_id for disk_id in machine.disk_ids] == [machine.id] * 2

    def test_fails_when_several_disks_have_tasks_and_names_each(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                inside.disk.ReleaseInstanceDisks(inside.release_request(machine.id))
        assert len(refusal.violations) == 2

    def test_validated_only_it_is_refused_as_it_would_be_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1)
        request = inside.release_request(machine.id)
        request.validate_only = True
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK):
                inside.disk.ReleaseInstanceDisks(request)
        assert not inside.disk.ReleaseInstanceDisks(request).detached_disk_ids
        assert [cloud.disk(disk_id).instance_id for disk_id in machine.disk_ids] == [machine.id] * 2
        request.validate_only = False
        assert inside.disk.ReleaseInstanceDisks(request).detached_disk_ids == machine.data_disk_ids


class TestAttachDisk:
    def test_the_same_key_again_has_one_effect(self, cloud: Cloud, inside: Inside):
        instance_id, disk_id = an_unknown_id("i"), cloud.a_disk()
        request = inside.attach_request(instance_id, disk_id)
        for _ in range(2):
            inside.disk.AttachDisk(request)
        inside.disk.DetachDisk(inside.detach_request(instance_id, disk_id))
        inside.disk.AttachDisk(request)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_fails_when_no_instance_is_named(self, cloud: Cloud, inside: Inside):
        with invalid("instance_id"):
            inside.disk.AttachDisk(inside.attach_request("", cloud.a_disk()))

    def test_fails_when_the_disk_is_not_there(self, inside: Inside):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.AttachDisk(inside.attach_request(an_unknown_id("i"), an_unknown_id("disk")))

    def test_fails_when_the_disk_is_not_detached_and_an_earlier_try_that_comes_late_has_no_effect(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        request = inside.attach_request(an_unknown_id("i"), disk_id)
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            inside.disk.AttachDisk(request)
        cloud.detach(machine.id, disk_id)
        with step_withdrawn():
            inside.disk.AttachDisk(request)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_fails_when_the_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        with inside.rolling_back((disk_id, cloud.a_disk_snapshot(disk_id))):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.AttachDisk(inside.attach_request(an_unknown_id("i"), disk_id))

    def test_validated_only_it_is_refused_as_it_would_be_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        disk_id = cloud.a_disk()
        request = inside.attach_request(an_unknown_id("i"), disk_id)
        request.validate_only = True
        with inside.rolling_back((disk_id, cloud.a_disk_snapshot(disk_id))):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.AttachDisk(request)
        inside.disk.AttachDisk(request)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED
        request.validate_only = False
        inside.disk.AttachDisk(request)
        assert cloud.disk(disk_id).instance_id == request.instance_id


class TestDetachDisk:
    def test_validated_only_it_is_refused_as_it_would_be_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        request = inside.detach_request(machine.id, disk_id)
        request.validate_only = True
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.DetachDisk(request)
        inside.disk.DetachDisk(request)
        assert cloud.disk(disk_id).instance_id == machine.id
        request.validate_only = False
        inside.disk.DetachDisk(request)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_once_refused_an_earlier_try_that_comes_late_has_no_effect(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        request = inside.detach_request(machine.id, disk_id)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.DetachDisk(request)
        with step_withdrawn():
            inside.disk.DetachDisk(request)
        assert cloud.disk(disk_id).instance_id == machine.id

    def test_the_same_key_again_has_one_effect(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        request = inside.detach_request(machine.id, disk_id)
        for _ in range(2):
            inside.disk.DetachDisk(request)
        cloud.attach(machine.id, disk_id)
        inside.disk.DetachDisk(request)
        assert cloud.disk(disk_id).instance_id == machine.id

    def test_fails_when_the_disk_is_not_there(self, inside: Inside):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.DetachDisk(inside.detach_request(an_unknown_id("i"), an_unknown_id("disk")))

    def test_fails_when_the_disk_is_elsewhere_and_when_it_is_a_system_disk(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1)
        for instance_id, disk_id in (
            (an_unknown_id("i"), machine.data_disk_ids[0]),
            (machine.id, machine.system_disk_id),
        ):
            with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
                inside.disk.DetachDisk(inside.detach_request(instance_id, disk_id))

    def test_fails_when_the_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                inside.disk.DetachDisk(inside.detach_request(machine.id, machine.data_disk_ids[0]))


def withdraw_point(inside: Inside, key: str) -> None:
    inside.disk.WithdrawConsistencyPoint(pb.WithdrawConsistencyPointRequest(key=key))


def assert_untouched(cloud: Cloud, machine: Machine) -> None:
    for disk_id in machine.disk_ids:
        assert not cloud.disk(disk_id).operation_id
        assert not cloud.snapshots_of(disk_id=disk_id)


class TestLocateDisk:
    def test_says_on_which_instance_a_disk_is(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        for disk_id in machine.disk_ids:
            request = pb.LocateDiskRequest(account_id=ACCOUNT, disk_id=disk_id)
            assert inside.disk.LocateDisk(request).instance_id == machine.id

    def test_fails_when_the_disk_is_not_there(self, inside: Inside):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.LocateDisk(pb.LocateDiskRequest(account_id=ACCOUNT, disk_id=an_unknown_id("disk")))

    def test_fails_when_the_disk_is_of_another_account(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.LocateDisk(pb.LocateDiskRequest(account_id="another", disk_id=machine.system_disk_id))

    def test_fails_when_the_disk_is_on_no_instance(self, cloud: Cloud, inside: Inside):
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            inside.disk.LocateDisk(pb.LocateDiskRequest(account_id=ACCOUNT, disk_id=cloud.a_disk()))


class TestConsistencyPoint:
    def test_goes_from_cut_to_sealed_to_finished(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=2)
        cloud.write(machine.system_disk_id, (0, b"moment"))
        request = inside.point_request(machine.id)
        point = inside.disk.CreateConsistencyPoint(request)
        cloud.write(machine.system_disk_id, (0, b"after!"))
        assert [member.disk_id for member in point.members] == machine.disk_ids
        assert point.HasField("cut_time")
        for member in point.members:
            assert cloud.disk(member.disk_id).operation_id == request.operation_id
            snapshot = cloud.disk_snapshot(member.snapshot_id)
            assert (snapshot.state, snapshot.cut_time) == (SnapshotState.STATE_CREATING, point.cut_time)
        for _ in range(2):
            sealed = inside.disk.SealConsistencyPoint(pb.SealConsistencyPointRequest(key=request.key))
            assert {result.snapshot_id for result in sealed.results} == {
                member.snapshot_id for member in point.members
            }
            assert not any(result.reason for result in sealed.results)
        for _ in range(2):
            inside.disk.FinishConsistencyPoint(pb.FinishConsistencyPointRequest(key=request.key))
        for member in point.members:
            assert not cloud.disk(member.disk_id).operation_id
            snapshot = cloud.disk_snapshot(member.snapshot_id)
            assert (snapshot.state, snapshot.operation_id) == (SnapshotState.STATE_AVAILABLE, "")
            assert snapshot.instance_snapshot_id == request.instance_snapshot_id
        assert cloud.read(point.members[0].snapshot_id, 0, 6) == b"moment"

    def test_the_same_key_again_has_one_effect_and_gets_the_same_answer(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        request = inside.point_request(machine.id)
        first = inside.disk.CreateConsistencyPoint(request)
        cloud.write(machine.system_disk_id, (0, b"later"))
        assert inside.disk.CreateConsistencyPoint(request) == first
        assert len(cloud.snapshots_of(disk_id=machine.system_disk_id)) == 1
        withdraw_point(inside, request.key)

    def test_the_same_key_again_for_another_account_is_refused(self, cloud: Cloud, inside: Inside):
        request = inside.point_request(cloud.an_instance().id)
        inside.disk.CreateConsistencyPoint(request)
        request.account_id = "another"
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.CreateConsistencyPoint(request)
        withdraw_point(inside, request.key)

    @pytest.mark.parametrize("sealed", [False, True])
    def test_its_undo_drops_everything_and_refuses_late_calls(
        self, cloud: Cloud, inside: Inside, sealed: bool
    ):
        machine = cloud.an_instance(data_disks=1)
        request = inside.point_request(machine.id)
        inside.disk.CreateConsistencyPoint(request)
        if sealed:
            inside.disk.SealConsistencyPoint(pb.SealConsistencyPointRequest(key=request.key))
        for _ in range(2):
            withdraw_point(inside, request.key)
        assert_untouched(cloud, machine)
        with step_withdrawn() as refusal:
            inside.disk.CreateConsistencyPoint(request)
        assert refusal.metadata == {"key": request.key}
        with step_withdrawn():
            inside.disk.SealConsistencyPoint(pb.SealConsistencyPointRequest(key=request.key))
        with step_withdrawn():
            inside.disk.FinishConsistencyPoint(pb.FinishConsistencyPointRequest(key=request.key))
        assert_untouched(cloud, machine)

    def test_an_undo_of_what_never_happened_refuses_the_late_call(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.point_request(machine.id)
        withdraw_point(inside, request.key)
        with step_withdrawn():
            inside.disk.CreateConsistencyPoint(request)
        assert_untouched(cloud, machine)

    def test_a_call_that_comes_after_the_point_was_finished_is_refused(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.point_request(machine.id)
        inside.disk.CreateConsistencyPoint(request)
        inside.disk.SealConsistencyPoint(pb.SealConsistencyPointRequest(key=request.key))
        inside.disk.FinishConsistencyPoint(pb.FinishConsistencyPointRequest(key=request.key))
        with step_withdrawn():
            inside.disk.CreateConsistencyPoint(request)
        assert not cloud.disk(machine.system_disk_id).operation_id
        assert len(cloud.snapshots_of(disk_id=machine.system_disk_id)) == 1

    def test_a_refused_call_may_be_made_again_with_its_key(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.point_request(machine.id)
        with inside.snapshotting(machine.id), refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
            inside.disk.CreateConsistencyPoint(request)
        assert inside.disk.CreateConsistencyPoint(request).members
        withdraw_point(inside, request.key)

    def test_validating_changes_nothing(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        answer = inside.disk.CreateConsistencyPoint(inside.point_request(machine.id, validate_only=True))
        assert {member.disk_id for member in answer.members} == set(machine.disk_ids)
        assert not answer.HasField("cut_time")
        assert_untouched(cloud, machine)

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_the_instance_has_no_disks(self, inside: Inside, validate_only: bool):
        unknown = an_unknown_id("i")
        with refused("NOT_FOUND", "INSTANCE_HAS_NO_DISKS", DISK) as refusal:
            inside.disk.CreateConsistencyPoint(inside.point_request(unknown, validate_only=validate_only))
        assert refusal.metadata == {"instance_id": unknown}

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_the_disk_that_it_must_have_was_moved_and_touches_neither_instance(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        machine, other = cloud.an_instance(), cloud.an_instance()
        request = inside.point_request(machine.id, validate_only=validate_only)
        request.disk_id = other.system_disk_id
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            inside.disk.CreateConsistencyPoint(request)
        assert refusal.metadata == {"disk_id": other.system_disk_id, "state": "RUNNING"}
        assert_untouched(cloud, machine)
        assert_untouched(cloud, other)

    def test_fails_when_the_disk_that_it_must_have_is_gone(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.point_request(machine.id)
        request.disk_id = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.CreateConsistencyPoint(request)
        assert_untouched(cloud, machine)

    def test_has_the_disk_that_it_must_have(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        request = inside.point_request(machine.id)
        [request.disk_id] = machine.data_disk_ids
        point = inside.disk.CreateConsistencyPoint(request)
        assert [member.disk_id for member in point.members] == machine.disk_ids
        withdraw_point(inside, request.key)

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_disks_are_full_and_names_each(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        machine = cloud.an_instance(data_disks=1)
        for disk_id in machine.disk_ids:
            cloud.fill_snapshot_slots(disk_id)
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK) as refusal:
            inside.disk.CreateConsistencyPoint(inside.point_request(machine.id, validate_only=validate_only))
        assert refusal.quotas.keys() == {f"disk/{disk_id}" for disk_id in machine.disk_ids}

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_one_disk_is_busy_and_another_full_and_says_both(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        machine = cloud.an_instance(data_disks=1)
        [busy] = machine.data_disk_ids
        cloud.fill_snapshot_slots(machine.system_disk_id)
        with inside.rolling_back((busy, cloud.a_disk_snapshot(busy)), instance_id=machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                inside.disk.CreateConsistencyPoint(
                    inside.point_request(machine.id, validate_only=validate_only)
                )
        assert refusal.violations == [("DISK_BUSY", f"disk/{busy}")]
        assert refusal.quotas.keys() == {f"disk/{machine.system_disk_id}"}


def a_disk_that_moved_on(cloud: Cloud) -> tuple[str, str]:
    """A disk that holds `now!`, and a snapshot of when it held `then`."""
    disk_id = cloud.a_disk()
    cloud.write(disk_id, (0, b"then"))
    snapshot_id = cloud.a_disk_snapshot(disk_id)
    cloud.write(disk_id, (0, b"now!"))
    return disk_id, snapshot_id


class TestRollback:
    def test_reserves_and_then_applies_once(self, cloud: Cloud, inside: Inside):
        targets = [a_disk_that_moved_on(cloud) for _ in range(2)]
        request = inside.rollback_request(*targets)
        for _ in range(2):
            assert not inside.disk.ReserveRollback(request).untouched_disk_ids
        for disk_id, _ in targets:
            disk = cloud.disk(disk_id)
            assert (disk.state, disk.operation_id) == (
                disk_pb2.Disk.STATE_ROLLING_BACK,
                request.operation_id,
            )
        inside.disk.ApplyRollback(pb.ApplyRollbackRequest(key=request.key))
        for disk_id, _ in targets:
            assert cloud.read(disk_id, 0, 4) == b"then"
            assert not cloud.disk(disk_id).operation_id
            cloud.write(disk_id, (0, b"more"))
        inside.disk.ApplyRollback(pb.ApplyRollbackRequest(key=request.key))
        assert [cloud.read(disk_id, 0, 4) for disk_id, _ in targets] == [b"more"] * 2

    def test_a_reservation_that_comes_after_it_was_applied_is_refused(self, cloud: Cloud, inside: Inside):
        request = inside.rollback_request(a_disk_that_moved_on(cloud))
        inside.disk.ReserveRollback(request)
        inside.disk.ApplyRollback(pb.ApplyRollbackRequest(key=request.key))
        with step_withdrawn():
            inside.disk.ReserveRollback(request)
        assert not cloud.disk(request.targets[0].disk_id).operation_id

    def test_its_undo_clears_the_tasks_changes_no_byte_and_refuses_late_calls(
        self, cloud: Cloud, inside: Inside
    ):
        target = a_disk_that_moved_on(cloud)
        request = inside.rollback_request(target)
        inside.disk.ReserveRollback(request)
        for _ in range(2):
            inside.disk.WithdrawRollback(pb.WithdrawRollbackRequest(key=request.key))
        with step_withdrawn():
            inside.disk.ReserveRollback(request)
        with step_withdrawn():
            inside.disk.ApplyRollback(pb.ApplyRollbackRequest(key=request.key))
        assert not cloud.disk(target[0]).operation_id
        assert cloud.read(target[0], 0, 4) == b"now!"

    def test_an_undo_of_what_never_happened_refuses_the_late_call(self, cloud: Cloud, inside: Inside):
        target = a_disk_that_moved_on(cloud)
        request = inside.rollback_request(target)
        inside.disk.WithdrawRollback(pb.WithdrawRollbackRequest(key=request.key))
        with step_withdrawn():
            inside.disk.ReserveRollback(request)
        assert not cloud.disk(target[0]).operation_id

    def test_a_key_of_a_deletion_rolls_nothing_back(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        cloud.write(machine.system_disk_id, (0, b"then"))
        deletion = inside.deletion_request(cloud.an_instance_snapshot(machine.id).id)
        cloud.write(machine.system_disk_id, (0, b"now!"))
        inside.disk.ReserveSnapshotDeletion(deletion)
        with step_withdrawn():
            inside.disk.ApplyRollback(pb.ApplyRollbackRequest(key=deletion.key))
        assert cloud.read(machine.system_disk_id, 0, 4) == b"now!"
        inside.disk.ApplySnapshotDeletion(pb.ApplySnapshotDeletionRequest(key=deletion.key))
        assert not cloud.snapshots_of(instance_snapshot_id=deletion.instance_snapshot_id)

    def test_names_what_is_on_the_instance_and_is_not_rolled_back(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=2)
        target = (machine.system_disk_id, cloud.a_disk_snapshot(machine.system_disk_id))
        request = inside.rollback_request(target, instance_id=machine.id, validate_only=True)
        answer = inside.disk.ReserveRollback(request)
        assert sorted(answer.untouched_disk_ids) == sorted(machine.data_disk_ids)

    def test_validating_changes_nothing(self, cloud: Cloud, inside: Inside):
        target = a_disk_that_moved_on(cloud)
        inside.disk.ReserveRollback(inside.rollback_request(target, validate_only=True))
        assert not cloud.disk(target[0]).operation_id

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_for_everything_at_once_and_reserves_none(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        free, busy = a_disk_that_moved_on(cloud), a_disk_that_moved_on(cloud)
        elsewhere = cloud.an_instance(data_disks=1).data_disk_ids[0]
        missing, no_snapshot = an_unknown_id("disk"), an_unknown_id("snap")
        targets = [free, busy, (elsewhere, cloud.a_disk_snapshot(elsewhere)), (missing, no_snapshot)]
        request = inside.rollback_request(*targets, validate_only=validate_only)
        with inside.rolling_back(busy):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                inside.disk.ReserveRollback(request)
        assert sorted(refusal.violations) == [
            ("DISK_BUSY", f"disk/{busy[0]}"),
            ("DISK_NOT_FOUND", f"disk/{missing}"),
            ("DISK_STATE", f"disk/{elsewhere}"),
            ("SNAPSHOT_NOT_FOUND", f"snapshot/{no_snapshot}"),
        ]
        assert not cloud.disk(free[0]).operation_id

    def test_fails_when_a_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        target = a_disk_that_moved_on(cloud)
        with inside.rolling_back(target), refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
            inside.disk.ReserveRollback(inside.rollback_request(target))

    def test_fails_when_a_disk_is_on_another_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        target = (machine.system_disk_id, cloud.a_disk_snapshot(machine.system_disk_id))
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK):
            inside.disk.ReserveRollback(inside.rollback_request(target))

    def test_fails_when_a_disk_is_not_there(self, cloud: Cloud, inside: Inside):
        disk_id, snapshot_id = a_disk_that_moved_on(cloud)
        cloud.delete_disk(disk_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            inside.disk.ReserveRollback(inside.rollback_request((disk_id, snapshot_id)))

    def test_fails_when_a_disk_is_to_go_back_twice(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        target = (disk_id, cloud.a_disk_snapshot(disk_id))
        for validate_only in (True, False):
            with invalid("targets"):
                inside.disk.ReserveRollback(
                    inside.rollback_request(target, target, validate_only=validate_only)
                )
        assert not cloud.disk(disk_id).operation_id

    def test_fails_when_the_snapshot_is_of_another_disk(self, cloud: Cloud, inside: Inside):
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            inside.disk.ReserveRollback(inside.rollback_request((cloud.a_disk(), cloud.a_disk_snapshot())))

    def test_fails_when_the_snapshot_is_being_deleted(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        whole = cloud.an_instance_snapshot(machine.id)
        [member] = whole.members
        deletion = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(deletion)
        with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK) as refusal:
            inside.disk.ReserveRollback(
                inside.rollback_request((member.disk_id, member.snapshot_id), instance_id=machine.id)
            )
        assert refusal.metadata["state"] == "DELETING"
        inside.disk.WithdrawSnapshotDeletion(pb.WithdrawSnapshotDeletionRequest(key=deletion.key))


def a_whole(cloud: Cloud) -> instance_snapshot_pb2.InstanceSnapshot:
    return cloud.an_instance_snapshot(cloud.an_instance(data_disks=1).id)


def members_states(cloud: Cloud, whole: instance_snapshot_pb2.InstanceSnapshot) -> set[int]:
    return {snapshot.state for snapshot in cloud.snapshots_of(instance_snapshot_id=whole.id)}


class TestSnapshotDeletion:
    def test_marks_all_members_and_then_deletes_them(self, cloud: Cloud, inside: Inside):
        whole = a_whole(cloud)
        request = inside.deletion_request(whole.id)
        for _ in range(2):
            inside.disk.ReserveSnapshotDeletion(request)
        assert members_states(cloud, whole) == {SnapshotState.STATE_DELETING}
        for _ in range(2):
            inside.disk.ApplySnapshotDeletion(pb.ApplySnapshotDeletionRequest(key=request.key))
        assert not cloud.snapshots_of(instance_snapshot_id=whole.id)
        cloud.delete_instance_snapshot(whole.id)

    def test_a_key_of_a_rollback_deletes_nothing_and_neither_does_its_undo(
        self, cloud: Cloud, inside: Inside
    ):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        rollback = inside.rollback_request((disk_id, snapshot_id))
        inside.disk.ReserveRollback(rollback)
        inside.disk.ApplySnapshotDeletion(pb.ApplySnapshotDeletionRequest(key=rollback.key))
        inside.disk.WithdrawSnapshotDeletion(pb.WithdrawSnapshotDeletionRequest(key=rollback.key))
        assert cloud.disk_snapshot(snapshot_id).state == SnapshotState.STATE_AVAILABLE
        inside.disk.WithdrawRollback(pb.WithdrawRollbackRequest(key=rollback.key))
        assert not cloud.disk(disk_id).operation_id

    def test_its_undo_makes_them_available_again_and_refuses_late_calls(self, cloud: Cloud, inside: Inside):
        whole = a_whole(cloud)
        request = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(request)
        for _ in range(2):
            inside.disk.WithdrawSnapshotDeletion(pb.WithdrawSnapshotDeletionRequest(key=request.key))
        with step_withdrawn():
            inside.disk.ReserveSnapshotDeletion(request)
        with step_withdrawn():
            inside.disk.ApplySnapshotDeletion(pb.ApplySnapshotDeletionRequest(key=request.key))
        assert members_states(cloud, whole) == {SnapshotState.STATE_AVAILABLE}

    def test_an_undo_of_what_never_happened_refuses_the_late_call(self, cloud: Cloud, inside: Inside):
        whole = a_whole(cloud)
        request = inside.deletion_request(whole.id)
        inside.disk.WithdrawSnapshotDeletion(pb.WithdrawSnapshotDeletionRequest(key=request.key))
        with step_withdrawn():
            inside.disk.ReserveSnapshotDeletion(request)
        assert members_states(cloud, whole) == {SnapshotState.STATE_AVAILABLE}

    def test_fails_when_a_member_is_in_use_and_marks_none(self, cloud: Cloud, inside: Inside):
        whole = a_whole(cloud)
        with inside.being_made(whole.members[0].snapshot_id):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK):
                inside.disk.ReserveSnapshotDeletion(inside.deletion_request(whole.id))
        assert members_states(cloud, whole) == {SnapshotState.STATE_AVAILABLE}

    def test_fails_when_a_member_is_being_made(self, cloud: Cloud, inside: Inside):
        point = inside.point_request(cloud.an_instance().id)
        inside.disk.CreateConsistencyPoint(point)
        with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
            inside.disk.ReserveSnapshotDeletion(inside.deletion_request(point.instance_snapshot_id))
        withdraw_point(inside, point.key)

    def test_fails_when_several_members_are_in_the_way_and_names_each(self, cloud: Cloud, inside: Inside):
        whole = a_whole(cloud)
        in_use = [member.snapshot_id for member in whole.members]
        with inside.being_made(*in_use):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                inside.disk.ReserveSnapshotDeletion(inside.deletion_request(whole.id))
        assert {subject for _, subject in refusal.violations} == {f"snapshot/{each}" for each in in_use}


class TestListHolds:
    def test_lists_what_operations_hold_page_by_page(self, cloud: Cloud, inside: Inside):
        machine, whole, target = cloud.an_instance(), a_whole(cloud), a_disk_that_moved_on(cloud)
        point, deletion = inside.point_request(machine.id), inside.deletion_request(whole.id)
        rollback = inside.rollback_request(target)
        cut = inside.disk.CreateConsistencyPoint(point)
        inside.disk.ReserveSnapshotDeletion(deletion)
        inside.disk.ReserveRollback(rollback)
        try:
            held = holds(inside)
        finally:
            withdraw_point(inside, point.key)
            inside.disk.WithdrawSnapshotDeletion(pb.WithdrawSnapshotDeletionRequest(key=deletion.key))
            inside.disk.WithdrawRollback(pb.WithdrawRollbackRequest(key=rollback.key))
        assert held >= {
            ("task", machine.system_disk_id, point.operation_id),
            ("snapshot", cut.members[0].snapshot_id, point.operation_id),
            ("point", point.key, point.operation_id),
            ("task", target[0], rollback.operation_id),
            ("rollback reservation", rollback.key, rollback.operation_id),
            ("deletion reservation", deletion.key, deletion.operation_id),
            *(("snapshot", member.snapshot_id, deletion.operation_id) for member in whole.members),
        }
        gone = {point.operation_id, rollback.operation_id, deletion.operation_id}
        assert not gone & {operation_id for _, _, operation_id in holds(inside)}

    def test_fails_when_the_token_is_none(self, inside: Inside):
        with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
            inside.disk.ListHolds(pb.ListHoldsRequest(page_token="junk"))

    def test_fails_when_page_size_is_negative(self, inside: Inside):
        with invalid("page_size"):
            inside.disk.ListHolds(pb.ListHoldsRequest(page_size=-1))


def holds(inside: Inside) -> set[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    request = pb.ListHoldsRequest(page_size=2)
    while True:
        answer = inside.disk.ListHolds(request)
        found += [(hold.kind, hold.resource_id, hold.operation_id) for hold in answer.holds]
        request.page_token = answer.next_page_token
        if not request.page_token:
            assert len(set(found)) == len(found)
            return set(found)


def test_check_store_finds_no_difference_between_store_and_rows(inside: Inside):
    assert [answer.problem for answer in inside.disk.CheckStore(pb.CheckStoreRequest())] == []


def test_scrub_store_reads_what_is_stored_and_finds_it_whole(inside: Inside, cloud: Cloud):
    cloud.write(cloud.a_disk(), (0, b"x" * 4096))
    answers = list(inside.disk.ScrubStore(pb.ScrubStoreRequest()))
    assert sum(answer.checked_bytes for answer in answers) >= 4096
    assert [damage for answer in answers for damage in answer.damages] == []
