import re
from collections.abc import Callable
from typing import Any

import grpc
from typer.testing import Result

from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation, OperationError, OperationStep, OperationViolation
from tests.unit.cli.fake_services import FakeServices, Refusal, serve_operation

Run = Callable[..., Result]


def step(name: str, *, undo: bool = False) -> OperationStep:
    return OperationStep(name=name, undo=undo, attempt=1)


def test_watch_prints_each_step_once(services: FakeServices, run: Run):
    steps = [step("accepted"), step("lease"), step("point"), step("succeeded")]
    serve_operation(
        services,
        Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=steps[:1]),
        Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=steps[:3]),
        Operation(id="op-s-1", state=Operation.STATE_SUCCEEDED, steps=steps),
    )
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 0, result.output
    assert re.findall(r"^[\d:.]+  (\w+)$", result.stdout, re.MULTILINE) == [
        "accepted",
        "lease",
        "point",
        "succeeded",
    ]


def test_watch_opens_a_stream_that_broke_again(services: FakeServices, run: Run):
    begun = Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=[step("accepted")])
    ended = Operation(
        id="op-s-1", state=Operation.STATE_SUCCEEDED, steps=[step("accepted"), step("succeeded")]
    )
    streams: list[list[Any]] = [[begun, Refusal(grpc.StatusCode.UNAVAILABLE, "going down")], [ended]]

    def answer(_request: Any) -> Any:
        for item in streams.pop(0):
            if isinstance(item, Refusal):
                raise item
            yield operation_pb2.WatchOperationResponse(operation=item)

    services.stream("OperationService/WatchOperation", operation_pb2.WatchOperationRequest, answer)
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("accepted") == 1
    assert "succeeded" in result.stdout


def test_an_operation_that_was_undone_says_why_and_ends_with_1(services: FakeServices, run: Run):
    error = OperationError(
        code=8,
        reason="STORE_FULL",
        message="the block store is full",
        violations=[OperationViolation(description="disk-1 is full")],
    )
    serve_operation(
        services,
        Operation(id="op-s-1", kind="create_instance_snapshot", state=Operation.STATE_FAILED, error=error),
    )
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 1
    assert (
        "operation op-s-1 (create_instance_snapshot) failed: the block store is full (STORE_FULL)"
        in result.stderr
    )
    assert "  • disk-1 is full" in result.stderr


def test_an_id_that_names_no_service_is_refused_before_anything_is_sent(services: FakeServices, run: Run):
    result = run("operation", "show", "disk-1")
    assert result.exit_code == 1
    assert "op-c-, op-d-, op-s-" in result.stderr
    assert services.requests == []
