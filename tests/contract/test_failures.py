"""What the tables promise for the day that a store is full, bytes are lost, or a service is not there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_pb2
from stillpoint.compute.v1 import instance_service_pb2 as compute_pb
from stillpoint.disk.v1 import block_service_pb2, disk_pb2, disk_service_pb2, disk_snapshot_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb
from stillpoint.operation.v1 import operation_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, MIB, Machine, a_name, a_request_id, write_message
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT
from tests.contract.failing_disk_svc import SECRET
from tests.contract.inside import Inside
from tests.contract.refusals import refused
from tests.contract.troubled import REQUESTS_ADMITTED, TroubledCloud
from tests.support.waiting import eventually

State = instance_snapshot_pb2.InstanceSnapshot


def create_whole(troubled: TroubledCloud, instance_id: str) -> snapshot_pb.CreateInstanceSnapshotResponse:
    request = snapshot_pb.CreateInstanceSnapshotRequest(instance_id=instance_id)
    return troubled.instance_snapshots.CreateInstanceSnapshot(request)


def instances_named(troubled: TroubledCloud, name: str) -> list[instance_pb2.Instance]:
    request = compute_pb.ListInstancesRequest(filter=compute_pb.ListInstancesRequest.Filter(name=name))
    return list(troubled.instances.ListInstances(request).instances)


def disks_on(troubled: TroubledCloud, instance_id: str) -> list[disk_pb2.Disk]:
    chosen = disk_service_pb2.ListDisksRequest.Filter(instance_id=instance_id)
    return list(troubled.disks.ListDisks(disk_service_pb2.ListDisksRequest(filter=chosen)).disks)


class TestWhenTheBlockStoreIsFull:
    def test_create_disk_fails(self, troubled: TroubledCloud):
        with troubled.store_fails("create_volume", "full"), refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            troubled.a_disk()

    def test_create_instance_fails_and_leaves_nothing(self, troubled: TroubledCloud):
        name = a_name("instance")
        with troubled.store_fails("create_volume", "full"), refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            troubled.an_instance(name=name, data_disks=1)
        assert not instances_named(troubled, name)

    def test_create_disk_snapshot_fails_and_leaves_nothing(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        with troubled.store_fails("cut", "full"), refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            troubled.a_disk_snapshot(disk_id)
        assert not troubled.snapshots_of(disk_id=disk_id)
        assert not troubled.disk(disk_id).operation_id

    def test_create_instance_snapshot_fails_and_leaves_nothing(self, troubled: TroubledCloud):
        machine = troubled.an_instance(data_disks=1)
        with troubled.store_fails("cut", "full"), refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            create_whole(troubled, machine.id)
        assert not troubled.instance_snapshots_of(machine.id)
        assert not troubled.instance(machine.id).operation_id
        assert not any(troubled.snapshots_of(disk_id=disk_id) for disk_id in machine.disk_ids)
        troubled.an_instance_snapshot(machine.id)

    def test_write_blocks_fails_and_keeps_what_was_answered(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        troubled.write(disk_id, (0, b"kept"))
        with troubled.store_fails("write", "full"), refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            troubled.write(disk_id, (0, b"lost"))
        assert troubled.read(disk_id, 0, 4) == b"kept"


class TestWhenBytesAreLost:
    def test_read_blocks_fails_and_names_the_offset(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        troubled.write(disk_id, (0, b"rots"))
        with troubled.store_fails("read", "lost"), refused("DATA_LOSS", "DATA_LOSS", DISK) as refusal:
            troubled.read(disk_id)
        assert refusal.metadata == {"object_id": disk_id, "offset_bytes": "0"}

    def test_write_blocks_to_a_part_of_them_fails(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        with troubled.store_fails("write", "lost"), refused("DATA_LOSS", "DATA_LOSS", DISK):
            troubled.write(disk_id, (1, b"x"))

    def test_a_disk_snapshot_rests_in_error_takes_no_slot_and_can_be_deleted(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        with troubled.store_fails("seal", "lost"):
            answer = troubled.disk_snapshots.CreateDiskSnapshot(
                disk_snapshot_pb.CreateDiskSnapshotRequest(disk_id=disk_id)
            )
            operation = troubled.rest(answer.operation_id)
        assert (operation.state, operation.error.reason) == (
            operation_pb2.Operation.STATE_FAILED,
            "DATA_LOSS",
        )
        snapshot = troubled.disk_snapshot(answer.snapshot.id)
        assert snapshot.state == disk_snapshot_pb2.DiskSnapshot.STATE_ERROR
        assert troubled.disk(disk_id).manual_snapshots.used == 0
        with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
            troubled.a_disk(source_snapshot_id=snapshot.id)
        deletion = troubled.disk_snapshots.DeleteDiskSnapshot(
            disk_snapshot_pb.DeleteDiskSnapshotRequest(snapshot_id=snapshot.id)
        )
        troubled.finish(deletion.operation_id)

    @pytest.mark.parametrize(("how", "code"), [("lost", 15), ("full", 8)])
    def test_an_instance_snapshot_one_of_whose_members_fails_rests_in_error_without_members(
        self, troubled: TroubledCloud, how: str, code: int
    ):
        machine = troubled.an_instance(data_disks=2)
        with troubled.store_fails("seal", how):
            answer = create_whole(troubled, machine.id)
            operation = troubled.rest(answer.operation_id)
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        assert (operation.error.code, operation.error.reason) == (code, "MEMBER_FAILED")
        whole = troubled.instance_snapshot(answer.instance_snapshot.id)
        assert (whole.state, whole.operation_id) == (State.STATE_ERROR, "")
        assert machine.data_disk_ids[-1] in whole.state_reason
        assert not whole.members
        for disk_id in machine.disk_ids:
            assert not troubled.snapshots_of(disk_id=disk_id)
            assert not troubled.disk(disk_id).operation_id
        assert not troubled.instance(machine.id).operation_id
        with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
            troubled.roll_back(whole.id)
        assert refusal.metadata == {"instance_snapshot_id": whole.id, "state": "ERROR"}
        troubled.delete_instance_snapshot(whole.id)

    def test_a_rollback_ends_in_error_rollback_and_the_instance_starts_only_after_one_that_ends_whole(
        self, troubled: TroubledCloud
    ):
        machine = troubled.an_instance(data_disks=1, stopped=True)
        troubled.write(machine.system_disk_id, (0, b"then"))
        whole = troubled.an_instance_snapshot(machine.id)
        troubled.write(machine.system_disk_id, (0, b"now!"))
        with troubled.store_fails("restore", "lost"):
            troubled.roll_back(whole.id)
        failed = troubled.instance_snapshot(whole.id)
        assert (failed.state, failed.operation_id) == (State.STATE_ERROR_ROLLBACK, "")
        assert failed.state_reason
        assert troubled.read(machine.system_disk_id, 0, 4) == b"now!"
        with refused("FAILED_PRECONDITION", "ROLLBACK_INCOMPLETE", COMPUTE):
            troubled.start(machine.id)
        troubled.roll_back(whole.id)
        mended = troubled.instance_snapshot(whole.id)
        assert (mended.state, mended.state_reason) == (State.STATE_AVAILABLE, "")
        assert troubled.read(machine.system_disk_id, 0, 4) == b"then"
        troubled.start(machine.id)

    def test_an_instance_snapshot_in_error_rollback_can_be_deleted(self, troubled: TroubledCloud):
        machine = troubled.an_instance(stopped=True)
        whole = troubled.an_instance_snapshot(machine.id)
        with troubled.store_fails("restore", "lost"):
            troubled.roll_back(whole.id)
        troubled.delete_instance_snapshot(whole.id)

    def test_a_rollback_to_another_accounts_snapshot_does_not_tell_what_has_become_of_its_bytes(
        self, troubled: TroubledCloud
    ):
        snapshot_id = troubled.a_disk_snapshot(disk_id := troubled.a_disk())
        request = Inside(troubled).rollback_request((disk_id, snapshot_id))
        request.account_id = "another"
        with (
            troubled.store_fails("seal", "lost"),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal,
        ):
            Inside(troubled).disk.ReserveRollback(request)
        assert {reason for reason, _ in refusal.violations} == {"DISK_NOT_FOUND", "SNAPSHOT_NOT_FOUND"}
        request.account_id = ACCOUNT
        with troubled.store_fails("seal", "lost"), refused("DATA_LOSS", "DATA_LOSS", DISK):
            Inside(troubled).disk.ReserveRollback(request)


class TestWhenSomethingHappensThatNobodyForesaw:
    def test_the_client_gets_an_incident_id_and_not_the_errors_text(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        troubled.write(disk_id, (0, b"x"))
        with troubled.store_fails("read", "broken"), refused("INTERNAL", "INTERNAL") as refusal:
            troubled.read(disk_id)
        assert refusal.metadata["incident_id"] in refusal.message
        assert SECRET not in refusal.message

    def test_an_operation_tries_again_in_sight_and_without_the_errors_text(self, troubled: TroubledCloud):
        with rolling_back(troubled) as (_, _, operation_id):
            tried = eventually(
                lambda: found if (found := operation_of(troubled, operation_id)).attempts >= 2 else None
            )
        assert tried.state == operation_pb2.Operation.STATE_RUNNING
        assert tried.current_step == "apply"
        assert tried.past_pivot
        assert tried.error.message
        assert SECRET not in str(tried)

    def test_an_operation_that_waits_for_its_next_try_can_be_made_due_now(self, troubled: TroubledCloud):
        with rolling_back(troubled) as (_, whole_id, operation_id):
            request = operation_service_pb2.RetryOperationRequest(operation_id=operation_id)
            answer = troubled.operations[Service.SNAPSHOT].RetryOperation(request)
            assert answer.operation.id == operation_id
            assert not answer.operation.HasField("end_time")
        assert "retry_operation/retried" in troubled.events_of(Service.SNAPSHOT, whole_id)


class TestWhileADiskIsResized:
    """Between the transaction that accepts it and the commit that ends it: the store does not answer yet."""

    def test_it_is_resizing_and_read_and_written_as_before(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        with resizing(troubled, disk_id):
            disk = troubled.disk(disk_id)
            assert (disk.state, disk.size_bytes) == (disk_pb2.Disk.STATE_RESIZING, MIB)
            troubled.write(disk_id, (0, b"goes on"))
            assert troubled.read(disk_id, 0, 7) == b"goes on"
        assert troubled.read(disk_id, 0, 7) == b"goes on"

    def test_no_snapshot_of_its_instance_is_taken(self, troubled: TroubledCloud):
        machine = troubled.an_instance(data_disks=1)
        with resizing(troubled, machine.data_disk_ids[0]) as operation_id:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                create_whole(troubled, machine.id)
        assert (refusal.metadata["state"], refusal.metadata["operation_id"]) == ("RESIZING", operation_id)
        troubled.an_instance_snapshot(machine.id)

    def test_its_instance_is_not_rolled_back(self, troubled: TroubledCloud):
        machine = troubled.an_instance(data_disks=1, stopped=True)
        whole = troubled.an_instance_snapshot(machine.id)
        with resizing(troubled, machine.data_disk_ids[0]):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                troubled.roll_back(whole.id)
        troubled.roll_back(whole.id)
        assert troubled.disk(machine.data_disk_ids[0]).size_bytes == 2 * MIB


def test_a_resize_that_the_store_refuses_leaves_the_disk_as_it_was(troubled: TroubledCloud):
    disk_id = troubled.a_disk()
    with troubled.store_fails("resize_volume", "full"):
        with refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
            troubled.resize(disk_id, 2 * MIB)
    disk = troubled.disk(disk_id)
    assert (disk.state, disk.size_bytes) == (disk_pb2.Disk.STATE_DETACHED, MIB)
    assert troubled.resize(disk_id, 2 * MIB).size_bytes == 2 * MIB


class TestWhileADiskIsRolledBack:
    """The store does not answer yet."""

    def test_it_is_neither_read_nor_written_nor_changed_and_its_snapshot_not_deleted(
        self, troubled: TroubledCloud
    ):
        disk_id = troubled.a_disk()
        troubled.write(disk_id, (0, b"then"))
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        troubled.write(disk_id, (0, b"now!"))
        request = disk_service_pb2.RollbackDiskRequest(
            request_id=a_request_id(), disk_id=disk_id, snapshot_id=snapshot_id
        )
        with troubled.store_fails("restore", "broken"):
            troubled.disks.RollbackDisk.future(request)
            operation_id = eventually(lambda: troubled.disk(disk_id).operation_id)
            assert troubled.disk(disk_id).state == disk_pb2.Disk.STATE_ROLLING_BACK
            for call in (
                lambda: troubled.read(disk_id),
                lambda: troubled.write(disk_id, (0, b"x")),
                lambda: troubled.resize(disk_id, 2 * MIB),
                lambda: troubled.roll_back_disk(disk_id, snapshot_id),
            ):
                with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                    call()
            deletion = disk_snapshot_pb.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id)
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK):
                troubled.disk_snapshots.DeleteDiskSnapshot(deletion)
        troubled.finish(operation_id)
        assert troubled.disks.RollbackDisk(request).disk == troubled.disk(disk_id)
        assert troubled.read(disk_id, 0, 4) == b"then"
        troubled.finish(troubled.disk_snapshots.DeleteDiskSnapshot(deletion).operation_id)


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [("lost", "DATA_LOSS", "DATA_LOSS"), ("full", "RESOURCE_EXHAUSTED", "STORE_FULL")],
)
def test_a_rollback_of_a_disk_that_the_store_refuses_leaves_it_as_it_was(
    troubled: TroubledCloud, how: str, code: str, reason: str
):
    disk_id = troubled.a_disk()
    troubled.write(disk_id, (0, b"then"))
    snapshot_id = troubled.a_disk_snapshot(disk_id)
    troubled.write(disk_id, (0, b"now!"))
    with troubled.store_fails("restore", how), refused(code, reason, DISK):
        troubled.roll_back_disk(disk_id, snapshot_id)
    assert troubled.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED
    assert troubled.read(disk_id, 0, 4) == b"now!"
    troubled.roll_back_disk(disk_id, snapshot_id)
    assert troubled.read(disk_id, 0, 4) == b"then"


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [("lost", "DATA_LOSS", "DATA_LOSS"), ("full", "RESOURCE_EXHAUSTED", "STORE_FULL")],
)
def test_a_rollback_of_an_instances_disk_that_the_store_refuses_leaves_it_and_the_instance_as_they_were(
    troubled: TroubledCloud, how: str, code: str, reason: str
):
    machine = troubled.an_instance(data_disks=1, stopped=True)
    [disk_id] = machine.data_disk_ids
    troubled.write(disk_id, (0, b"then"))
    snapshot_id = troubled.a_disk_snapshot(disk_id)
    troubled.write(disk_id, (0, b"now!"))
    with troubled.store_fails("restore", how), refused(code, reason, DISK):
        troubled.roll_back_disk_on(machine.id, disk_id, snapshot_id)
    assert troubled.disk(disk_id).state == disk_pb2.Disk.STATE_MOUNTED
    assert not troubled.instance(machine.id).operation_id
    assert troubled.read(disk_id, 0, 4) == b"now!"
    troubled.roll_back_disk_on(machine.id, disk_id, snapshot_id)
    assert troubled.read(disk_id, 0, 4) == b"then"
    troubled.start(machine.id)


@contextmanager
def resizing(troubled: TroubledCloud, disk_id: str) -> Iterator[str]:
    """A resize to 2 MiB that cannot end before the block does: its operation."""
    request = disk_service_pb2.ResizeDiskRequest(
        request_id=a_request_id(), disk_id=disk_id, size_bytes=2 * MIB
    )
    with troubled.store_fails("resize_volume", "broken"):
        troubled.disks.ResizeDisk.future(request)
        operation_id = eventually(lambda: troubled.disk(disk_id).operation_id)
        yield operation_id
    troubled.finish(operation_id)
    assert troubled.disks.ResizeDisk(request).disk == troubled.disk(disk_id)
    assert troubled.disk(disk_id).size_bytes == 2 * MIB


@contextmanager
def rolling_back(troubled: TroubledCloud) -> Iterator[tuple[Machine, str, str]]:
    """A rollback that cannot end before the block does: the machine, the instance snapshot and the operation."""
    machine = troubled.an_instance(data_disks=1, stopped=True)
    whole = troubled.an_instance_snapshot(machine.id)
    with troubled.store_fails("restore", "broken"):
        answer = troubled.instance_snapshots.RollbackInstanceSnapshot(
            snapshot_pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=whole.id)
        )
        yield machine, whole.id, answer.operation_id
    troubled.finish(answer.operation_id)


def operation_of(troubled: TroubledCloud, operation_id: str) -> operation_pb2.Operation:
    request = operation_service_pb2.GetOperationRequest(operation_id=operation_id)
    return troubled.operations[Service.SNAPSHOT].GetOperation(request).operation


class TestWhileAnInstanceSnapshotIsRolledBackTo:
    def test_it_is_neither_rolled_back_to_again_nor_deleted(self, troubled: TroubledCloud):
        with rolling_back(troubled) as (_, whole_id, operation_id):
            for again in (troubled.roll_back, troubled.delete_instance_snapshot):
                with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                    again(whole_id)
                assert refusal.metadata == {
                    "instance_snapshot_id": whole_id,
                    "state": "ROLLING_BACK",
                    "operation_id": operation_id,
                }

    def test_the_instance_is_held_and_its_disks_are_neither_read_nor_written(self, troubled: TroubledCloud):
        with rolling_back(troubled) as (machine, _, operation_id):
            assert troubled.instance(machine.id).operation_id == operation_id
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE):
                troubled.start(machine.id)
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                troubled.delete_instance(machine.id)
            assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "DISK_BUSY"}
            disk = troubled.disk(machine.data_disk_ids[0])
            assert (disk.state, disk.operation_id) == (disk_pb2.Disk.STATE_ROLLING_BACK, operation_id)
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                troubled.read(disk.id)
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                troubled.write(disk.id, (0, b"x"))

    def test_another_snapshot_of_the_instance_is_refused_with_everything_that_blocks(
        self, troubled: TroubledCloud
    ):
        with rolling_back(troubled) as (machine, _, _):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                create_whole(troubled, machine.id)
        assert sorted(refusal.violations) == sorted(
            [
                ("INSTANCE_BUSY", f"instance/{machine.id}"),
                *(("DISK_BUSY", f"disk/{disk_id}") for disk_id in machine.disk_ids),
            ]
        )


def test_an_instance_snapshot_that_is_being_deleted_is_neither_deleted_again_nor_rolled_back_to(
    troubled: TroubledCloud,
):
    whole = troubled.an_instance_snapshot(troubled.an_instance(stopped=True).id)
    with troubled.store_fails("delete_snapshots", "broken"):
        answer = troubled.instance_snapshots.DeleteInstanceSnapshot(
            snapshot_pb.DeleteInstanceSnapshotRequest(instance_snapshot_id=whole.id)
        )
        assert troubled.instance_snapshot(whole.id).state == State.STATE_DELETING
        for again in (troubled.roll_back, troubled.delete_instance_snapshot):
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                again(whole.id)
            assert refusal.metadata["state"] == "DELETING"
    troubled.finish(answer.operation_id)
    with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
        troubled.instance_snapshot(whole.id)


@pytest.mark.parametrize(
    ("change", "domain", "because_of_its_disks"),
    [
        (lambda cloud, instance_id, _: cloud.start(instance_id), COMPUTE, set()),
        (lambda cloud, instance_id, _: cloud.stop(instance_id), COMPUTE, set()),
        (lambda cloud, instance_id, _: cloud.delete_instance(instance_id), COMPUTE, {"DISK_BUSY"}),
        (lambda cloud, instance_id, disk_id: cloud.attach(instance_id, disk_id), COMPUTE, set()),
        (lambda cloud, instance_id, disk_id: cloud.detach(instance_id, disk_id), COMPUTE, {"DISK_STATE"}),
        (lambda cloud, instance_id, _: create_whole(cloud, instance_id), SNAPSHOT, {"DISK_BUSY"}),
    ],
    ids=["start", "stop", "delete", "attach", "detach", "snapshot"],
)
def test_an_instance_that_is_being_made_takes_no_other_operation(
    troubled: TroubledCloud,
    change: Callable[[TroubledCloud, str, str], object],
    domain: str,
    because_of_its_disks: set[str],
):
    name, disk_id = a_name("instance"), troubled.a_disk()
    request = compute_pb.CreateInstanceRequest(name=name, system_disk=compute_pb.NewDisk(size_bytes=MIB))
    with troubled.store_fails("create_volume", "broken"):
        call = troubled.instances.CreateInstance.future(request)
        [instance] = eventually(lambda: instances_named(troubled, name))
        assert instance.state == instance_pb2.Instance.STATE_CREATING
        eventually(lambda: disks_on(troubled, instance.id))
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", domain) as refusal:
            change(troubled, instance.id, disk_id)
        assert {kind for kind, _ in refusal.violations} == {
            "INSTANCE_BUSY",
            "INSTANCE_STATE",
            *because_of_its_disks,
        }
    # Made after all, or given up when its deadline passed first.
    assert call.exception() is None or not instances_named(troubled, name)


def test_too_many_requests_at_once_are_turned_away_with_a_time_to_try_again(troubled: TroubledCloud):
    name = a_name("instance")
    request = compute_pb.CreateInstanceRequest(name=name, system_disk=compute_pb.NewDisk(size_bytes=MIB))
    with troubled.store_fails("create_volume", "broken"):
        # Those that are let in wait for the store: the others come one too many.
        calls = [troubled.instances.CreateInstance.future(request) for _ in range(2 * REQUESTS_ADMITTED)]
        one_too_many = eventually(lambda: next((call for call in calls if call.done()), None))
    with refused("RESOURCE_EXHAUSTED", "OVERLOADED") as refusal:
        one_too_many.result()
    assert refusal.retry_after_seconds is not None
    assert 0 < refusal.retry_after_seconds < 10
    made = [call.result().instance.id for call in calls if call.exception() is None]
    assert sorted(instance.id for instance in instances_named(troubled, name)) == sorted(made)
    assert len(made) <= REQUESTS_ADMITTED


@dataclass(slots=True)
class Outage:
    """What was asked while disk_svc was not there, and how it was answered. It is back by now."""

    machine: Machine
    whole: instance_snapshot_pb2.InstanceSnapshot
    stopped: Machine
    attached: str
    calls: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    errors: dict[str, grpc.RpcError] = field(default_factory=dict)

    def again(self, name: str) -> Any:
        """The answer to the very same request, by its request_id."""
        method, request = self.calls[name]
        return method(request)


@pytest.fixture(scope="module")
def outage(troubled: TroubledCloud) -> Outage:
    machine = troubled.an_instance(data_disks=1, stopped=True)
    troubled.write(machine.system_disk_id, (0, b"then"))
    found = Outage(
        machine=machine,
        whole=troubled.an_instance_snapshot(machine.id),
        stopped=troubled.an_instance(data_disks=1, stopped=True),
        attached=troubled.a_disk(),
    )
    other, another = troubled.an_instance(), troubled.an_instance(data_disks=1)
    to_roll_back = troubled.an_instance(stopped=True)
    its_snapshot = troubled.a_disk_snapshot(to_roll_back.system_disk_id)
    troubled.write(to_roll_back.system_disk_id, (0, b"now!"))
    to_snapshot, to_delete = troubled.an_instance(), troubled.an_instance()
    doomed = troubled.an_instance_snapshot(to_delete.id)
    instances, wholes = troubled.instances, troubled.instance_snapshots
    found.calls = {
        "create_instance": (
            instances.CreateInstance,
            compute_pb.CreateInstanceRequest(
                name=a_name("instance"), system_disk=compute_pb.NewDisk(size_bytes=MIB)
            ),
        ),
        "delete_instance": (
            instances.DeleteInstance,
            compute_pb.DeleteInstanceRequest(instance_id=found.stopped.id),
        ),
        "attach_disk": (
            instances.AttachDisk,
            compute_pb.AttachDiskRequest(instance_id=other.id, disk_id=found.attached),
        ),
        "detach_disk": (
            instances.DetachDisk,
            compute_pb.DetachDiskRequest(instance_id=another.id, disk_id=another.data_disk_ids[0]),
        ),
        "rollback_disk": (
            instances.RollbackDisk,
            compute_pb.RollbackDiskRequest(
                instance_id=to_roll_back.id, disk_id=to_roll_back.system_disk_id, snapshot_id=its_snapshot
            ),
        ),
        "create_whole": (
            wholes.CreateInstanceSnapshot,
            snapshot_pb.CreateInstanceSnapshotRequest(instance_id=to_snapshot.id),
        ),
        "roll_back": (
            wholes.RollbackInstanceSnapshot,
            snapshot_pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=found.whole.id),
        ),
        "delete_whole": (
            wholes.DeleteInstanceSnapshot,
            snapshot_pb.DeleteInstanceSnapshotRequest(instance_snapshot_id=doomed.id),
        ),
    }
    for _, request in found.calls.values():
        request.request_id = a_request_id()
    with troubled.without(Service.DISK):
        futures = {name: method.future(request) for name, (method, request) in found.calls.items()}
        found.errors = {name: future.exception() for name, future in futures.items()}
    return found


def unavailable(outage: Outage, name: str) -> str:
    """The operation that the answer named."""
    with refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE") as refusal:
        raise outage.errors[name]
    return refusal.metadata["operation_id"]


class TestWhenDiskSvcIsNotThere:
    def test_create_instance_is_undone_and_may_be_tried_again(self, troubled: TroubledCloud, outage: Outage):
        operation = troubled.rest(unavailable(outage, "create_instance"))
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        name = outage.calls["create_instance"][1].name
        assert not instances_named(troubled, name)
        answer = outage.again("create_instance")
        assert [instance.id for instance in instances_named(troubled, name)] == [answer.instance.id]

    def test_delete_instance_goes_on_behind(self, troubled: TroubledCloud, outage: Outage):
        operation_id = unavailable(outage, "delete_instance")
        troubled.finish(operation_id)
        answer = outage.again("delete_instance")
        assert answer.operation_id == operation_id
        assert list(answer.detached_disk_ids) == outage.stopped.data_disk_ids

    def test_attach_disk_goes_on_behind(self, troubled: TroubledCloud, outage: Outage):
        operation_id = unavailable(outage, "attach_disk")
        troubled.finish(operation_id)
        assert outage.again("attach_disk").operation_id == operation_id
        assert troubled.disk(outage.attached).state == disk_pb2.Disk.STATE_MOUNTED

    def test_detach_disk_goes_on_behind(self, troubled: TroubledCloud, outage: Outage):
        operation_id = unavailable(outage, "detach_disk")
        troubled.finish(operation_id)
        assert outage.again("detach_disk").operation_id == operation_id
        disk_id = outage.calls["detach_disk"][1].disk_id
        assert troubled.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_rollback_of_a_disk_goes_on_behind(self, troubled: TroubledCloud, outage: Outage):
        operation_id = unavailable(outage, "rollback_disk")
        troubled.finish(operation_id)
        assert outage.again("rollback_disk").operation_id == operation_id
        request = outage.calls["rollback_disk"][1]
        assert troubled.read(request.disk_id, 0, 4) == bytes(4)
        assert not troubled.instance(request.instance_id).operation_id

    def test_create_instance_snapshot_leaves_nothing_and_may_be_tried_again(
        self, troubled: TroubledCloud, outage: Outage
    ):
        operation = troubled.rest(unavailable(outage, "create_whole"))
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        instance_id = outage.calls["create_whole"][1].instance_id
        assert not troubled.instance(instance_id).operation_id
        assert not troubled.instance_snapshots_of(instance_id)
        troubled.finish(outage.again("create_whole").operation_id)

    def test_rollback_changes_nothing_and_may_be_tried_again(self, troubled: TroubledCloud, outage: Outage):
        operation = troubled.rest(unavailable(outage, "roll_back"))
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        assert not troubled.instance(outage.machine.id).operation_id
        assert troubled.instance_snapshot(outage.whole.id).state == State.STATE_AVAILABLE
        troubled.write(outage.machine.system_disk_id, (0, b"now!"))
        troubled.finish(outage.again("roll_back").operation_id)
        assert troubled.read(outage.machine.system_disk_id, 0, 4) == b"then"

    def test_delete_instance_snapshot_changes_nothing_and_may_be_tried_again(
        self, troubled: TroubledCloud, outage: Outage
    ):
        operation = troubled.rest(unavailable(outage, "delete_whole"))
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        whole_id = outage.calls["delete_whole"][1].instance_snapshot_id
        assert troubled.instance_snapshot(whole_id).state == State.STATE_AVAILABLE
        assert len(troubled.snapshots_of(instance_snapshot_id=whole_id)) == 1
        troubled.finish(outage.again("delete_whole").operation_id)

    def test_what_was_answered_before_it_died_is_there(self, troubled: TroubledCloud, outage: Outage):
        assert troubled.disk(outage.machine.system_disk_id).size_bytes == MIB
        [member] = [member for member in outage.whole.members if member.is_system_disk]
        assert troubled.read(member.snapshot_id, 0, 4) == b"then"


def test_a_writer_whose_service_dies_finds_every_answered_message_again(troubled: TroubledCloud):
    disk_id = troubled.a_disk()
    messages = (write_message(disk_id, (number, b"x")) for number in range(200))
    answers: Iterator[block_service_pb2.WriteBlocksResponse] = troubled.blocks.WriteBlocks(messages)
    durable = next(answers).messages_durable
    with troubled.without(Service.DISK):
        try:
            for answer in answers:
                durable = answer.messages_durable
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - it may also have ended in time
    assert troubled.read(disk_id, 0, durable) == b"x" * durable
    made = disk_service_pb2.CreateDiskRequest(name=a_name("disk"), size_bytes=MIB)
    assert troubled.disks.CreateDisk(made).disk.state == disk_pb2.Disk.STATE_DETACHED
