"""RollbackInstanceSnapshot with `disk_ids`: some members go back, and nobody asks or touches the others."""

from collections.abc import Sequence

import pytest

from stillpoint.disk.v1 import disk_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, Cloud, Machine, a_request_id, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud

State = instance_snapshot_pb2.InstanceSnapshot


def roll_back(
    cloud: Cloud,
    instance_snapshot_id: str,
    disk_ids: Sequence[str],
    *,
    request_id: str = "",
    validate_only: bool = False,
) -> pb.RollbackInstanceSnapshotResponse:
    return cloud.instance_snapshots.RollbackInstanceSnapshot(
        pb.RollbackInstanceSnapshotRequest(
            request_id=request_id,
            instance_snapshot_id=instance_snapshot_id,
            disk_ids=disk_ids,
            validate_only=validate_only,
        )
    )


def a_machine_with_a_past(
    cloud: Cloud, *, data_disks: int = 2, stopped: bool = True
) -> tuple[Machine, instance_snapshot_pb2.InstanceSnapshot]:
    """Every disk of it reads `then` in the snapshot and `now!` today."""
    machine = cloud.an_instance(data_disks=data_disks, stopped=stopped)
    for disk_id in machine.disk_ids:
        cloud.write(disk_id, (0, b"then"))
    whole = cloud.an_instance_snapshot(machine.id)
    for disk_id in machine.disk_ids:
        cloud.write(disk_id, (0, b"now!"))
    return machine, whole


def words(cloud: Cloud, disk_ids: Sequence[str]) -> list[bytes]:
    return [cloud.read(disk_id, 0, 4) for disk_id in disk_ids]


class TestRollingBackSomeMembers:
    def test_brings_these_disks_back_leaves_the_others_and_names_those_on_the_instance(self, cloud: Cloud):
        machine, whole = a_machine_with_a_past(cloud)
        left, rolled = machine.data_disk_ids
        later = cloud.a_disk()
        cloud.attach(machine.id, later)
        answer = roll_back(cloud, whole.id, [machine.system_disk_id, rolled])
        assert answer.instance_snapshot.state == State.STATE_ROLLING_BACK
        assert sorted(answer.untouched_disk_ids) == sorted([left, later])
        cloud.finish(answer.operation_id)
        assert words(cloud, [machine.system_disk_id, left, rolled]) == [b"then", b"now!", b"then"]
        now = cloud.instance_snapshot(whole.id)
        assert (now.state, now.operation_id, now.members) == (State.STATE_AVAILABLE, "", whole.members)
        cloud.start(machine.id)

    def test_rolls_back_a_detached_disk_alone_and_names_no_disk_that_is_not_on_the_instance(
        self, cloud: Cloud
    ):
        machine, whole = a_machine_with_a_past(cloud)
        rolled, detached = machine.data_disk_ids
        for disk_id in (rolled, detached):
            cloud.detach(machine.id, disk_id)
        answer = roll_back(cloud, whole.id, [rolled])
        assert list(answer.untouched_disk_ids) == [machine.system_disk_id]
        cloud.finish(answer.operation_id)
        assert words(cloud, machine.disk_ids) == [b"now!", b"then", b"now!"]
        assert cloud.disk(rolled).state == disk_pb2.Disk.STATE_DETACHED

    def test_does_not_ask_about_the_others_which_may_be_deleted_mounted_elsewhere_or_busy(
        self, cloud: Cloud, inside: Inside
    ):
        machine, whole = a_machine_with_a_past(cloud, data_disks=3)
        other = cloud.an_instance()
        deleted, elsewhere, busy = machine.data_disk_ids
        for disk_id in (deleted, elsewhere):
            cloud.detach(machine.id, disk_id)
        cloud.delete_disk(deleted)
        cloud.attach(other.id, elsewhere)
        [snapshot_of_busy] = [member.snapshot_id for member in whole.members if member.disk_id == busy]
        with inside.rolling_back((busy, snapshot_of_busy), instance_id=machine.id):
            validated = roll_back(cloud, whole.id, [machine.system_disk_id], validate_only=True)
            answer = roll_back(cloud, whole.id, [machine.system_disk_id])
            cloud.finish(answer.operation_id)
            assert validated.untouched_disk_ids == answer.untouched_disk_ids == [busy]
        assert words(cloud, [machine.system_disk_id, elsewhere, busy]) == [b"then", b"now!", b"now!"]

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_for_account_instance_lease_and_each_of_these_disks_at_once_and_for_no_other_disk(
        self, cloud: Cloud, inside: Inside, validate_only: bool
    ):
        machine, whole = a_machine_with_a_past(cloud, data_disks=4, stopped=False)
        other = cloud.an_instance()
        deleted, elsewhere, busy, left_out = machine.data_disk_ids
        for disk_id in (deleted, elsewhere, left_out):
            cloud.detach(machine.id, disk_id)
        cloud.delete_disk(deleted)
        for disk_id in (elsewhere, left_out):
            cloud.attach(other.id, disk_id)
        [snapshot_of_busy] = [member.snapshot_id for member in whole.members if member.disk_id == busy]
        with (
            cloud.account_in_debt(),
            inside.leased(machine.id),
            inside.rolling_back((busy, snapshot_of_busy), instance_id=machine.id),
        ):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                roll_back(cloud, whole.id, [busy, deleted, elsewhere], validate_only=validate_only)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            ("DISK_BUSY", f"disk/{busy}"),
            ("DISK_NOT_FOUND", f"disk/{deleted}"),
            ("DISK_STATE", f"disk/{elsewhere}"),
            ("INSTANCE_BUSY", f"instance/{machine.id}"),
            ("INSTANCE_STATE", f"instance/{machine.id}"),
        ]
        now = cloud.instance_snapshot(whole.id)
        assert (now.state, now.operation_id) == (State.STATE_AVAILABLE, "")

    def test_fails_when_its_instance_was_deleted_and_its_data_disks_go_back_by_themselves(self, cloud: Cloud):
        machine, whole = a_machine_with_a_past(cloud)
        cloud.delete_instance(machine.id)
        for validate_only in (True, False):
            with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
                roll_back(cloud, whole.id, machine.data_disk_ids, validate_only=validate_only)
        for member in whole.members:
            if not member.is_system_disk:
                cloud.roll_back_disk(member.disk_id, member.snapshot_id)
        assert words(cloud, machine.data_disk_ids) == [b"then", b"then"]

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_disks_are_no_members_and_names_each_of_them(self, cloud: Cloud, validate_only: bool):
        machine, whole = a_machine_with_a_past(cloud, data_disks=0)
        later, unknown = cloud.a_disk(), an_unknown_id("disk")
        cloud.attach(machine.id, later)
        with invalid("disk_ids") as refusal:
            roll_back(
                cloud, whole.id, [later, machine.system_disk_id, unknown, ""], validate_only=validate_only
            )
        assert later in refusal.message
        assert unknown in refusal.message
        assert machine.system_disk_id not in refusal.message
        assert cloud.instance_snapshot(whole.id) == whole
        assert words(cloud, [machine.system_disk_id]) == [b"now!"]

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_disks_are_named_twice_and_names_each_of_them(self, cloud: Cloud, validate_only: bool):
        machine, whole = a_machine_with_a_past(cloud)
        once, *twice = machine.disk_ids
        with invalid("disk_ids", "request_id") as refusal:
            roll_back(
                cloud, whole.id, [*twice, once, *twice], request_id="no uuid", validate_only=validate_only
            )
        assert all(disk_id in refusal.message for disk_id in twice)
        assert once not in refusal.message

    def test_a_thousand_ids_that_are_nothing_still_get_an_answer(self, cloud: Cloud):
        _, whole = a_machine_with_a_past(cloud, data_disks=0)
        with invalid("disk_ids"):
            roll_back(cloud, whole.id, [an_unknown_id("disk") for _ in range(1000)])

    def test_a_request_id_is_not_for_other_disks(self, cloud: Cloud):
        machine, whole = a_machine_with_a_past(cloud)
        request_id = a_request_id()
        answer = roll_back(cloud, whole.id, machine.data_disk_ids[:1], request_id=request_id)
        cloud.finish(answer.operation_id)
        assert roll_back(cloud, whole.id, machine.data_disk_ids[:1], request_id=request_id) == answer
        for others in ([], machine.data_disk_ids):
            with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
                roll_back(cloud, whole.id, others, request_id=request_id)
        assert words(cloud, machine.disk_ids) == [b"now!", b"then", b"now!"]


def a_rollback_that_ended_half_done(
    troubled: TroubledCloud, *, only: int | None = None
) -> tuple[Machine, instance_snapshot_pb2.InstanceSnapshot]:
    machine, whole = a_machine_with_a_past(troubled, data_disks=1)
    disk_ids = [] if only is None else machine.disk_ids[only : only + 1]
    with troubled.store_fails("restore", "lost"):
        troubled.finish(roll_back(troubled, whole.id, disk_ids).operation_id)
    failed = troubled.instance_snapshot(whole.id)
    assert failed.state == State.STATE_ERROR_ROLLBACK
    assert words(troubled, machine.disk_ids) == [b"now!"] * 2
    return machine, failed


def assert_does_not_start(troubled: TroubledCloud, machine: Machine) -> None:
    with refused("FAILED_PRECONDITION", "ROLLBACK_INCOMPLETE", COMPUTE):
        troubled.start(machine.id)


class TestAfterARollbackThatWasNotDoneWhole:
    @pytest.mark.parametrize("only", [None, 1], ids=["of all members", "of some members"])
    def test_some_members_go_back_but_only_all_of_them_let_the_instance_start(
        self, troubled: TroubledCloud, only: int | None
    ):
        machine, failed = a_rollback_that_ended_half_done(troubled, only=only)
        assert_does_not_start(troubled, machine)
        for disk_id in machine.disk_ids:
            troubled.finish(roll_back(troubled, failed.id, [disk_id]).operation_id)
            now = troubled.instance_snapshot(failed.id)
            assert (now.state, now.state_reason) == (State.STATE_ERROR_ROLLBACK, failed.state_reason)
        assert words(troubled, machine.disk_ids) == [b"then"] * 2
        assert_does_not_start(troubled, machine)
        troubled.finish(roll_back(troubled, failed.id, machine.disk_ids).operation_id)
        mended = troubled.instance_snapshot(failed.id)
        assert (mended.state, mended.state_reason) == (State.STATE_AVAILABLE, "")
        troubled.start(machine.id)

    def test_some_members_of_another_snapshot_do_not_let_it_start_and_all_of_them_do(
        self, troubled: TroubledCloud
    ):
        machine, _ = a_rollback_that_ended_half_done(troubled)
        another = troubled.an_instance_snapshot(machine.id)
        troubled.finish(roll_back(troubled, another.id, machine.data_disk_ids).operation_id)
        assert troubled.instance_snapshot(another.id).state == State.STATE_AVAILABLE
        assert_does_not_start(troubled, machine)
        troubled.roll_back(another.id)
        troubled.start(machine.id)


def test_a_snapshot_whose_bytes_are_lost_is_not_rolled_back_to_and_no_disk_is_changed(
    troubled: TroubledCloud,
):
    machine, whole = a_machine_with_a_past(troubled, data_disks=1)
    for disk_ids in ([], machine.data_disk_ids):
        with troubled.store_fails("seal", "lost"), refused("DATA_LOSS", "DATA_LOSS", DISK) as refusal:
            roll_back(troubled, whole.id, disk_ids)
        assert refusal.metadata["object_id"] in {member.snapshot_id for member in whole.members}
    now = troubled.instance_snapshot(whole.id)
    assert (now.state, now.operation_id) == (State.STATE_AVAILABLE, "")
    assert words(troubled, machine.disk_ids) == [b"now!"] * 2
    troubled.start(machine.id)
