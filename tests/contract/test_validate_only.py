"""`validate_only` of CreateInstanceSnapshot and RollbackInstanceSnapshot: the same answer, and nothing changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from stillpoint.operation.v1 import event_service_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from stillpoint_cli.addresses import Service
from svckit.errors import Refusal
from tests.contract.cloud import ACCOUNT, Cloud, Machine, a_name, a_request_id, an_unknown_id
from tests.contract.error_tables import COMPUTE, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud

State = instance_snapshot_pb2.InstanceSnapshot


def create(cloud: Cloud, instance_id: str, **arguments: Any) -> pb.CreateInstanceSnapshotResponse:
    request = pb.CreateInstanceSnapshotRequest(instance_id=instance_id, **arguments)
    return cloud.instance_snapshots.CreateInstanceSnapshot(request)


def roll_back(cloud: Cloud, snapshot_id: str, **arguments: Any) -> pb.RollbackInstanceSnapshotResponse:
    request = pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=snapshot_id, **arguments)
    return cloud.instance_snapshots.RollbackInstanceSnapshot(request)


def everything_about(cloud: Cloud, machine: Machine) -> list[Any]:
    """What a change would show in: rows, leases, tasks, and the newest operation and event of every service."""
    newest = operation_service_pb2.ListOperationsRequest(page_size=1)
    latest = event_service_pb2.ListEventsRequest(page_size=1)
    return [
        cloud.instance(machine.id),
        [cloud.disk(disk_id) for disk_id in machine.disk_ids],
        list(cloud.instance_snapshots_of(machine.id)),
        [list(cloud.snapshots_of(disk_id=disk_id)) for disk_id in machine.disk_ids],
        [cloud.operations[service].ListOperations(newest).operations[:1] for service in Service],
        [cloud.events[service].ListEvents(latest).events[:1] for service in Service],
    ]


@contextmanager
def nothing_changed(cloud: Cloud, machine: Machine) -> Iterator[None]:
    before = everything_about(cloud, machine)
    yield
    assert everything_about(cloud, machine) == before


def refusal_of(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> dict[str, Any]:
    """Everything that it says. Not compared as bytes: those of a map have no order."""
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **keywords)
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type] # what a stub raises is a Call too
    assert status is not None
    refusal = Refusal.from_status(status)
    assert refusal is not None
    return {**vars(refusal)}


class TestValidatingACreation:
    def test_answers_what_would_be_cut_and_changes_nothing(self, cloud: Cloud):
        machine, name = cloud.an_instance(data_disks=2), a_name("whole")
        with nothing_changed(cloud, machine):
            answer = create(cloud, machine.id, name=name, validate_only=True)
        would_be = answer.instance_snapshot
        assert (would_be.name, would_be.account_id, would_be.instance_id) == (name, ACCOUNT, machine.id)
        assert (answer.operation_id, would_be.id, would_be.operation_id) == ("", "", "")
        assert would_be.state == State.STATE_UNSPECIFIED
        assert not would_be.HasField("cut_time")
        assert not would_be.HasField("create_time")
        whole = create(cloud, machine.id, name=name).instance_snapshot
        assert would_be.region == whole.region
        for member in whole.members:
            member.snapshot_id = ""
        assert would_be.members == whole.members

    def test_makes_the_name_and_has_the_system_disk_first_also_when_another_disk_is_older(self, cloud: Cloud):
        older = cloud.a_disk()
        machine = cloud.an_instance()
        cloud.attach(machine.id, older)
        would_be = create(cloud, machine.id, validate_only=True).instance_snapshot
        assert would_be.name.startswith(f"{machine.name}-")
        assert [member.disk_id for member in would_be.members] == [machine.system_disk_id, older]

    def test_is_refused_for_everything_at_once_as_the_creation_is(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=2)
        full, busy = machine.data_disk_ids
        cloud.fill_snapshot_slots(full)
        target = (busy, cloud.a_disk_snapshot(busy))
        with (
            cloud.account_in_debt(),
            inside.leased(machine.id),
            inside.rolling_back(target, instance_id=machine.id),
        ):
            with nothing_changed(cloud, machine):
                with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                    create(cloud, machine.id, validate_only=True)
            assert refusal_of(create, cloud, machine.id, validate_only=True) == refusal_of(
                create, cloud, machine.id
            )
        assert {kind for kind, _ in refusal.violations} == {"ACCOUNT_IN_DEBT", "DISK_BUSY", "INSTANCE_BUSY"}
        assert refusal.quotas.keys() == {f"disk/{full}"}

    def test_is_refused_for_a_disk_alone_as_the_creation_is(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        cloud.fill_snapshot_slots(machine.data_disk_ids[0])
        full = refusal_of(create, cloud, machine.id, validate_only=True)
        assert full == refusal_of(create, cloud, machine.id)
        other = cloud.an_instance(data_disks=1)
        with inside.snapshotting(other.id):
            busy = refusal_of(create, cloud, other.id, validate_only=True)
            assert busy == refusal_of(create, cloud, other.id)
        assert busy != full

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("i")
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE) as refusal:
            create(cloud, unknown, validate_only=True)
        assert refusal.metadata == {"instance_id": unknown}

    def test_fails_when_a_field_is_malformed(self, cloud: Cloud):
        with invalid("request_id", "instance_id", "name"):
            create(cloud, "No Id", name=" x", request_id="1", validate_only=True)

    def test_leaves_its_request_id_free_for_the_creation(self, cloud: Cloud):
        machine, request_id = cloud.an_instance(), a_request_id()
        for _ in range(2):
            create(cloud, machine.id, request_id=request_id, validate_only=True)
        answer = create(cloud, machine.id, request_id=request_id)
        cloud.finish(answer.operation_id)
        assert not create(cloud, machine.id, request_id=request_id, validate_only=True).operation_id
        assert create(cloud, machine.id, request_id=request_id) == answer

    @pytest.mark.parametrize("service", [Service.COMPUTE, Service.DISK])
    def test_fails_when_a_service_does_not_answer(self, troubled: TroubledCloud, service: Service):
        machine = troubled.an_instance()
        with troubled.without(service), refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE") as refusal:
            create(troubled, machine.id, validate_only=True)
        assert refusal.metadata == {}
        troubled.an_instance_snapshot(machine.id)


class TestValidatingARollback:
    def test_answers_the_snapshot_as_it_is_and_what_would_be_left_alone_and_changes_nothing(
        self, cloud: Cloud
    ):
        machine = cloud.an_instance(data_disks=1)
        whole = cloud.an_instance_snapshot(machine.id)
        later = cloud.a_disk()
        cloud.attach(machine.id, later)
        cloud.write(machine.system_disk_id, (0, b"stays"))
        cloud.stop(machine.id)
        with nothing_changed(cloud, machine):
            answer = roll_back(cloud, whole.id, validate_only=True)
        assert answer == pb.RollbackInstanceSnapshotResponse(
            instance_snapshot=whole, untouched_disk_ids=[later]
        )
        assert cloud.read(machine.system_disk_id, 0, 5) == b"stays"

    def test_is_refused_for_everything_at_once_as_the_rollback_is(self, cloud: Cloud, inside: Inside):
        machine, other = cloud.an_instance(data_disks=3), cloud.an_instance()
        elsewhere, deleted, busy = machine.data_disk_ids
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.detach(machine.id, elsewhere)
        cloud.attach(other.id, elsewhere)
        cloud.detach(machine.id, deleted)
        cloud.delete_disk(deleted)
        [snapshot_of_busy] = [member.snapshot_id for member in whole.members if member.disk_id == busy]
        there = Machine(machine.id, machine.name, machine.system_disk_id, [elsewhere, busy])
        with (
            cloud.account_in_debt(),
            inside.rolling_back((busy, snapshot_of_busy), instance_id=machine.id),
        ):
            with nothing_changed(cloud, there):
                with refused("FAILED_PRECONDITION", "PRECONDITIONS", SNAPSHOT) as refusal:
                    roll_back(cloud, whole.id, validate_only=True)
            assert refusal_of(roll_back, cloud, whole.id, validate_only=True) == refusal_of(
                roll_back, cloud, whole.id
            )
        assert len(refusal.violations) == 5

    def test_is_refused_for_a_disk_alone_as_the_rollback_is(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        with inside.snapshotting(machine.id), nothing_changed(cloud, machine):
            validated = refusal_of(roll_back, cloud, whole.id, validate_only=True)
        with inside.leased(machine.id):
            busy = refusal_of(roll_back, cloud, whole.id, validate_only=True)
            assert busy == refusal_of(roll_back, cloud, whole.id)
        assert validated != busy

    def test_fails_when_the_instance_snapshot_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            roll_back(cloud, an_unknown_id("isnap"), validate_only=True)

    def test_fails_when_the_id_is_malformed(self, cloud: Cloud):
        with invalid("instance_snapshot_id"):
            roll_back(cloud, "No Id", validate_only=True)

    def test_fails_while_an_operation_works_on_it(self, troubled: TroubledCloud):
        whole = troubled.an_instance_snapshot(troubled.an_instance(stopped=True).id)
        with troubled.store_fails("restore", "broken"):
            answer = roll_back(troubled, whole.id)
            with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
                roll_back(troubled, whole.id, validate_only=True)
            assert refusal_of(roll_back, troubled, whole.id, validate_only=True) == refusal_of(
                roll_back, troubled, whole.id
            )
        assert refusal.metadata["operation_id"] == answer.operation_id
        troubled.finish(answer.operation_id)

    def test_leaves_its_request_id_free_for_the_rollback(self, cloud: Cloud):
        request_id = a_request_id()
        whole = cloud.an_instance_snapshot(cloud.an_instance(stopped=True).id)
        roll_back(cloud, whole.id, request_id=request_id, validate_only=True)
        cloud.finish(roll_back(cloud, whole.id, request_id=request_id).operation_id)

    @pytest.mark.parametrize("service", [Service.COMPUTE, Service.DISK])
    def test_fails_when_a_service_does_not_answer(self, troubled: TroubledCloud, service: Service):
        machine = troubled.an_instance(stopped=True)
        whole = troubled.an_instance_snapshot(machine.id)
        with troubled.without(service), refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE") as refusal:
            roll_back(troubled, whole.id, validate_only=True)
        assert refusal.metadata == {}
        assert troubled.instance_snapshot(whole.id) == whole
