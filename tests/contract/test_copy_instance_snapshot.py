"""CopyInstanceSnapshot of stillpoint.snapshot.v1.InstanceSnapshotService: from one region to another, NORTH to SOUTH."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_snapshot_pb2, disk_snapshot_service_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk_participant_pb2
from stillpoint.operation.v1 import operation_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import Channels, examine
from tests.contract.cloud import MIB, Cloud, Machine, a_name, a_request_id, an_unknown_id
from tests.contract.conftest import TwoRegions
from tests.contract.error_tables import COMMON, DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud
from tests.support.regions import NORTH, SOUTH
from tests.support.waiting import eventually

State = instance_snapshot_pb2.InstanceSnapshot


def copy(
    cloud: Cloud,
    instance_snapshot_id: str,
    *,
    to: str = SOUTH,
    name: str = "",
    request_id: str = "",
) -> pb.CopyInstanceSnapshotResponse:
    return cloud.instance_snapshots.CopyInstanceSnapshot(
        pb.CopyInstanceSnapshotRequest(
            request_id=request_id,
            instance_snapshot_id=instance_snapshot_id,
            destination_region=to,
            name=name,
        )
    )


def finished_copy(
    cloud: Cloud, there: Cloud, instance_snapshot_id: str, *, to: str = SOUTH
) -> instance_snapshot_pb2.InstanceSnapshot:
    answer = copy(cloud, instance_snapshot_id, to=to)
    cloud.finish(answer.operation_id)
    return there.instance_snapshot(answer.copy_instance_snapshot_id)


def a_filled_machine(cloud: Cloud, word: bytes = b"north") -> Machine:
    machine = cloud.an_instance(data_disks=2)
    for number, disk_id in enumerate(machine.disk_ids):
        cloud.write(disk_id, (4096 * number, b"%s %d" % (word, number)), (MIB - 4096, word))
    return machine


@contextmanager
def under_way(
    regions: TwoRegions, instance_snapshot_id: str
) -> Iterator[tuple[instance_snapshot_pb2.InstanceSnapshot, str]]:
    """A copy that cannot end before the block does, because the store there does not cut: it and its operation."""
    with regions.south.store_fails("cut", "broken"):
        answer = copy(regions.north, instance_snapshot_id)
        yield regions.south.instance_snapshot(answer.copy_instance_snapshot_id), answer.operation_id
    regions.north.finish(answer.operation_id)


def nothing_is_wrong(cloud: Cloud) -> None:
    with (
        grpc.insecure_channel(cloud.addresses.compute.internal) as compute_internal,
        grpc.insecure_channel(cloud.addresses.disk.internal) as disk_internal,
    ):
        channels = Channels(
            compute=cloud.channels[Service.COMPUTE],
            compute_internal=compute_internal,
            disk=cloud.channels[Service.DISK],
            disk_internal=disk_internal,
            snapshot=cloud.channels[Service.SNAPSHOT],
        )
        for result in examine(channels):
            assert (result.findings, result.not_asked) == ((), "")


class TestWhatIsCopied:
    def test_it_is_listed_there_as_creating_and_then_available_with_all_its_members(
        self, regions: TwoRegions
    ):
        whole = regions.north.an_instance_snapshot(a_filled_machine(regions.north).id)
        with under_way(regions, whole.id) as (begun, operation_id):
            assert (begun.state, begun.operation_id) == (State.STATE_CREATING, operation_id)
            assert regions.south.instance_snapshots_of(whole.instance_id) == [begun]
            # Both know that a copy is under way, and find nothing wrong with it.
            for cloud in (regions.north, regions.south):
                nothing_is_wrong(cloud)
        copied = regions.south.instance_snapshot(begun.id)
        assert (copied.state, copied.operation_id) == (State.STATE_AVAILABLE, "")
        assert (copied.name, copied.cut_time, copied.instance_id) == (
            whole.name,
            whole.cut_time,
            whole.instance_id,
        )
        assert (copied.region, copied.source_region, copied.source_instance_snapshot_id) == (
            SOUTH,
            NORTH,
            whole.id,
        )
        assert [(m.disk_id, m.disk_name, m.is_system_disk, m.size_bytes) for m in copied.members] == [
            (m.disk_id, m.disk_name, m.is_system_disk, m.size_bytes) for m in whole.members
        ]
        members = {each.id: each for each in regions.south.snapshots_of(instance_snapshot_id=copied.id)}
        assert list(copied.members) == list(begun.members)
        assert members.keys() == {member.snapshot_id for member in copied.members}
        for mine, theirs in zip(copied.members, whole.members, strict=True):
            listed = members[mine.snapshot_id]
            assert listed.state == disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE
            assert (listed.source_region, listed.source_snapshot_id) == (NORTH, theirs.snapshot_id)
            assert listed.cut_time == whole.cut_time
        assert regions.north.instance_snapshot(whole.id) == whole

    def test_a_new_instance_made_of_its_members_has_every_byte(self, regions: TwoRegions):
        machine = a_filled_machine(regions.north)
        whole = regions.north.an_instance_snapshot(machine.id)
        content = [regions.north.read(member.snapshot_id) for member in whole.members]
        for disk_id in machine.disk_ids:
            regions.north.write(disk_id, (0, b"written after the moment"))
        copied = finished_copy(regions.north, regions.south, whole.id)
        system, *data = (
            instance_service_pb2.NewDisk(source_snapshot_id=member.snapshot_id) for member in copied.members
        )
        made = regions.south.instances.CreateInstance(
            instance_service_pb2.CreateInstanceRequest(
                name=a_name("moved"), system_disk=system, data_disks=data
            )
        )
        disks = [made.instance.system_disk_id, *made.data_disk_ids]
        assert [regions.south.read(disk_id) for disk_id in disks] == content

    def test_the_copy_and_what_it_was_copied_from_are_independent(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(a_filled_machine(regions.north).id)
        content = [regions.north.read(member.snapshot_id) for member in whole.members]
        first, second = (finished_copy(regions.north, regions.south, whole.id) for _ in range(2))
        regions.north.delete_instance_snapshot(whole.id)
        regions.south.delete_instance_snapshot(first.id)
        assert not regions.south.snapshots_of(instance_snapshot_id=first.id)
        assert regions.south.instance_snapshot(second.id) == second
        assert [regions.south.read(member.snapshot_id) for member in second.members] == content

    def test_a_member_of_the_copy_is_not_deleted_alone(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        [member] = finished_copy(regions.north, regions.south, whole.id).members
        with refused("FAILED_PRECONDITION", "MEMBER_OF_INSTANCE_SNAPSHOT", DISK):
            regions.south.disk_snapshots.DeleteDiskSnapshot(
                disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(snapshot_id=member.snapshot_id)
            )

    def test_a_copy_can_be_copied_in_turn_also_back(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(a_filled_machine(regions.north).id)
        copied = finished_copy(regions.north, regions.south, whole.id)
        again = finished_copy(regions.south, regions.north, copied.id, to=NORTH)
        assert (again.source_region, again.source_instance_snapshot_id) == (SOUTH, copied.id)
        assert [regions.north.read(member.snapshot_id) for member in again.members] == [
            regions.north.read(member.snapshot_id) for member in whole.members
        ]

    def test_it_has_the_name_that_was_asked_for(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        answer = copy(regions.north, whole.id, name="the-copys-own")
        regions.north.finish(answer.operation_id)
        copied = regions.south.instance_snapshot(answer.copy_instance_snapshot_id)
        assert copied.name == "the-copys-own"
        assert regions.south.disk_snapshot(copied.members[0].snapshot_id).name == "the-copys-own"

    def test_the_operation_shows_how_far_it_is(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(a_filled_machine(regions.north).id)
        operation = regions.north.finish(copy(regions.north, whole.id).operation_id)
        assert (operation.kind, operation.resource_id) == ("copy_instance_snapshot", whole.id)
        assert operation.progress.completed_bytes == operation.progress.total_bytes == 3 * MIB
        assert 0 < operation.progress.sent_bytes < 3 * MIB
        events = regions.north.events_of(Service.SNAPSHOT, whole.id)
        steps = ["accepted", "begin", "start", "copy", "finish", "succeeded"]
        assert events[-6:] == [f"copy_instance_snapshot/{step}" for step in steps]


class TestWhenItMayBeCopied:
    def test_while_it_is_rolled_back_and_after_a_rollback_that_failed(self, regions: TwoRegions):
        machine = regions.north.an_instance(stopped=True)
        whole = regions.north.an_instance_snapshot(machine.id)
        request = pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=whole.id)
        with regions.north.store_fails("restore", "broken"):
            rollback = regions.north.instance_snapshots.RollbackInstanceSnapshot(request)
            assert regions.north.instance_snapshot(whole.id).state == State.STATE_ROLLING_BACK
            finished_copy(regions.north, regions.south, whole.id)
        regions.north.finish(rollback.operation_id)
        with regions.north.store_fails("restore", "lost"):
            regions.north.roll_back(whole.id)
        assert regions.north.instance_snapshot(whole.id).state == State.STATE_ERROR_ROLLBACK
        finished_copy(regions.north, regions.south, whole.id)

    def test_not_before_it_is_available(self, regions: TwoRegions):
        machine = regions.north.an_instance()
        with regions.north.store_fails("seal", "broken"):
            answer = regions.north.instance_snapshots.CreateInstanceSnapshot(
                pb.CreateInstanceSnapshotRequest(instance_id=machine.id)
            )
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                copy(regions.north, answer.instance_snapshot.id)
        assert refusal.metadata == {
            "instance_snapshot_id": answer.instance_snapshot.id,
            "state": "CREATING",
            "operation_id": answer.operation_id,
        }
        regions.north.rest(answer.operation_id)

    def test_not_when_its_creation_failed(self, regions: TwoRegions):
        machine = regions.north.an_instance()
        with regions.north.store_fails("seal", "lost"):
            answer = regions.north.instance_snapshots.CreateInstanceSnapshot(
                pb.CreateInstanceSnapshotRequest(instance_id=machine.id)
            )
            regions.north.rest(answer.operation_id)
        with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
            copy(regions.north, answer.instance_snapshot.id)
        assert refusal.metadata["state"] == "ERROR"

    def test_not_while_it_is_deleted(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        with regions.north.store_fails("delete_snapshots", "broken"):
            deletion = regions.north.instance_snapshots.DeleteInstanceSnapshot(
                pb.DeleteInstanceSnapshotRequest(instance_snapshot_id=whole.id)
            )
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                copy(regions.north, whole.id)
        assert refusal.metadata["state"] == "DELETING"
        regions.north.finish(deletion.operation_id)

    @pytest.mark.parametrize(
        ("data_disks", "code", "reason"),
        [(0, "FAILED_PRECONDITION", "SNAPSHOT_STATE"), (1, "FAILED_PRECONDITION", "PRECONDITIONS")],
    )
    def test_not_when_its_deletion_has_begun_and_nothing_is_left_there(
        self, regions: TwoRegions, data_disks: int, code: str, reason: str
    ):
        """disk_svc has been asked to delete the members, and snapshot_svc has not had the answer yet."""
        whole = regions.north.an_instance_snapshot(regions.north.an_instance(data_disks=data_disks).id)
        inside = Inside(regions.north)
        request = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(request)
        with refused(code, reason, DISK) as refusal:
            copy(regions.north, whole.id)
        assert {kind for kind, _ in refusal.violations} == {"SNAPSHOT_STATE"}
        inside.disk.WithdrawSnapshotDeletion(
            disk_participant_pb2.WithdrawSnapshotDeletionRequest(key=request.key)
        )
        assert not regions.south.instance_snapshots_of(whole.instance_id)
        finished_copy(regions.north, regions.south, whole.id)

    def test_not_when_its_members_have_been_deleted(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        inside = Inside(regions.north)
        request = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(request)
        inside.disk.ApplySnapshotDeletion(disk_participant_pb2.ApplySnapshotDeletionRequest(key=request.key))
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            copy(regions.north, whole.id)
        assert not regions.south.instance_snapshots_of(whole.instance_id)
        regions.north.delete_instance_snapshot(whole.id)


class TestWhileItIsCopied:
    def test_it_is_not_deleted_and_the_copy_neither(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        with under_way(regions, whole.id) as (begun, operation_id):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK):
                regions.north.delete_instance_snapshot(whole.id)
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                regions.south.delete_instance_snapshot(begun.id)
        assert refusal.metadata["operation_id"] == operation_id
        regions.north.delete_instance_snapshot(whole.id)
        regions.south.delete_instance_snapshot(begun.id)

    def test_the_copy_is_never_rolled_back_to(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance(stopped=True).id)
        with under_way(regions, whole.id) as (begun, _):
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_COPIED", SNAPSHOT):
                regions.south.roll_back(begun.id)
        with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_COPIED", SNAPSHOT) as refusal:
            regions.south.roll_back(begun.id)
        assert refusal.violations == [("INSTANCE_SNAPSHOT_COPIED", f"instance_snapshot/{begun.id}")]
        regions.north.roll_back(whole.id)


class TestWhatIsAskedFor:
    def test_fails_when_the_instance_snapshot_is_not_there(self, regions: TwoRegions):
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            copy(regions.north, an_unknown_id("isnap"))

    def test_fails_when_the_region_is_not_known_and_names_those_that_are(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        with refused("NOT_FOUND", "REGION_NOT_FOUND", COMMON) as refusal:
            copy(regions.north, whole.id, to="east")
        assert refusal.metadata == {"region": "east", "known_regions": SOUTH}

    def test_fails_when_the_region_is_this_one(self, regions: TwoRegions):
        with invalid("destination_region"):
            copy(regions.north, an_unknown_id("isnap"), to=NORTH)

    def test_fails_when_fields_are_malformed_and_names_them(self, regions: TwoRegions):
        with invalid("instance_snapshot_id", "destination_region", "name"):
            copy(regions.north, "No Id", to="The South", name=" ")
        with invalid("instance_snapshot_id", "destination_region"):
            copy(regions.north, "", to="")


class TestWhenSomethingIsAway:
    def test_without_the_other_region_it_is_refused_in_time_and_nothing_is_left_in_either(
        self, regions: TwoRegions
    ):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        request_id = a_request_id()
        with regions.south.without(Service.SNAPSHOT):
            with refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE") as refusal:
                copy(regions.north, whole.id, request_id=request_id)
        operation = regions.north.rest(refusal.metadata["operation_id"])
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        assert not regions.south.instance_snapshots_of(whole.instance_id)
        answer = copy(regions.north, whole.id, request_id=request_id)
        assert answer.operation_id != operation.id
        regions.north.finish(answer.operation_id)
        for cloud in (regions.north, regions.south):
            nothing_is_wrong(cloud)

    def test_without_disk_svc_it_goes_on_and_the_same_request_finds_it(self, regions: TwoRegions):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        request_id = a_request_id()
        with regions.north.without(Service.DISK):
            with refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE") as refusal:
                copy(regions.north, whole.id, request_id=request_id)
        answer = copy(regions.north, whole.id, request_id=request_id)
        assert answer.operation_id == refusal.metadata["operation_id"]
        regions.north.finish(answer.operation_id)
        copied = regions.south.instance_snapshot(answer.copy_instance_snapshot_id)
        assert copied.state == State.STATE_AVAILABLE

    def test_without_the_other_disk_svc_it_fails_with_the_reason_and_nothing_is_left(
        self, regions: TwoRegions
    ):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance().id)
        with regions.south.without(Service.DISK):
            answer = copy(regions.north, whole.id)
            must_turn_back(regions.north, answer.operation_id)
        must_have_failed(regions, whole, answer, code=14, reason="DEPENDENCY_UNAVAILABLE")

    def test_when_the_store_there_is_full_it_fails_with_the_reason_and_nothing_is_left(
        self, regions: TwoRegions
    ):
        whole = regions.north.an_instance_snapshot(regions.north.an_instance(data_disks=1).id)
        with regions.south.store_fails("create_volume", "full"):
            answer = copy(regions.north, whole.id)
            regions.north.rest(answer.operation_id)
        must_have_failed(regions, whole, answer, code=8, reason="STORE_FULL")


def must_turn_back(cloud: TroubledCloud, operation_id: str) -> None:
    """disk_svc's own operation, which copies the members, has given up by now."""
    copies = cloud.operations[Service.DISK]
    request = operation_service_pb2.ListOperationsRequest(
        filter=operation_service_pb2.ListOperationsRequest.Filter(unfinished=True)
    )
    eventually(
        lambda: any(
            operation.state == operation_pb2.Operation.STATE_COMPENSATING
            for operation in copies.ListOperations(request).operations
        ),
        what=f"the turn of what {operation_id} waits for",
    )


def must_have_failed(
    regions: TwoRegions,
    whole: instance_snapshot_pb2.InstanceSnapshot,
    answer: pb.CopyInstanceSnapshotResponse,
    *,
    code: int,
    reason: str,
) -> None:
    operation = regions.north.rest(answer.operation_id)
    assert operation.state == operation_pb2.Operation.STATE_FAILED
    assert (operation.error.code, operation.error.reason) == (code, reason)
    assert not regions.south.instance_snapshots_of(whole.instance_id)
    assert not regions.south.snapshots_of(instance_snapshot_id=answer.copy_instance_snapshot_id)
    for cloud in (regions.north, regions.south):
        nothing_is_wrong(cloud)
    regions.north.delete_instance_snapshot(whole.id)
