"""CreateInstanceSnapshot, GetInstanceSnapshot and ListInstanceSnapshots of stillpoint.snapshot.v1."""

from typing import Any

import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_snapshot_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, a_request_id, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud

State = instance_snapshot_pb2.InstanceSnapshot


def create(cloud: Cloud, instance_id: str, name: str = "") -> pb.CreateInstanceSnapshotResponse:
    return cloud.instance_snapshots.CreateInstanceSnapshot(
        pb.CreateInstanceSnapshotRequest(instance_id=instance_id, name=name)
    )


def assert_nothing_is_left(cloud: Cloud, instance_id: str, *disk_ids: str, snapshots_before: int = 0) -> None:
    assert not cloud.instance_snapshots_of(instance_id)
    assert not cloud.instance(instance_id).operation_id
    for disk_id in disk_ids:
        assert not cloud.disk(disk_id).operation_id
        assert len(cloud.snapshots_of(disk_id=disk_id)) == snapshots_before


class TestCreateInstanceSnapshot:
    def test_answers_when_the_moment_is_fixed_and_is_available_when_its_operation_has_ended(
        self, cloud: Cloud
    ):
        machine, name = cloud.an_instance(data_disks=3), a_name("whole")
        answer = create(cloud, machine.id, name)
        snapshot = answer.instance_snapshot
        assert snapshot.HasField("cut_time")
        assert snapshot.state == State.STATE_CREATING
        assert snapshot.operation_id == answer.operation_id
        assert (snapshot.name, snapshot.account_id, snapshot.instance_id) == (name, ACCOUNT, machine.id)
        cloud.finish(answer.operation_id)
        done = cloud.instance_snapshot(snapshot.id)
        assert (done.state, done.operation_id, done.state_reason) == (State.STATE_AVAILABLE, "", "")
        assert (done.cut_time, done.members) == (snapshot.cut_time, snapshot.members)
        assert not cloud.instance(machine.id).operation_id
        cloud.stop(machine.id)

    def test_has_every_disk_of_the_instance_as_a_member_with_one_moment_the_system_disk_first(
        self, cloud: Cloud
    ):
        machine = cloud.an_instance(data_disks=3)
        whole = cloud.an_instance_snapshot(machine.id)
        assert [member.disk_id for member in whole.members] == machine.disk_ids
        assert [member.is_system_disk for member in whole.members] == [True, False, False, False]
        for member in whole.members:
            snapshot, disk = cloud.disk_snapshot(member.snapshot_id), cloud.disk(member.disk_id)
            assert (member.disk_name, member.size_bytes) == (disk.name, disk.size_bytes)
            assert snapshot.disk_id == member.disk_id
            assert snapshot.instance_snapshot_id == whole.id
            assert snapshot.state == disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE
            assert snapshot.kind == disk_snapshot_pb2.DiskSnapshot.KIND_MANUAL
            assert snapshot.cut_time == whole.cut_time
            assert disk.manual_snapshots.used == 1

    def test_leaves_out_disks_that_are_on_no_instance_or_on_another(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        detached, stays = machine.data_disk_ids
        cloud.detach(machine.id, detached)
        cloud.an_instance(data_disks=1)
        whole = cloud.an_instance_snapshot(machine.id)
        assert [member.disk_id for member in whole.members] == [machine.system_disk_id, stays]

    @pytest.mark.parametrize("no_charge", [False, True])
    def test_takes_a_snapshot_of_a_stopped_instance(self, cloud: Cloud, no_charge: bool):
        machine = cloud.an_instance(data_disks=1)
        cloud.instances.StopInstance(
            instance_service_pb2.StopInstanceRequest(instance_id=machine.id, no_charge=no_charge)
        )
        assert len(cloud.an_instance_snapshot(machine.id).members) == 2

    def test_holds_what_the_disks_held_at_the_moment(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (100, disk_id.encode()))
        whole = cloud.an_instance_snapshot(machine.id)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (100, b"x" * 40))
        for member in whole.members:
            assert cloud.read(member.snapshot_id, 100, len(member.disk_id)) == member.disk_id.encode()

    def test_makes_a_name_from_the_instances_name_when_none_is_given(self, cloud: Cloud):
        machine = cloud.an_instance(name=f"{a_name('long'):n<65}")
        name = create(cloud, machine.id).instance_snapshot.name
        assert name.startswith(machine.name[:40])
        assert len(name) <= 65

    def test_lists_its_members_among_the_snapshots_of_each_disk_as_soon_as_it_is_answered(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        answer = create(cloud, machine.id)
        for member in answer.instance_snapshot.members:
            [listed] = cloud.snapshots_of(disk_id=member.disk_id)
            assert (listed.id, listed.instance_snapshot_id) == (
                member.snapshot_id,
                answer.instance_snapshot.id,
            )
        cloud.finish(answer.operation_id)

    @pytest.mark.parametrize("name", ["n" * 66, " x", "a\nb", "\x00"])
    def test_fails_when_the_name_is_malformed(self, cloud: Cloud, name: str):
        with invalid("name"):
            create(cloud, cloud.an_instance().id, name)

    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(self, cloud: Cloud):
        with invalid("request_id", "source", "name"):
            cloud.instance_snapshots.CreateInstanceSnapshot(
                pb.CreateInstanceSnapshotRequest(request_id="1", name="n" * 66)
            )

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("i")
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE) as refusal:
            create(cloud, unknown)
        assert refusal.metadata == {"instance_id": unknown}
        assert not cloud.instance_snapshots_of(unknown)

    def test_fails_when_the_account_is_in_debt(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        with cloud.account_in_debt(), refused("FAILED_PRECONDITION", "ACCOUNT_IN_DEBT", COMPUTE) as refusal:
            create(cloud, machine.id)
        assert refusal.metadata == {"account_id": ACCOUNT}
        assert refusal.violations == [("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}")]
        assert_nothing_is_left(cloud, machine.id, *machine.disk_ids)
        cloud.an_instance_snapshot(machine.id)

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.leased(machine.id) as operation_id:
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE) as refusal:
                create(cloud, machine.id)
            assert cloud.instance(machine.id).operation_id == operation_id
        assert refusal.metadata == {"instance_id": machine.id, "operation_id": operation_id}
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_fails_when_a_disk_has_a_task(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                create(cloud, machine.id)
        assert refusal.metadata["disk_id"] == machine.system_disk_id
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_fails_when_several_disks_have_tasks_and_names_each(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=3)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                create(cloud, machine.id)
        assert sorted(refusal.violations) == sorted(
            ("DISK_BUSY", f"disk/{disk_id}") for disk_id in machine.disk_ids
        )
        assert_nothing_is_left(cloud, machine.id, *machine.disk_ids)

    def test_fails_when_a_disk_has_no_free_slot_and_touches_none_of_them(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        [full] = machine.data_disk_ids
        cloud.fill_snapshot_slots(full)
        limit = cloud.disk(full).manual_snapshots.limit
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK) as refusal:
            create(cloud, machine.id)
        assert refusal.quotas.keys() == {f"disk/{full}"}
        assert refusal.quotas[f"disk/{full}"].quota_value == limit
        assert f"{limit} of {limit}" in refusal.quotas[f"disk/{full}"].description
        assert not refusal.violations
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)
        assert cloud.disk(full).manual_snapshots.used == limit

    def test_fails_when_several_disks_have_no_free_slot_and_names_each_with_its_limit_and_its_use(
        self, cloud: Cloud
    ):
        machine = cloud.an_instance(data_disks=2)
        limit = cloud.disk(machine.system_disk_id).manual_snapshots.limit
        for disk_id in machine.data_disk_ids:
            cloud.fill_snapshot_slots(disk_id)
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK) as refusal:
            create(cloud, machine.id)
        assert refusal.quotas.keys() == {f"disk/{disk_id}" for disk_id in machine.data_disk_ids}
        for full in refusal.quotas.values():
            assert (full.quota_metric, full.quota_value) == ("manual_snapshots_per_disk", limit)
            assert f"{limit} of {limit} manual snapshots" in full.description
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_takes_the_last_free_slot_and_then_fails(self, cloud: Cloud):
        machine = cloud.an_instance()
        limit = cloud.disk(machine.system_disk_id).manual_snapshots.limit
        wholes = [cloud.an_instance_snapshot(machine.id) for _ in range(limit)]
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK):
            create(cloud, machine.id)
        cloud.delete_instance_snapshot(wholes[0].id)
        cloud.an_instance_snapshot(machine.id)

    def test_fails_for_everything_at_once_in_one_answer(self, cloud: Cloud, inside: Inside):
        """The account in debt, the instance held, one disk with a task, another one full."""
        machine = cloud.an_instance(data_disks=2)
        full, busy = machine.data_disk_ids
        taken = cloud.fill_snapshot_slots(full)
        target = (busy, cloud.a_disk_snapshot(busy))
        with (
            cloud.account_in_debt(),
            inside.leased(machine.id),
            inside.rolling_back(target, instance_id=machine.id),
        ):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                create(cloud, machine.id)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            ("DISK_BUSY", f"disk/{busy}"),
            ("INSTANCE_BUSY", f"instance/{machine.id}"),
        ]
        assert refusal.quotas.keys() == {f"disk/{full}"}
        assert refusal.quotas[f"disk/{full}"].quota_value == len(taken)
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_fails_for_the_account_and_a_full_disk_in_one_answer(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.fill_snapshot_slots(machine.system_disk_id)
        with cloud.account_in_debt():
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                create(cloud, machine.id)
        assert refusal.violations == [("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}")]
        assert refusal.quotas.keys() == {f"disk/{machine.system_disk_id}"}

    def test_names_each_of_65_busy_disks(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=64)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                create(cloud, machine.id)
        assert {subject for _, subject in refusal.violations} == {
            f"disk/{disk_id}" for disk_id in machine.disk_ids
        }

    def test_leaves_the_refused_operation_to_be_looked_up_with_its_reason(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.fill_snapshot_slots(machine.system_disk_id)
        with refused("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED", DISK):
            create(cloud, machine.id)
        newest, *_ = (
            cloud.operations[Service.SNAPSHOT]
            .ListOperations(operation_service_pb2.ListOperationsRequest(page_size=1))
            .operations
        )
        assert newest.kind == "create_instance_snapshot"
        assert newest.error.reason == "SNAPSHOT_QUOTA_EXCEEDED"


def create_from_disk(cloud: Cloud, disk_id: str, **arguments: Any) -> pb.CreateInstanceSnapshotResponse:
    request = pb.CreateInstanceSnapshotRequest(disk_id=disk_id, **arguments)
    return cloud.instance_snapshots.CreateInstanceSnapshot(request)


class TestCreateInstanceSnapshotFromADisk:
    @pytest.mark.parametrize("which", [0, 2], ids=["system disk", "data disk"])
    def test_takes_every_disk_of_the_instance_that_it_is_on(self, cloud: Cloud, which: int):
        machine = cloud.an_instance(data_disks=2)
        answer = create_from_disk(cloud, machine.disk_ids[which])
        whole = answer.instance_snapshot
        assert whole.instance_id == machine.id
        assert whole.name.startswith(f"{machine.name}-")
        assert [member.disk_id for member in whole.members] == machine.disk_ids
        operation = cloud.finish(answer.operation_id)
        assert operation.kind == "create_instance_snapshot_from_disk"
        done = cloud.instance_snapshot(whole.id)
        assert (done.state, done.members) == (State.STATE_AVAILABLE, whole.members)
        assert list(cloud.instance_snapshots_of(machine.id)) == [done]
        cloud.stop(machine.id)
        cloud.roll_back(whole.id)

    def test_takes_the_instance_that_it_is_on_now(self, cloud: Cloud):
        before, now = cloud.an_instance(data_disks=1), cloud.an_instance()
        [disk_id] = before.data_disk_ids
        cloud.detach(before.id, disk_id)
        cloud.attach(now.id, disk_id)
        answer = create_from_disk(cloud, disk_id, name=a_name("whole"))
        cloud.finish(answer.operation_id)
        assert answer.instance_snapshot.instance_id == now.id
        assert not cloud.instance_snapshots_of(before.id)

    def test_the_same_request_again_gets_the_first_answer_also_when_the_disk_was_moved(self, cloud: Cloud):
        machine, request_id = cloud.an_instance(data_disks=1), a_request_id()
        [disk_id] = machine.data_disk_ids
        answer = create_from_disk(cloud, disk_id, request_id=request_id)
        cloud.finish(answer.operation_id)
        cloud.detach(machine.id, disk_id)
        assert create_from_disk(cloud, disk_id, request_id=request_id) == answer
        with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
            create_from_disk(cloud, machine.system_disk_id, request_id=request_id)

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud, validate_only: bool):
        unknown = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            create_from_disk(cloud, unknown, validate_only=validate_only)
        assert refusal.metadata == {"disk_id": unknown}

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_the_disk_is_on_no_instance(self, cloud: Cloud, validate_only: bool):
        disk_id = cloud.a_disk()
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            create_from_disk(cloud, disk_id, validate_only=validate_only)
        assert refusal.metadata == {"disk_id": disk_id, "state": "DETACHED"}
        assert not cloud.snapshots_of(disk_id=disk_id)

    def test_fails_when_the_disk_is_on_no_instance_and_has_a_task_and_says_both(
        self, cloud: Cloud, inside: Inside
    ):
        disk_id = cloud.a_disk()
        with inside.rolling_back((disk_id, cloud.a_disk_snapshot(disk_id))):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                create_from_disk(cloud, disk_id)
        assert [kind for kind, _ in refusal.violations] == ["DISK_BUSY", "DISK_STATE"]

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_for_everything_at_once_in_one_answer(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        """The account in debt, the instance held, another disk of it full."""
        machine = cloud.an_instance(data_disks=1)
        cloud.fill_snapshot_slots(machine.data_disk_ids[0])
        with cloud.account_in_debt(), inside.leased(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                create_from_disk(cloud, machine.system_disk_id, validate_only=validate_only)
        assert {kind for kind, _ in refusal.violations} == {"ACCOUNT_IN_DEBT", "INSTANCE_BUSY"}
        assert refusal.quotas.keys() == {f"disk/{machine.data_disk_ids[0]}"}
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_fails_when_a_disk_has_a_task_and_leaves_nothing(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id), refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
            create_from_disk(cloud, machine.system_disk_id)
        assert_nothing_is_left(cloud, machine.id, machine.system_disk_id)

    def test_validating_answers_what_would_be_cut(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        answer = create_from_disk(cloud, machine.data_disk_ids[0], validate_only=True)
        assert answer.instance_snapshot.instance_id == machine.id
        assert [member.disk_id for member in answer.instance_snapshot.members] == machine.disk_ids
        assert_nothing_is_left(cloud, machine.id, *machine.disk_ids)

    def test_fails_when_the_id_is_malformed(self, cloud: Cloud):
        with invalid("disk_id"):
            create_from_disk(cloud, "No Id")

    def test_leaves_nothing_when_disk_svc_is_not_there_and_may_be_tried_again(self, troubled: TroubledCloud):
        machine, request_id = troubled.an_instance(), a_request_id()
        with troubled.without(Service.DISK), refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"):
            create_from_disk(troubled, machine.system_disk_id, request_id=request_id)
        assert_nothing_is_left(troubled, machine.id, machine.system_disk_id)
        answer = create_from_disk(troubled, machine.system_disk_id, request_id=request_id)
        troubled.finish(answer.operation_id)


class TestGetInstanceSnapshot:
    def test_fails_when_the_instance_snapshot_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("isnap")
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT) as refusal:
            cloud.instance_snapshot(unknown)
        assert refusal.metadata == {"instance_snapshot_id": unknown}

    @pytest.mark.parametrize("malformed", ["", "Isnap", "isnap 1"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("instance_snapshot_id"):
            cloud.instance_snapshot(malformed)


class TestListInstanceSnapshots:
    def test_lists_newest_first_with_members_and_narrows_by_instance_and_state(self, cloud: Cloud):
        machine, other = cloud.an_instance(data_disks=1), cloud.an_instance()
        taken = [cloud.an_instance_snapshot(machine.id) for _ in range(3)]
        cloud.an_instance_snapshot(other.id)
        assert list(cloud.instance_snapshots_of(machine.id)) == taken[::-1]
        for state, found in ((State.STATE_AVAILABLE, taken[::-1]), (State.STATE_ERROR, [])):
            request = pb.ListInstanceSnapshotsRequest(
                filter=pb.ListInstanceSnapshotsRequest.Filter(instance_id=machine.id, state=state)
            )
            listed = cloud.instance_snapshots.ListInstanceSnapshots(request).instance_snapshots
            assert list(listed) == found

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListInstanceSnapshotsRequest(page_size=-1), "page_size"),
            (
                pb.ListInstanceSnapshotsRequest(
                    filter=pb.ListInstanceSnapshotsRequest.Filter(instance_id="No Id")
                ),
                "filter.instance_id",
            ),
        ],
    )
    def test_fails_when_page_size_is_negative_or_a_filter_value_malformed(
        self, cloud: Cloud, request_: pb.ListInstanceSnapshotsRequest, field: str
    ):
        with invalid(field):
            cloud.instance_snapshots.ListInstanceSnapshots(request_)


def test_the_disks_of_an_instance_are_in_use_also_while_it_is_stopped(cloud: Cloud):
    """spec.md: the system disk must be "Running" and data disks "Mounted": both are, on a stopped instance too."""
    machine = cloud.an_instance(data_disks=1, stopped=True, size_bytes=2 * MIB)
    states = [cloud.disk(disk_id).state for disk_id in machine.disk_ids]
    assert states == [disk_pb2.Disk.STATE_RUNNING, disk_pb2.Disk.STATE_MOUNTED]
