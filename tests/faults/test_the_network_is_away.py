"""The network between the services goes away: it refuses, it pauses, or it loses what is sent and says nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint_cli.addresses import Service
from svckit.channels import KEEPALIVE_SECONDS
from tests.faults.conftest import Stages
from tests.faults.positions import creation_on, rollback_on
from tests.faults.stage import DISK_BYTES, REST_SECONDS, Stage, new_request_id, refusal_of
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

DEADLINE_SECONDS = 2.0
ANSWER_SECONDS = DEADLINE_SECONDS + 2.0 + 3.0
"""The deadline, the patience for the undoing, and what a busy machine adds."""
NOTICED_SECONDS = 2 * KEEPALIVE_SECONDS
BUSY_SECONDS = 6.0

GOES: dict[str, Callable[[TcpProxy], None]] = {"refuses": TcpProxy.refuse, "pauses": TcpProxy.pause}
COMES_BACK: dict[str, Callable[[TcpProxy], None]] = {"refuses": TcpProxy.serve, "pauses": TcpProxy.go_on}


@pytest.fixture
def hasty(stages: Stages) -> Iterator[Stage]:
    """A stage that gives up soon."""
    given = stages(DEADLINE_SECONDS)
    yield given
    given.gates.lose_all()


def instance_creation(stage: Stage) -> Callable[[str], Any]:
    disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)
    return lambda request_id: stage.instances.CreateInstance.future(
        instance_service_pb2.CreateInstanceRequest(request_id=request_id, name="new", system_disk=disk),
        timeout=REST_SECONDS,
    )


@pytest.mark.parametrize("how", GOES)
def test_while_the_network_is_away_calls_are_unavailable_in_time_and_then_the_same_ones_work(
    hasty: Stage, how: str
):
    machine, create = creation_on(hasty)
    _, roll_back = rollback_on(hasty)
    requests = [(begin, new_request_id()) for begin in (create, roll_back, instance_creation(hasty))]
    for wire in hasty.wires.values():
        GOES[how](wire)
    began = time.monotonic()
    refusals = [refusal_of(call) for call in [begin(request_id) for begin, request_id in requests]]
    assert time.monotonic() - began < ANSWER_SECONDS
    assert {(refusal.code, refusal.reason) for refusal in refusals} == {
        (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    }
    for wire in hasty.wires.values():
        COMES_BACK[how](wire)
    hasty.come_to_rest()
    assert hasty.states_of(machine) == []
    for begin, request_id in requests:
        assert hasty.outcome(begin(request_id).result().operation_id) == "SUCCEEDED"
    assert hasty.states_of(machine) == ["AVAILABLE"]
    hasty.assert_nothing_left()


@pytest.mark.by_hand
@pytest.mark.parametrize("how", GOES)
def test_a_saga_waits_for_a_network_that_comes_back_within_its_deadline_or_when_it_can_only_go_forward(
    stage: Stage, how: str
):
    machine, create = creation_on(stage)
    other, begin = creation_on(stage)
    gate, call = stage.stopped_at("before FinishConsistencyPoint", lambda: begin(new_request_id()))
    past_its_pivot = call.result().operation_id
    for wire in stage.wires.values():
        GOES[how](wire)
    gate.lose()
    creation = create(new_request_id())
    eventually(lambda: len(stage.unfinished(Service.SNAPSHOT)) == 2, what="both sagas")
    time.sleep(1)
    assert not creation.done()
    for wire in stage.wires.values():
        COMES_BACK[how](wire)
    for operation_id in (past_its_pivot, creation.result().operation_id):
        assert stage.outcome(operation_id) == "SUCCEEDED"
    assert stage.states_of(machine) == stage.states_of(other) == ["AVAILABLE"]
    stage.assert_nothing_left()


def test_a_connection_that_looks_alive_and_carries_nothing_is_left_in_bounded_time(stage: Stage):
    machine, create = creation_on(stage)
    other, begin = creation_on(stage)
    gate, call = stage.stopped_at("before FinishConsistencyPoint", lambda: begin(new_request_id()))
    past_its_pivot = call.result().operation_id
    lost = [wire.lose_connections() for wire in stage.wires.values()]
    assert all(lost)
    gate.let_go()  # what it answers is lost
    began = time.monotonic()
    calls = [create(new_request_id()), instance_creation(stage)(new_request_id())]
    ended = [
        stage.outcome(operation_id)
        for operation_id in (past_its_pivot, *(each.result().operation_id for each in calls))
    ]
    assert ended == ["SUCCEEDED"] * 3
    assert time.monotonic() - began < NOTICED_SECONDS + BUSY_SECONDS
    assert stage.states_of(machine) == stage.states_of(other) == ["AVAILABLE"]
    stage.assert_nothing_left()
