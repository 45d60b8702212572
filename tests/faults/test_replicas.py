"""Two processes each of snapshot_svc and compute_svc on one PostgreSQL database: clients ask either, and when one of them
is killed the other one takes over what it had begun. Nobody restarts the dead.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2, instance_service_pb2_grpc
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2_grpc
from stillpoint_cli.addresses import Service
from tests.faults.positions import (
    Position,
    bring_into_position,
    creation_on,
    deletion_on,
    deliver_ghosts,
    machines_for,
    rollback_on,
    states,
    words,
)
from tests.faults.stage import DISK_BYTES, REST_SECONDS, Machine, Stage, new_request_id, state_name
from tests.support.replicas import Replica, replica_of
from tests.support.waiting import eventually

MANY = 16


pytestmark = pytest.mark.only_on_postgresql


@dataclass(frozen=True, slots=True)
class Second:
    """The second process of both, and the stubs that ask them."""

    compute: Replica
    snapshot: Replica
    instances: instance_service_pb2_grpc.InstanceServiceStub
    snapshots: instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub


@pytest.fixture
def second(stage: Stage) -> Iterator[Second]:
    with ExitStack() as held:
        compute, snapshot = (
            held.enter_context(replica_of(stage._deployment, service))
            for service in (Service.COMPUTE, Service.SNAPSHOT)
        )
        channels = [
            held.enter_context(grpc.insecure_channel(replica.address)) for replica in (compute, snapshot)
        ]
        yield Second(
            compute,
            snapshot,
            instance_service_pb2_grpc.InstanceServiceStub(channels[0]),
            instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(channels[1]),
        )


@contextmanager
def asking_the_second(stage: Stage, second: Second) -> Iterator[None]:
    """What the stage asks of snapshot_svc in this block, it asks of the second process."""
    first, stage.snapshots = stage.snapshots, second.snapshots
    try:
        yield
    finally:
        stage.snapshots = first


def assert_taken_over(stage: Stage, positions: dict[str, Position]) -> None:
    """The first process answers the very same requests: with what has become of them."""
    for position in positions.values():
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"


def test_what_one_snapshot_svc_had_begun_at_every_step_the_other_one_ends_when_it_is_killed(
    stage: Stage, second: Second
):
    creating = machines_for(
        stage,
        [
            "LeaseInstance",
            "CreateConsistencyPoint",
            "SealConsistencyPoint",
            "FinishConsistencyPoint",
            "ReleaseInstance",
        ],
        creation_on,
    )
    rolling_back = machines_for(stage, ["ReserveRollback", "ApplyRollback"], rollback_on)
    deleting = machines_for(stage, ["ReserveSnapshotDeletion", "ApplySnapshotDeletion"], deletion_on)
    with asking_the_second(stage, second):
        creations = bring_into_position(stage, creating)
        rollbacks = bring_into_position(stage, rolling_back)
        deletions = bring_into_position(stage, deleting)
    second.snapshot.kill()
    stage.come_to_rest()

    everything = [creations, rollbacks, deletions]
    assert states(stage, creations) == dict.fromkeys(creations, "AVAILABLE")
    assert words(stage, rollbacks) == dict.fromkeys(rollbacks, "old")
    assert states(stage, deletions) == dict.fromkeys(deletions, "")
    for positions in everything:
        assert_taken_over(stage, positions)
    stage.assert_nothing_left()
    before = [states(stage, positions) for positions in everything]
    for positions in everything:
        deliver_ghosts(positions)
    assert [states(stage, positions) for positions in everything] == before
    stage.assert_nothing_left()


def test_of_many_snapshots_that_two_share_none_is_lost_nor_taken_twice_when_one_is_killed(
    stage: Stage, second: Second
):
    machines = [stage.make_machine() for _ in range(MANY)]
    request_ids = [new_request_id() for _ in machines]
    calls: list[Any] = []
    for number, (machine, request_id) in enumerate(zip(machines, request_ids, strict=True)):
        if number % 2:
            with asking_the_second(stage, second):
                calls.append(stage.begin_snapshot(machine, request_id))
        else:
            calls.append(stage.begin_snapshot(machine, request_id))
    eventually(lambda: sum(call.done() for call in calls) >= MANY // 4, what="some answers")
    second.snapshot.kill()
    killed_in_the_middle = [operation.id for operation in stage.unfinished(Service.SNAPSHOT)]
    assert killed_in_the_middle

    for machine, request_id, call in zip(machines, request_ids, calls, strict=True):
        answer = stage.begin_snapshot(machine, request_id).result()
        assert stage.outcome(answer.operation_id) == "SUCCEEDED"
        assert [snapshot.id for snapshot in stage.snapshots_of(machine)] == [answer.instance_snapshot.id]
        if call.exception() is None:
            assert call.result() == answer
    stage.assert_nothing_left()


def test_the_same_request_to_the_other_process_waits_for_the_saga_and_gets_its_answer(
    stage: Stage, second: Second
):
    machine, request_id = stage.make_machine(), new_request_id()
    with asking_the_second(stage, second):
        gate, first_call = stage.stopped_at(
            "before CreateConsistencyPoint", lambda: stage.begin_snapshot(machine, request_id)
        )
    again = stage.begin_snapshot(machine, request_id)
    with pytest.raises(grpc.FutureTimeoutError):
        again.result(timeout=1)
    gate.let_go()
    assert again.result() == first_call.result()
    assert len(stage.snapshots_of(machine)) == 1
    with asking_the_second(stage, second):
        assert stage.outcome(again.result().operation_id) == "SUCCEEDED"
        assert state_name(stage.snapshots_of(machine)[0]) == "AVAILABLE"
    stage.assert_nothing_left()


def test_what_one_compute_svc_had_begun_the_other_one_ends_when_it_is_killed(stage: Stage, second: Second):
    new_disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)

    def making(asked: instance_service_pb2_grpc.InstanceServiceStub, request_id: str) -> Any:
        return asked.CreateInstance.future(
            instance_service_pb2.CreateInstanceRequest(
                request_id=request_id, name="taken-over", system_disk=new_disk
            ),
            timeout=REST_SECONDS,
        )

    def detaching(
        asked: instance_service_pb2_grpc.InstanceServiceStub, machine: Machine, request_id: str
    ) -> Any:
        return asked.DetachDisk.future(
            instance_service_pb2.DetachDiskRequest(
                request_id=request_id, instance_id=machine.id, disk_id=machine.disk_ids[-1]
            ),
            timeout=REST_SECONDS,
        )

    makings = {f"{when} CreateInstanceDisks": new_request_id() for when in ("before", "after")}
    detachings = {
        f"{when} DetachDisk": (stage.make_machine(), new_request_id()) for when in ("before", "after")
    }
    for place, request_id in makings.items():
        stage.stopped_at(place, partial(making, second.instances, request_id))
    for place, (machine, request_id) in detachings.items():
        stage.stopped_at(place, partial(detaching, second.instances, machine, request_id))
    second.compute.kill()
    stage.come_to_rest()

    for request_id in makings.values():
        made = making(stage.instances, request_id).result()
        assert stage.outcome(made.operation_id) == "SUCCEEDED"
        assert stage.instance(Machine(made.instance.id, [])).system_disk_id == made.instance.system_disk_id
    for machine, request_id in detachings.values():
        assert (
            stage.outcome(detaching(stage.instances, machine, request_id).result().operation_id)
            == "SUCCEEDED"
        )
        assert stage.disk(machine.disk_ids[-1]).instance_id == ""
        assert stage.instance(machine).operation_id == ""
    named = instance_service_pb2.ListInstancesRequest.Filter(name="taken-over")
    listed = stage.instances.ListInstances(instance_service_pb2.ListInstancesRequest(filter=named)).instances
    assert len(listed) == len(makings)
    stage.assert_nothing_left()
