"""AbandonOperation, at the service whose operation it is and at those that hold something for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2, disk_snapshot_pb2, disk_snapshot_service_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk
from stillpoint.operation.v1 import event_service_pb2, operation_pb2
from stillpoint.operation.v1 import operation_service_pb2 as pb
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb
from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud, a_request_id, an_unknown_id
from tests.contract.conftest import TwoRegions
from tests.contract.error_tables import COMPUTE, DISK
from tests.contract.inside import Inside, step_withdrawn
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud
from tests.support.regions import SOUTH
from tests.support.waiting import eventually

Operation = operation_pb2.Operation
DiskState = disk_pb2.Disk
SnapshotState = disk_snapshot_pb2.DiskSnapshot
WholeState = instance_snapshot_pb2.InstanceSnapshot
InstanceState = instance_pb2.Instance
WHY = "The other service is gone."


def abandon(
    cloud: Cloud, service: Service, operation_id: str, *, validate_only: bool = False
) -> pb.AbandonOperationResponse:
    request = pb.AbandonOperationRequest(operation_id=operation_id, reason=WHY, validate_only=validate_only)
    return cloud.operations[service].AbandonOperation(request)


def released(answer: pb.AbandonOperationResponse) -> list[tuple[str, str]]:
    return [(each.kind, each.resource_id) for each in answer.released]


def last_event(cloud: Cloud, service: Service, operation_id: str) -> event_service_pb2.Event:
    request = event_service_pb2.ListEventsRequest(
        filter=event_service_pb2.ListEventsRequest.Filter(operation_id=operation_id)
    )
    return cloud.events[service].ListEvents(request).events[0]


@pytest.mark.parametrize("service", Service)
class TestWhatIsRefused:
    @pytest.mark.parametrize("validate_only", [False, True])
    def test_an_operation_that_would_be_its_own_and_is_unknown(
        self, cloud: Cloud, service: Service, validate_only: bool
    ):
        unknown = an_unknown_id(f"op-{service[0]}")
        for _ in range(2):
            with refused("NOT_FOUND", "OPERATION_NOT_FOUND") as refusal:
                abandon(cloud, service, unknown, validate_only=validate_only)
            assert refusal.metadata == {"operation_id": unknown}

    def test_an_operation_that_has_ended_by_itself(self, cloud: Cloud, service: Service):
        machine = cloud.an_instance()
        make: dict[Service, Callable[[], str]] = {
            Service.COMPUTE: lambda: machine.id,
            Service.DISK: cloud.a_disk,
            Service.SNAPSHOT: lambda: cloud.an_instance_snapshot(machine.id).id,
        }
        ended = cloud.finish(cloud.operations_on(service, make[service]())[0].id)
        for validate_only in (True, False):
            with refused("FAILED_PRECONDITION", "OPERATION_ENDED") as refusal:
                abandon(cloud, service, ended.id, validate_only=validate_only)
            assert refusal.metadata == {"operation_id": ended.id}
        assert cloud.rest(ended.id) == ended

    @pytest.mark.parametrize("malformed", ["", "OP", "op c"])
    def test_a_malformed_id(self, cloud: Cloud, service: Service, malformed: str):
        with invalid("operation_id"):
            abandon(cloud, service, malformed)

    @pytest.mark.parametrize("malformed", ["", "  ", "two\nlines", "x" * 257])
    def test_a_reason_that_is_no_sentence(self, cloud: Cloud, service: Service, malformed: str):
        request = pb.AbandonOperationRequest(operation_id=f"op-{service[0]}-1", reason=malformed)
        with invalid("reason"):
            cloud.operations[service].AbandonOperation(request)


def test_an_operation_of_another_service_for_which_nothing_is_held_is_answered_with_nothing(cloud: Cloud):
    for service, prefix in ((Service.COMPUTE, "op-s"), (Service.DISK, "op-c"), (Service.SNAPSHOT, "op-d")):
        for validate_only in (True, False, False):
            answer = abandon(cloud, service, an_unknown_id(prefix), validate_only=validate_only)
            assert answer == pb.AbandonOperationResponse()


class TestWhatIsHeldForAnotherService:
    """Requests are a saga's of snapshot_svc or compute_svc, whose next step never comes."""

    def test_a_lease_is_given_back_and_the_late_call_is_refused(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(request)
        lease = [("lease", machine.id)]
        looked = abandon(cloud, Service.COMPUTE, request.operation_id, validate_only=True)
        assert released(looked) == lease
        assert cloud.instance(machine.id).operation_id == request.operation_id
        assert released(abandon(cloud, Service.COMPUTE, request.operation_id)) == lease
        assert cloud.instance(machine.id).operation_id == ""
        assert released(abandon(cloud, Service.COMPUTE, request.operation_id)) == []
        with step_withdrawn():
            inside.compute.LeaseInstance(request)
        cloud.stop(machine.id)

    def test_the_event_of_what_is_let_go_says_who_and_why(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(request)
        abandon(cloud, Service.COMPUTE, request.operation_id)
        event = last_event(cloud, Service.COMPUTE, request.operation_id)
        assert (event.type, event.resource_id) == ("abandon_operation/released", machine.id)
        assert event.detail == f"lease: {WHY}"
        assert event.actor

    def test_a_point_goes_with_its_snapshots_and_tasks(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        request = inside.point_request(machine.id)
        made = inside.disk.CreateConsistencyPoint(request)
        kinds = [kind for kind, _ in released(abandon(cloud, Service.DISK, request.operation_id))]
        assert kinds == ["task", "task", "snapshot", "snapshot", "point"]
        for member in made.members:
            with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
                cloud.disk_snapshot(member.snapshot_id)
        for disk_id in machine.disk_ids:
            assert cloud.disk(disk_id).manual_snapshots.used == 0
        with step_withdrawn():
            inside.disk.CreateConsistencyPoint(request)
        with step_withdrawn():
            inside.disk.SealConsistencyPoint(disk.SealConsistencyPointRequest(key=request.key))
        with step_withdrawn():
            inside.disk.FinishConsistencyPoint(disk.FinishConsistencyPointRequest(key=request.key))
        cloud.an_instance_snapshot(machine.id)

    def test_of_a_point_that_is_finished_nothing_is_touched(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.point_request(machine.id, instance_snapshot_id="")
        [member] = inside.disk.CreateConsistencyPoint(request).members
        finish = disk.FinishConsistencyPointRequest(key=request.key)
        inside.disk.FinishConsistencyPoint(finish)
        assert released(abandon(cloud, Service.DISK, request.operation_id)) == []
        inside.disk.WithdrawConsistencyPoint(disk.WithdrawConsistencyPointRequest(key=request.key))
        assert cloud.disk_snapshot(member.snapshot_id).state == SnapshotState.STATE_AVAILABLE
        assert cloud.read(member.snapshot_id, 0, 1) == b"\0"
        inside.disk.FinishConsistencyPoint(finish)

    def test_disks_that_are_reserved_for_a_rollback_stay_as_they_are(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        cloud.write(disk_id, (0, b"since"))
        request = inside.rollback_request((disk_id, snapshot_id))
        inside.disk.ReserveRollback(request)
        answer = abandon(cloud, Service.DISK, request.operation_id)
        assert released(answer) == [("task", disk_id), ("rollback reservation", request.key)]
        for late in (
            lambda: inside.disk.ReserveRollback(request),
            lambda: inside.disk.ApplyRollback(disk.ApplyRollbackRequest(key=request.key)),
        ):
            with step_withdrawn():
                late()
        assert cloud.read(disk_id, 0, 5) == b"since"
        assert cloud.disk(disk_id).state == DiskState.STATE_DETACHED

    def test_members_that_are_only_reserved_for_deletion_are_available_again(
        self, cloud: Cloud, inside: Inside
    ):
        whole = cloud.an_instance_snapshot(cloud.an_instance(data_disks=1).id)
        request = inside.deletion_request(whole.id)
        inside.disk.ReserveSnapshotDeletion(request)
        assert len(released(abandon(cloud, Service.DISK, request.operation_id))) == 3
        for member in whole.members:
            assert cloud.disk_snapshot(member.snapshot_id).state == SnapshotState.STATE_AVAILABLE
        for late in (
            lambda: inside.disk.ReserveSnapshotDeletion(request),
            lambda: inside.disk.ApplySnapshotDeletion(disk.ApplySnapshotDeletionRequest(key=request.key)),
        ):
            with step_withdrawn():
                late()
        cloud.delete_instance_snapshot(whole.id)

    def test_disks_that_are_being_made_for_an_instance_go(self, cloud: Cloud, inside: Inside):
        with inside.being_made("", "") as disk_ids:
            operation_id = an_operation_of(cloud, disk_ids[0])
            answer = abandon(cloud, Service.DISK, operation_id)
            assert sorted(released(answer)) == sorted(("task", disk_id) for disk_id in disk_ids)
            for disk_id in disk_ids:
                with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
                    cloud.disk(disk_id)

    @pytest.mark.parametrize("step", ["create", "release", "attach", "detach", "point", "reserve", "delete"])
    def test_each_step_that_comes_late_is_refused(self, cloud: Cloud, inside: Inside, step: str):
        machine = cloud.an_instance(data_disks=1)
        steps: dict[str, tuple[Callable[[Any], Any], Any]] = {
            "create": (inside.disk.CreateInstanceDisks, inside.disks_request(an_unknown_id("i"))),
            "release": (inside.disk.ReleaseInstanceDisks, inside.release_request(machine.id)),
            "attach": (inside.disk.AttachDisk, inside.attach_request(machine.id, cloud.a_disk())),
            "detach": (
                inside.disk.DetachDisk,
                inside.detach_request(machine.id, machine.data_disk_ids[0]),
            ),
            "point": (inside.disk.CreateConsistencyPoint, inside.point_request(machine.id)),
            "reserve": (
                inside.disk.ReserveRollback,
                inside.rollback_request(
                    (machine.system_disk_id, cloud.a_disk_snapshot(machine.system_disk_id)),
                    instance_id=machine.id,
                ),
            ),
            "delete": (
                inside.disk.ReserveSnapshotDeletion,
                inside.deletion_request(cloud.an_instance_snapshot(machine.id).id),
            ),
        }
        call, request = steps[step]
        abandon(cloud, Service.DISK, request.operation_id)
        before = [cloud.disk(disk_id) for disk_id in machine.disk_ids]
        with step_withdrawn():
            call(request)
        assert [cloud.disk(disk_id) for disk_id in machine.disk_ids] == before

    def test_what_has_no_undo_and_was_done_stays_done(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.attach_request(machine.id, cloud.a_disk())
        inside.disk.AttachDisk(request)
        assert released(abandon(cloud, Service.DISK, request.operation_id)) == []
        assert cloud.disk(request.disk_id).instance_id == machine.id
        inside.disk.AttachDisk(request)


def an_operation_of(cloud: Cloud, disk_id: str) -> str:
    return cloud.disk(disk_id).operation_id


@contextmanager
def stuck(troubled: TroubledCloud, without: Service, begin: Callable[[], Any]) -> Iterator[str]:
    """An operation that waits for a service that is not there, while the block lasts."""
    owner = Service.COMPUTE if without is Service.DISK else Service.SNAPSHOT
    before = {each.id for each in unfinished(troubled, owner)}
    with troubled.without(without):
        begin()
        yield eventually(
            lambda: next(
                (
                    each.id
                    for each in unfinished(troubled, owner)
                    if each.id not in before and each.attempts > 0
                ),
                None,
            ),
            what="a try without an answer",
        )


def unfinished(cloud: Cloud, service: Service) -> list[Operation]:
    request = pb.ListOperationsRequest(filter=pb.ListOperationsRequest.Filter(unfinished=True), page_size=500)
    return list(cloud.operations[service].ListOperations(request).operations)


class TestAnOperationOfItsOwn:
    def test_rests_as_abandoned_with_who_and_why_and_its_request_stands_for_it(self, troubled: TroubledCloud):
        machine = troubled.an_instance()
        request = snapshot_pb.CreateInstanceSnapshotRequest(request_id=a_request_id(), instance_id=machine.id)
        call = troubled.instance_snapshots.CreateInstanceSnapshot
        with stuck(troubled, Service.COMPUTE, lambda: call.future(request)) as operation_id:
            looked = abandon(troubled, Service.SNAPSHOT, operation_id, validate_only=True)
            assert not looked.operation.HasField("end_time")
            operation = abandon(troubled, Service.SNAPSHOT, operation_id).operation
        assert operation.state == Operation.STATE_ABANDONED
        assert operation.HasField("end_time")
        assert operation.current_step == ""
        assert operation.error.reason == "OPERATION_ABANDONED"
        assert WHY in operation.error.message
        assert operation.steps[-1].name == "abandoned"
        event = last_event(troubled, Service.SNAPSHOT, operation_id)
        assert event.type == "abandon_operation/abandoned"
        assert WHY in event.detail
        assert troubled.rest(operation_id) == operation
        assert abandon(troubled, Service.SNAPSHOT, operation_id).operation == operation
        with refused("ABORTED", "OPERATION_ABANDONED") as refusal:
            call(request)
        assert refusal.metadata == {"operation_id": operation_id}
        troubled.an_instance_snapshot(machine.id)

    def test_who_waits_for_its_answer_is_told(self, troubled: TroubledCloud):
        machine = troubled.an_instance()
        request = snapshot_pb.CreateInstanceSnapshotRequest(instance_id=machine.id)
        calls: list[Any] = []

        def begin() -> Any:
            calls.append(troubled.instance_snapshots.CreateInstanceSnapshot.future(request))
            return calls[0]

        with stuck(troubled, Service.COMPUTE, begin) as operation_id:
            abandon(troubled, Service.SNAPSHOT, operation_id)
            with refused("ABORTED", "OPERATION_ABANDONED"):
                calls[0].result()

    def test_an_instance_whose_disks_could_not_be_made_rests_in_error_and_is_deleted(
        self, troubled: TroubledCloud
    ):
        request = instance_service_pb2.CreateInstanceRequest(
            name="contract-abandoned", system_disk=instance_service_pb2.NewDisk(size_bytes=1 << 20)
        )
        with stuck(
            troubled, Service.DISK, lambda: troubled.instances.CreateInstance.future(request)
        ) as operation_id:
            answer = abandon(troubled, Service.COMPUTE, operation_id)
            instance_id = answer.operation.resource_id
            assert released(answer) == [("lease", instance_id)]
            assert troubled.instance(instance_id).state == InstanceState.STATE_ERROR
        abandon(troubled, Service.DISK, operation_id)
        troubled.delete_instance(instance_id)
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            troubled.instance(instance_id)

    def test_an_instance_that_could_not_be_deleted_rests_in_error_and_is_deleted_again(
        self, troubled: TroubledCloud
    ):
        machine = troubled.an_instance(stopped=True, data_disks=1)
        request = instance_service_pb2.DeleteInstanceRequest(instance_id=machine.id)
        with stuck(
            troubled, Service.DISK, lambda: troubled.instances.DeleteInstance.future(request)
        ) as operation_id:
            abandon(troubled, Service.COMPUTE, operation_id)
            assert troubled.instance(machine.id).state == InstanceState.STATE_ERROR
        abandon(troubled, Service.DISK, operation_id)
        troubled.delete_instance(machine.id)
        assert troubled.disk(machine.data_disk_ids[0]).state == DiskState.STATE_DETACHED

    def test_an_instance_snapshot_whose_deletion_ended_here_only_is_deleted_when_it_has_ended_at_its_disks_too(
        self, troubled: TroubledCloud
    ):
        whole = troubled.an_instance_snapshot(troubled.an_instance(data_disks=0).id)
        request = snapshot_pb.DeleteInstanceSnapshotRequest(instance_snapshot_id=whole.id)
        with troubled.store_fails("delete_snapshots", "broken"):
            operation_id = troubled.instance_snapshots.DeleteInstanceSnapshot(request).operation_id
            abandon(troubled, Service.SNAPSHOT, operation_id)
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
                troubled.instance_snapshots.DeleteInstanceSnapshot(request)
        abandon(troubled, Service.DISK, operation_id)
        troubled.delete_instance_snapshot(whole.id)

    def test_what_cannot_be_ended_is_not_while_the_store_does_not_carry_it_out(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        request = disk_service_pb2.ResizeDiskRequest(disk_id=disk_id, size_bytes=2 << 20)
        with troubled.store_fails("resize_volume", "broken"):
            troubled.disks.ResizeDisk.future(request)
            [operation_id] = eventually(
                lambda: [
                    each.id for each in unfinished(troubled, Service.DISK) if each.resource_id == disk_id
                ],
                what="its operation",
            )
            with refused("INTERNAL", "INTERNAL"):
                abandon(troubled, Service.DISK, operation_id)
            assert troubled.disk(disk_id).state == DiskState.STATE_RESIZING
        troubled.rest(operation_id)
        assert troubled.disk(disk_id).size_bytes == 2 << 20


class TestACopyWhoseOtherRegionIsGone:
    def test_frees_its_source_here_and_there_what_was_to_become_of_it(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        request = disk_snapshot_service_pb2.CopyDiskSnapshotRequest(
            snapshot_id=snapshot_id, destination_region=SOUTH
        )
        with regions.south.store_fails("cut", "broken"):
            copy = regions.north.disk_snapshots.CopyDiskSnapshot(request)
            eventually(
                lambda: any(
                    each.id == copy.operation_id and each.current_step == "finish" and each.attempts
                    for each in unfinished(regions.north, Service.DISK)
                ),
                what="a try to finish",
            )
            answer = abandon(regions.north, Service.DISK, copy.operation_id)
            assert answer.operation.state == Operation.STATE_ABANDONED
            assert [kind for kind, _ in released(answer)] == ["copy reservation"]
        deletion = disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id)
        regions.north.finish(regions.north.disk_snapshots.DeleteDiskSnapshot(deletion).operation_id)
        assert regions.south.disk_snapshot(copy.copy_snapshot_id).state == SnapshotState.STATE_CREATING
        there = abandon(regions.south, Service.DISK, copy.operation_id)
        assert not there.HasField("operation")
        assert sorted(released(there)) == [
            ("import", copy.copy_snapshot_id),
            ("snapshot", copy.copy_snapshot_id),
        ]
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            regions.south.disk_snapshot(copy.copy_snapshot_id)
        assert abandon(regions.south, Service.DISK, copy.operation_id) == pb.AbandonOperationResponse()

    def test_of_an_instance_snapshot_rests_there_in_error_and_is_deleted(self, regions: TwoRegions):
        machine = regions.north.an_instance(data_disks=1)
        whole = regions.north.an_instance_snapshot(machine.id)
        request = snapshot_pb.CopyInstanceSnapshotRequest(
            instance_snapshot_id=whole.id, destination_region=SOUTH
        )
        with regions.south.store_fails("cut", "broken"):
            copy = regions.north.instance_snapshots.CopyInstanceSnapshot(request)
            copy_id, operation_id = copy.copy_instance_snapshot_id, copy.operation_id
            abandon(regions.north, Service.SNAPSHOT, operation_id)
            [(kind, member_copy)] = released(abandon(regions.north, Service.DISK, operation_id))
            assert kind == "operation"
            assert regions.north.rest(member_copy).state == Operation.STATE_ABANDONED
        regions.north.delete_instance_snapshot(whole.id)

        assert released(abandon(regions.south, Service.SNAPSHOT, operation_id)) == [
            ("instance snapshot", copy_id)
        ]
        listed = regions.south.instance_snapshot(copy_id)
        assert listed.state == WholeState.STATE_ERROR
        assert "abandoned" in listed.state_reason
        abandon(regions.south, Service.DISK, member_copy)
        regions.south.delete_instance_snapshot(copy_id)
        for member in listed.members:
            with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
                regions.south.disk_snapshot(member.snapshot_id)
