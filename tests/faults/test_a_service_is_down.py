"""compute_svc or disk_svc does not answer: "UNAVAILABLE / DEPENDENCY_UNAVAILABLE: […] did not answer within the deadline for the
moment (30 s); nothing is left; try again with the same `request_id`."
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.operation.v1 import operation_pb2
from stillpoint_cli.addresses import Service
from tests.faults.conftest import Stages
from tests.faults.positions import creation_on, deletion_on, rollback_on
from tests.faults.stage import DISK_BYTES, REST_SECONDS, Stage, new_request_id, refusal_of
from tests.support.waiting import eventually

DEADLINE_SECONDS = 2.0
ANSWER_SECONDS = DEADLINE_SECONDS + 2.0 + 3.0
"""The deadline, the patience for the undoing, and what a busy machine adds."""

COMPENSATING = operation_pb2.Operation.STATE_COMPENSATING
PREPARE = {"create": creation_on, "roll back": rollback_on, "delete": deletion_on}


@pytest.fixture
def hasty(stages: Stages) -> Iterator[Stage]:
    """A stage that gives up soon."""
    given = stages(DEADLINE_SECONDS)
    yield given
    given.gates.lose_all()


def assert_refused_in_time(calls: list[Any], began: float | None = None) -> None:
    began = began or time.monotonic()
    refusals = [refusal_of(call) for call in calls]
    assert time.monotonic() - began < ANSWER_SECONDS
    assert {(refusal.code, refusal.reason) for refusal in refusals} == {
        (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    }


@pytest.mark.parametrize(
    ("missing", "operations"),
    [(Service.COMPUTE, ["create", "roll back"]), (Service.DISK, ["create", "roll back", "delete"])],
)
def test_while_a_service_is_down_requests_are_refused_in_time_and_when_it_is_back_the_same_requests_work(
    hasty: Stage, missing: Service, operations: list[str]
):
    machines = [PREPARE[operation](hasty) for operation in operations]
    before = [hasty.states_of(machine) for machine, _ in machines]
    request_ids = [new_request_id() for _ in machines]

    def send_all() -> list[Any]:
        return [begin(request_id) for (_, begin), request_id in zip(machines, request_ids, strict=True)]

    hasty.kill(missing)
    assert_refused_in_time(send_all())
    # What cannot be undone yet is not begun anew either.
    assert_refused_in_time(send_all())
    hasty.restart(missing)
    hasty.come_to_rest()

    assert [hasty.states_of(machine) for machine, _ in machines] == before
    assert [hasty.instance(machine).operation_id for machine, _ in machines] == [""] * len(machines)
    members = [len(hasty.disk_snapshots_of(machine)) for machine, _ in machines]
    assert members == [
        len(states) * len(machine.disk_ids) for states, (machine, _) in zip(before, machines, strict=True)
    ]
    hasty.assert_nothing_left()
    for call in send_all():
        assert hasty.outcome(call.result().operation_id) == "SUCCEEDED"
    hasty.assert_nothing_left()


def test_a_service_that_hangs_is_not_waited_for_longer_than_the_deadline(hasty: Stage):
    unanswered = ["before LeaseInstance", "before CreateConsistencyPoint", "before store.cut"]
    machines = [creation_on(hasty) for _ in unanswered]
    began = time.monotonic()
    stopped = [
        hasty.stopped_at(place, partial(begin, new_request_id()))
        for place, (_, begin) in zip(unanswered, machines, strict=True)
    ]
    assert_refused_in_time([call for _, call in stopped], began)
    assert [hasty.states_of(machine) for machine, _ in machines] == [[]] * len(machines)
    for gate, _ in stopped:
        gate.let_go()
    hasty.assert_nothing_left()
    for machine, _ in machines:
        hasty.take_snapshot(machine)
    hasty.assert_nothing_left()


def test_when_sealing_hangs_beyond_the_deadline_the_snapshot_rests_in_error_and_its_slots_are_free(
    hasty: Stage,
):
    machine, begin = creation_on(hasty)
    gate, call = hasty.stopped_at("before store.seal", lambda: begin(new_request_id()))
    assert hasty.outcome(call.result().operation_id) == "FAILED"
    assert hasty.states_of(machine) == ["ERROR"]
    assert hasty.snapshots_of(machine)[0].state_reason
    gate.let_go()
    assert hasty.disk_snapshots_of(machine) == []
    hasty.assert_nothing_left()


@pytest.mark.parametrize("missing", [Service.COMPUTE, Service.DISK])
def test_a_service_that_comes_back_within_the_deadline_is_waited_for(stage: Stage, missing: Service):
    machine, begin = creation_on(stage)
    stage.kill(missing)
    call = begin(new_request_id())
    eventually(
        lambda: any(operation.attempts > 1 for operation in stage.unfinished(Service.SNAPSHOT)),
        what="a second try",
    )
    stage.restart(missing)
    answer = call.result()
    assert answer.instance_snapshot.HasField("cut_time")
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    assert stage.states_of(machine) == ["AVAILABLE"]
    stage.assert_nothing_left()


def test_past_the_point_of_no_return_a_snapshot_waits_for_disk_svc_longer_than_any_deadline(hasty: Stage):
    machine, begin = creation_on(hasty)
    gate, call = hasty.stopped_at("before FinishConsistencyPoint", lambda: begin(new_request_id()))
    answer = call.result()
    hasty.kill(Service.DISK)
    gate.lose()
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + DEADLINE_SECONDS, what="the deadline")
    eventually(lambda: hasty.operation(answer.operation_id).attempts > 1, what="a second try")
    assert hasty.states_of(machine) == ["CREATING"]
    hasty.restart(Service.DISK)
    assert hasty.outcome(answer.operation_id) == "SUCCEEDED"
    assert hasty.states_of(machine) == ["AVAILABLE"]
    hasty.assert_nothing_left()


def test_an_undo_that_cannot_reach_disk_svc_is_seen_being_tried_again_and_holds_the_machine_until_it_is_done(
    hasty: Stage,
):
    machine, begin = creation_on(hasty)
    gate, call = hasty.stopped_at("after CreateConsistencyPoint", lambda: begin(new_request_id()))
    hasty.kill(Service.DISK)
    gate.lose()
    assert refusal_of(call).reason == "DEPENDENCY_UNAVAILABLE"
    [operation] = hasty.unfinished(Service.SNAPSHOT)
    assert operation.state == COMPENSATING
    assert operation.current_step == "cut"
    eventually(lambda: hasty.operation(operation.id).attempts > 1, what="a second try")
    assert hasty.instance(machine).operation_id == operation.id
    hasty.restart(Service.DISK)
    hasty.come_to_rest()
    assert hasty.instance(machine).operation_id == ""
    assert hasty.states_of(machine) == []
    hasty.assert_nothing_left()


@pytest.mark.parametrize("how", ["down", "hanging"])
def test_a_machine_whose_disks_cannot_be_made_in_time_is_refused_and_the_same_request_works_later(
    hasty: Stage, how: str
):
    request = instance_service_pb2.CreateInstanceRequest(
        request_id=new_request_id(),
        name="late",
        system_disk=instance_service_pb2.NewDisk(size_bytes=DISK_BYTES),
    )
    gate = hasty.gates.close("before CreateInstanceDisks")
    began = time.monotonic()
    if how == "down":
        hasty.kill(Service.DISK)
        gate.lose()
    assert_refused_in_time([hasty.instances.CreateInstance.future(request, timeout=REST_SECONDS)], began)
    gate.let_go()
    if how == "down":
        hasty.restart(Service.DISK)
    hasty.assert_nothing_left()
    named = instance_service_pb2.ListInstancesRequest.Filter(name="late")
    listed = hasty.instances.ListInstances(instance_service_pb2.ListInstancesRequest(filter=named))
    assert list(listed.instances) == []
    made = hasty.instances.CreateInstance(request)
    assert hasty.outcome(made.operation_id) == "SUCCEEDED"
    hasty.instances.StopInstance(instance_service_pb2.StopInstanceRequest(instance_id=made.instance.id))
    hasty.instances.DeleteInstance(instance_service_pb2.DeleteInstanceRequest(instance_id=made.instance.id))
    hasty.assert_nothing_left()
