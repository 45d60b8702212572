"""design.md §4, across its rows: what a task on a disk bars, everything that bars at once, and what a debt does not bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2, disk_snapshot_pb2, disk_snapshot_service_pb2
from stillpoint.disk.v1 import participant_service_pb2 as participant
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, MIB, Cloud, Machine, a_name
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import refused
from tests.contract.troubled import TroubledCloud
from tests.support.waiting import eventually

State = instance_snapshot_pb2.InstanceSnapshot


def create_whole(
    cloud: Cloud, instance_id: str, *, validate_only: bool = False
) -> pb.CreateInstanceSnapshotResponse:
    request = pb.CreateInstanceSnapshotRequest(instance_id=instance_id, validate_only=validate_only)
    return cloud.instance_snapshots.CreateInstanceSnapshot(request)


def roll_back_whole(
    cloud: Cloud, instance_snapshot_id: str, *, validate_only: bool = False
) -> pb.RollbackInstanceSnapshotResponse:
    request = pb.RollbackInstanceSnapshotRequest(
        instance_snapshot_id=instance_snapshot_id, validate_only=validate_only
    )
    return cloud.instance_snapshots.RollbackInstanceSnapshot(request)


def delete_snapshot(cloud: Cloud, snapshot_id: str) -> None:
    request = disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id)
    cloud.finish(cloud.disk_snapshots.DeleteDiskSnapshot(request).operation_id)


# Tasks that last as long as a test wants: real operations that the block store keeps waiting.


@contextmanager
def kept_waiting(
    troubled: TroubledCloud, store_method: str, begin: Callable[[], Any], find: Callable[[], disk_pb2.Disk]
) -> Iterator[disk_pb2.Disk]:
    """The disk, while the operation that was begun works on it."""
    with troubled.store_fails(store_method, "broken"):
        begin()
        disk = eventually(lambda: found if (found := find()).operation_id else None)
        yield disk
    troubled.finish(disk.operation_id)


@contextmanager
def snapshotting(troubled: TroubledCloud, disk_id: str) -> Iterator[disk_pb2.Disk]:
    request = disk_snapshot_service_pb2.CreateDiskSnapshotRequest(disk_id=disk_id)
    begin = troubled.disk_snapshots.CreateDiskSnapshot.future
    with kept_waiting(troubled, "seal", lambda: begin(request), lambda: troubled.disk(disk_id)) as disk:
        yield disk


@contextmanager
def resizing(troubled: TroubledCloud, disk_id: str) -> Iterator[disk_pb2.Disk]:
    request = disk_service_pb2.ResizeDiskRequest(disk_id=disk_id, size_bytes=2 * MIB)
    begin = troubled.disks.ResizeDisk.future
    with kept_waiting(
        troubled, "resize_volume", lambda: begin(request), lambda: troubled.disk(disk_id)
    ) as disk:
        yield disk


@contextmanager
def rolling_back(troubled: TroubledCloud, disk_id: str, snapshot_id: str) -> Iterator[disk_pb2.Disk]:
    request = disk_service_pb2.RollbackDiskRequest(disk_id=disk_id, snapshot_id=snapshot_id)
    begin = troubled.disks.RollbackDisk.future
    with kept_waiting(troubled, "restore", lambda: begin(request), lambda: troubled.disk(disk_id)) as disk:
        yield disk


@contextmanager
def deleting(troubled: TroubledCloud, disk_id: str) -> Iterator[disk_pb2.Disk]:
    request = disk_service_pb2.DeleteDiskRequest(disk_id=disk_id)
    begin = troubled.disks.DeleteDisk.future
    with kept_waiting(
        troubled, "delete_volume", lambda: begin(request), lambda: troubled.disk(disk_id)
    ) as disk:
        yield disk


@contextmanager
def creating(troubled: TroubledCloud) -> Iterator[disk_pb2.Disk]:
    request = disk_service_pb2.CreateDiskRequest(name=a_name("disk"), size_bytes=MIB)
    newest = disk_service_pb2.ListDisksRequest(
        filter=disk_service_pb2.ListDisksRequest.Filter(state=disk_pb2.Disk.STATE_CREATING)
    )

    def find() -> disk_pb2.Disk:
        disks = troubled.disks.ListDisks(newest).disks
        return next((disk for disk in disks if disk.name == request.name), disk_pb2.Disk())

    begin = troubled.disks.CreateDisk.future
    with kept_waiting(troubled, "create_volume", lambda: begin(request), find) as disk:
        yield disk


class TestATaskOnADisk:
    """It bars every control operation, and the refusal says which task and whose."""

    def assert_bars_everything(
        self, troubled: TroubledCloud, machine: Machine, disk: disk_pb2.Disk, snapshot_id: str
    ) -> None:
        operations: dict[str, Callable[[], Any]] = {
            "create snapshot": lambda: troubled.a_disk_snapshot(disk.id),
            "resize": lambda: troubled.resize(disk.id, 4 * MIB),
            "delete": lambda: troubled.delete_disk(disk.id),
            "attach": lambda: troubled.attach(machine.id, disk.id),
        }
        if snapshot_id:
            operations["roll back"] = lambda: troubled.roll_back_disk(disk.id, snapshot_id)
        for operation in operations.values():
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                operation()
            assert refusal.metadata == {
                "disk_id": disk.id,
                "state": disk_pb2.Disk.State.Name(disk.state).removeprefix("STATE_"),
                "operation_id": disk.operation_id,
            }
        assert not troubled.instance(machine.id).operation_id

    def test_creating_bars_every_other(self, troubled: TroubledCloud):
        machine = troubled.an_instance()
        with creating(troubled) as disk:
            assert disk.state == disk_pb2.Disk.STATE_CREATING
            self.assert_bars_everything(troubled, machine, disk, "")

    def test_snapshotting_bars_every_other(self, troubled: TroubledCloud):
        machine, disk_id = troubled.an_instance(), troubled.a_disk()
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        with snapshotting(troubled, disk_id) as disk:
            assert disk.state == disk_pb2.Disk.STATE_SNAPSHOTTING
            self.assert_bars_everything(troubled, machine, disk, snapshot_id)

    def test_resizing_bars_every_other(self, troubled: TroubledCloud):
        machine, disk_id = troubled.an_instance(), troubled.a_disk()
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        with resizing(troubled, disk_id) as disk:
            assert disk.state == disk_pb2.Disk.STATE_RESIZING
            self.assert_bars_everything(troubled, machine, disk, snapshot_id)

    def test_rolling_back_bars_every_other(self, troubled: TroubledCloud):
        machine, disk_id = troubled.an_instance(), troubled.a_disk()
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        with rolling_back(troubled, disk_id, snapshot_id) as disk:
            assert disk.state == disk_pb2.Disk.STATE_ROLLING_BACK
            self.assert_bars_everything(troubled, machine, disk, snapshot_id)

    def test_deleting_bars_every_other(self, troubled: TroubledCloud):
        machine, disk_id = troubled.an_instance(), troubled.a_disk()
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        with deleting(troubled, disk_id) as disk:
            assert disk.state == disk_pb2.Disk.STATE_DELETING
            self.assert_bars_everything(troubled, machine, disk, snapshot_id)

    def test_does_not_bar_a_new_disk_from_its_snapshot(self, troubled: TroubledCloud):
        disk_id = troubled.a_disk()
        troubled.write(disk_id, (0, b"then"))
        snapshot_id = troubled.a_disk_snapshot(disk_id)
        with deleting(troubled, disk_id):
            made = troubled.a_disk(source_snapshot_id=snapshot_id)
            assert troubled.read(made, 0, 4) == b"then"


class TestEverythingThatBarsAtOnce:
    @pytest.mark.parametrize("validate_only", [False, True])
    def test_a_creation_names_the_debt_the_lease_each_disk_with_a_task_and_each_full_one(
        self, troubled: TroubledCloud, validate_only: bool
    ):
        inside = Inside(troubled)
        machine = troubled.an_instance(data_disks=4)
        in_snapshot, in_resize, in_rollback, full = machine.data_disk_ids
        limit = len(troubled.fill_snapshot_slots(full))
        target = (in_rollback, troubled.a_disk_snapshot(in_rollback))
        with (
            troubled.account_in_debt(),
            inside.leased(machine.id),
            inside.rolling_back(target, instance_id=machine.id),
            snapshotting(troubled, in_snapshot),
            resizing(troubled, in_resize),
        ):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                create_whole(troubled, machine.id, validate_only=validate_only)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            *sorted(("DISK_BUSY", f"disk/{disk_id}") for disk_id in (in_snapshot, in_resize, in_rollback)),
            ("INSTANCE_BUSY", f"instance/{machine.id}"),
        ]
        for task in ("SNAPSHOTTING", "RESIZING", "ROLLING_BACK"):
            assert task in refusal.message
        [of_full] = refusal.quotas.values()
        assert (of_full.subject, of_full.quota_value) == (f"disk/{full}", limit)
        assert f"{limit} of {limit}" in of_full.description
        assert not troubled.instance_snapshots_of(machine.id)
        assert troubled.disk(machine.system_disk_id).manual_snapshots.used == 0
        delete_snapshot(troubled, troubled.snapshots_of(disk_id=full)[0].id)
        troubled.an_instance_snapshot(machine.id)

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_a_rollback_names_the_debt_the_instance_the_lease_and_each_disk_that_is_busy_gone_or_elsewhere(
        self, troubled: TroubledCloud, validate_only: bool
    ):
        inside = Inside(troubled)
        machine, other = troubled.an_instance(data_disks=6), troubled.an_instance()
        in_snapshot, in_resize, in_rollback, deleted, elsewhere, detached = machine.data_disk_ids
        whole = troubled.an_instance_snapshot(machine.id)
        [of_rolled] = [member.snapshot_id for member in whole.members if member.disk_id == in_rollback]
        for disk_id in (deleted, elsewhere, detached):
            troubled.detach(machine.id, disk_id)
        troubled.delete_disk(deleted)
        troubled.attach(other.id, elsewhere)
        with (
            troubled.account_in_debt(),
            inside.leased(machine.id),
            inside.rolling_back((in_rollback, of_rolled), instance_id=machine.id),
            snapshotting(troubled, in_snapshot),
            resizing(troubled, in_resize),
        ):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                roll_back_whole(troubled, whole.id, validate_only=validate_only)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            *sorted(("DISK_BUSY", f"disk/{disk_id}") for disk_id in (in_snapshot, in_resize, in_rollback)),
            ("DISK_NOT_FOUND", f"disk/{deleted}"),
            ("DISK_STATE", f"disk/{elsewhere}"),
            ("INSTANCE_BUSY", f"instance/{machine.id}"),
            ("INSTANCE_STATE", f"instance/{machine.id}"),
        ]
        now = troubled.instance_snapshot(whole.id)
        assert (now.state, now.operation_id, now.members) == (State.STATE_AVAILABLE, "", whole.members)

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_a_debt_is_named_also_when_the_instance_is_gone(self, cloud: Cloud, validate_only: bool):
        machine = cloud.an_instance(stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.delete_instance(machine.id)
        gone = [("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"), ("INSTANCE_NOT_FOUND", f"instance/{machine.id}")]
        with cloud.account_in_debt():
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                roll_back_whole(cloud, whole.id, validate_only=validate_only)
            assert sorted(refusal.violations) == sorted(
                [*gone, ("DISK_NOT_FOUND", f"disk/{machine.system_disk_id}")]
            )
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                create_whole(cloud, machine.id, validate_only=validate_only)
            assert sorted(refusal.violations) == gone

    def test_an_instance_that_is_being_deleted_is_neither_snapshotted_nor_rolled_back(
        self, troubled: TroubledCloud
    ):
        machine = troubled.an_instance(data_disks=1)
        whole = troubled.an_instance_snapshot(machine.id)
        troubled.stop(machine.id)
        request = instance_service_pb2.DeleteInstanceRequest(instance_id=machine.id)
        with troubled.store_fails("delete_volume", "broken"):
            call = troubled.instances.DeleteInstance.future(request)
            eventually(lambda: troubled.disk(machine.system_disk_id).operation_id)
            assert troubled.instance(machine.id).state == instance_pb2.Instance.STATE_DELETING
            for barred in (
                lambda: create_whole(troubled, machine.id),
                lambda: roll_back_whole(troubled, whole.id),
            ):
                with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                    barred()
                assert sorted(refusal.violations) == [
                    ("DISK_BUSY", f"disk/{machine.system_disk_id}"),
                    ("INSTANCE_BUSY", f"instance/{machine.id}"),
                    ("INSTANCE_STATE", f"instance/{machine.id}"),
                ]
                assert "DELETING" in refusal.message
        assert call.result().operation_id
        now = troubled.instance_snapshot(whole.id)
        assert (now.state, now.operation_id, now.members) == (State.STATE_AVAILABLE, "", whole.members)

    def test_an_instance_snapshot_that_is_being_made_is_neither_rolled_back_to_nor_deleted(
        self, troubled: TroubledCloud
    ):
        machine = troubled.an_instance(stopped=True)
        with troubled.store_fails("seal", "broken"):
            answer = create_whole(troubled, machine.id)
            whole_id = answer.instance_snapshot.id
            for barred in (troubled.roll_back, troubled.delete_instance_snapshot):
                with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                    barred(whole_id)
                assert refusal.metadata == {
                    "instance_snapshot_id": whole_id,
                    "state": "CREATING",
                    "operation_id": answer.operation_id,
                }
        troubled.rest(answer.operation_id)


def test_a_debt_bars_creating_and_rolling_back_instance_snapshots_and_nothing_else(cloud: Cloud):
    machine, other = cloud.an_instance(data_disks=1, stopped=True), cloud.an_instance(stopped=True)
    wholes = [cloud.an_instance_snapshot(machine.id) for _ in range(2)]
    [data_disk_id] = machine.data_disk_ids
    [member] = [member for member in wholes[0].members if member.disk_id == data_disk_id]
    alone = cloud.a_disk_snapshot(data_disk_id)
    with cloud.account_in_debt():
        for barred in (lambda: create_whole(cloud, machine.id), lambda: roll_back_whole(cloud, wholes[0].id)):
            with refused("FAILED_PRECONDITION", "ACCOUNT_IN_DEBT", COMPUTE):
                barred()
        cloud.roll_back_disk_on(machine.id, data_disk_id, member.snapshot_id)
        cloud.detach(machine.id, data_disk_id)
        cloud.roll_back_disk(data_disk_id, member.snapshot_id)
        cloud.resize(data_disk_id, 2 * MIB)
        cloud.attach(machine.id, data_disk_id)
        delete_snapshot(cloud, alone)
        delete_snapshot(cloud, cloud.a_disk_snapshot(data_disk_id))
        made = cloud.a_disk(source_snapshot_id=member.snapshot_id)
        cloud.delete_disk(made)
        cloud.start(machine.id)
        cloud.stop(machine.id)
        cloud.delete_instance(other.id)
        cloud.delete_instance_snapshot(wholes[0].id)
        batch = pb.BatchDeleteInstanceSnapshotsRequest(
            instance_snapshot_ids=[whole.id for whole in wholes[1:]]
        )
        for result in cloud.instance_snapshots.BatchDeleteInstanceSnapshots(batch).results:
            cloud.finish(result.operation_id)
    assert not cloud.instance_snapshots_of(machine.id)


@pytest.mark.parametrize("which", [0, 1], ids=["system disk", "data disk"])
def test_a_member_is_never_deleted_alone_but_makes_new_disks_and_is_rolled_back_to_alone(
    cloud: Cloud, which: int
):
    machine = cloud.an_instance(data_disks=1, stopped=True)
    disk_id, other = machine.disk_ids[which], machine.disk_ids[1 - which]
    for each in machine.disk_ids:
        cloud.write(each, (0, b"then"))
    whole = cloud.an_instance_snapshot(machine.id)
    [member] = [member for member in whole.members if member.disk_id == disk_id]
    with refused("FAILED_PRECONDITION", "MEMBER_OF_INSTANCE_SNAPSHOT", DISK):
        delete_snapshot(cloud, member.snapshot_id)
    assert cloud.read(cloud.a_disk(source_snapshot_id=member.snapshot_id), 0, 4) == b"then"
    for each in machine.disk_ids:
        cloud.write(each, (0, b"now!"))
    cloud.roll_back_disk_on(machine.id, disk_id, member.snapshot_id)
    assert [cloud.read(each, 0, 4) for each in (disk_id, other)] == [b"then", b"now!"]
    if not member.is_system_disk:
        cloud.detach(machine.id, disk_id)
        cloud.write(disk_id, (0, b"more"))
        cloud.roll_back_disk(disk_id, member.snapshot_id)
        assert cloud.read(disk_id, 0, 4) == b"then"
    assert cloud.instance_snapshot(whole.id) == whole
    cloud.roll_back(whole.id)
    assert cloud.read(other, 0, 4) == b"then"


def test_a_slot_is_taken_from_the_moment_a_snapshot_is_asked_for_until_it_is_gone(
    cloud: Cloud, inside: Inside
):
    machine = cloud.an_instance()

    def used() -> int:
        return cloud.disk(machine.system_disk_id).manual_snapshots.used

    with inside.snapshotting(machine.id):
        assert used() == 1
    assert used() == 0
    whole = cloud.an_instance_snapshot(machine.id)
    request = inside.deletion_request(whole.id)
    inside.disk.ReserveSnapshotDeletion(request)
    [snapshot] = cloud.snapshots_of(instance_snapshot_id=whole.id)
    assert (snapshot.state, used()) == (disk_snapshot_pb2.DiskSnapshot.STATE_DELETING, 1)
    inside.disk.WithdrawSnapshotDeletion(participant.WithdrawSnapshotDeletionRequest(key=request.key))
    cloud.delete_instance_snapshot(whole.id)
    assert used() == 0
