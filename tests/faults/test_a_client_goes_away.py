"""A client that sends a request and is gone: "a client's passed deadline stops nothing that was accepted" (design.md §7)."""

import grpc
import pytest

from stillpoint.snapshot.v1 import instance_snapshot_service_pb2, instance_snapshot_service_pb2_grpc
from stillpoint_cli.addresses import Service
from tests.faults.stage import REST_SECONDS, Machine, Stage, new_request_id


def send_and_leave(stage: Stage, machine: Machine, request_id: str, timeout_seconds: float | None) -> None:
    """Send a creation; without a timeout, close the channel at once instead."""
    request = instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
        request_id=request_id, instance_id=machine.id
    )
    with grpc.insecure_channel(stage.address(Service.SNAPSHOT)) as channel:
        grpc.channel_ready_future(channel).result(REST_SECONDS)
        stub = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(channel)
        call = stub.CreateInstanceSnapshot.future(request, timeout=timeout_seconds)
        if timeout_seconds is not None:
            call.exception()


@pytest.mark.parametrize("timeout_seconds", [0.001, 0.003, 0.006, 0.012, None])
def test_a_client_is_gone_right_after_its_request_and_asking_again_finds_one_effect(
    stage: Stage, timeout_seconds: float | None
):
    machine = stage.make_machine()
    for expected in range(1, 9):
        request_id = new_request_id()
        send_and_leave(stage, machine, request_id, timeout_seconds)
        answer = stage.begin_snapshot(machine, request_id).result()
        assert stage.outcome(answer.operation_id) == "SUCCEEDED"
        assert stage.begin_snapshot(machine, request_id).result() == answer
        assert stage.states_of(machine) == ["AVAILABLE"] * expected
    stage.assert_nothing_left()


def test_clients_that_all_go_away_leave_a_deployment_that_comes_to_rest_by_itself(stage: Stage):
    machines = [stage.make_machine() for _ in range(8)]
    for machine in machines:
        send_and_leave(stage, machine, new_request_id(), 0.004)
        send_and_leave(stage, machine, new_request_id(), None)
    stage.assert_nothing_left()
    for machine in machines:
        assert set(stage.states_of(machine)) <= {"AVAILABLE"}
        stage.take_snapshot(machine)
    stage.assert_nothing_left()


@pytest.mark.parametrize("place", ["after LeaseInstance", "before store.cut", "after CreateConsistencyPoint"])
def test_a_client_that_goes_away_in_the_middle_of_a_step_stops_nothing(stage: Stage, place: str):
    machine = stage.make_machine()
    request_id = new_request_id()
    gate, call = stage.stopped_at(place, lambda: stage.begin_snapshot(machine, request_id))
    call.cancel()
    gate.let_go()
    stage.come_to_rest()
    assert stage.states_of(machine) == ["AVAILABLE"]
    answer = stage.begin_snapshot(machine, request_id).result()
    assert [snapshot.id for snapshot in stage.snapshots_of(machine)] == [answer.instance_snapshot.id]
    stage.assert_nothing_left()
