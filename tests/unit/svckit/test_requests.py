"""What is counted and logged of each RPC, on a real server, however it ends."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
import structlog
from prometheus_client import CollectorRegistry

from stillpoint.operation.v1 import operation_service_pb2, operation_service_pb2_grpc
from stillpoint.operation.v1.operation_service_pb2 import (
    GetOperationRequest,
    GetOperationResponse,
    WatchOperationRequest,
    WatchOperationResponse,
)
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from svckit.caller import Caller, acting_as
from svckit.errors import OperationNotFound
from svckit.logs import name_the_caller
from svckit.operations import OperationServicer
from svckit.server import Registration
from svckit.telemetry.requests import Requests, RpcMetrics, passed_on
from tests.support.servers import served
from tests.support.waiting import eventually

SERVICE = "stillpoint.operation.v1.OperationService"


class _Servicer(OperationServicer):
    def __init__(self) -> None:  # without an engine: what needs one is not asked
        self.bound: dict[str, Any] = {}
        self.passed_on: tuple[tuple[str, str], ...] = ()

    def GetOperation(self, request: GetOperationRequest, context: Any) -> GetOperationResponse:
        self.bound = structlog.contextvars.get_contextvars()
        self.passed_on = passed_on()
        if request.operation_id == "missing":
            raise OperationNotFound("missing")
        if request.operation_id == "broken":
            raise ValueError
        return GetOperationResponse()

    async def WatchOperation(
        self, request: WatchOperationRequest, context: Any
    ) -> AsyncIterator[WatchOperationResponse]:
        while True:
            yield WatchOperationResponse()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def servicer() -> _Servicer:
    return _Servicer()


@pytest.fixture
def channel(registry: CollectorRegistry, servicer: _Servicer) -> Iterator[grpc.Channel]:
    registration = Registration(
        operation_service_pb2_grpc.add_OperationServiceServicer_to_server,
        servicer,
        operation_service_pb2.DESCRIPTOR.services_by_name["OperationService"],
    )
    with served([registration], instruments=[Requests(RpcMetrics(registry))]) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> OperationServiceStub:
    return OperationServiceStub(channel)


@pytest.fixture
def count(registry: CollectorRegistry) -> Callable[..., float]:
    def count(what: str, method: str, **labels: str) -> float:
        found = registry.get_sample_value(
            f"stillpoint_rpc_{what}", {"grpc_service": SERVICE, "grpc_method": method, **labels}
        )
        return found or 0.0

    return count


@pytest.mark.parametrize(
    ("operation_id", "code"), [("there", "OK"), ("missing", "NOT_FOUND"), ("broken", "INTERNAL")]
)
def test_a_request_is_counted_by_how_it_ended(
    stub: OperationServiceStub, count: Callable[..., float], operation_id: str, code: str
):
    call = stub.GetOperation.with_call
    try:
        call(GetOperationRequest(operation_id=operation_id), timeout=30)
    except grpc.RpcError:
        assert code != "OK"
    eventually(lambda: count("handled_total", "GetOperation", grpc_code=code))
    assert count("handled_total", "GetOperation", grpc_code=code) == 1
    assert count("started_total", "GetOperation") == 1
    assert count("duration_seconds_count", "GetOperation") == 1
    assert count("in_flight", "GetOperation") == 0


def test_a_stream_is_under_way_until_its_client_goes_away_and_counts_as_cancelled(
    stub: OperationServiceStub, count: Callable[..., float]
):
    stream = stub.WatchOperation(WatchOperationRequest(operation_id="x"), timeout=30)
    next(stream)
    assert count("in_flight", "WatchOperation") == 1
    stream.cancel()
    eventually(lambda: count("handled_total", "WatchOperation", grpc_code="CANCELLED"))
    assert count("in_flight", "WatchOperation") == 0


def test_methods_that_nobody_serves_are_counted_together(channel: grpc.Channel, registry: CollectorRegistry):
    for name in ("One", "Two"):
        made_up: Any = channel.unary_unary(f"/{SERVICE}/{name}")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            made_up(b"", timeout=30)
    labels = {"grpc_service": "unknown", "grpc_method": "unknown", "grpc_code": "UNIMPLEMENTED"}
    assert registry.get_sample_value("stillpoint_rpc_handled_total", labels) == 2


def test_a_request_has_the_id_that_its_client_gave_it_and_passes_it_on(
    stub: OperationServiceStub, servicer: _Servicer
):
    stub.GetOperation(
        GetOperationRequest(operation_id="op-1"), timeout=30, metadata=(("x-request-id", "mine:1.a_b-c"),)
    )
    assert servicer.bound["request_id"] == "mine:1.a_b-c"
    assert servicer.bound["operation_id"] == "op-1"
    assert servicer.passed_on == (("x-request-id", "mine:1.a_b-c"),)


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, '{"level":"error"}'])
def test_an_id_of_another_form_is_not_taken(stub: OperationServiceStub, servicer: _Servicer, given: str):
    stub.GetOperation(
        GetOperationRequest(operation_id=given), timeout=30, metadata=(("x-request-id", given),)
    )
    assert len(servicer.bound["request_id"]) == 36
    assert "operation_id" not in servicer.bound


def test_two_requests_have_nothing_of_each_other(stub: OperationServiceStub, servicer: _Servicer):
    stub.GetOperation(GetOperationRequest(operation_id="op-1"), timeout=30)
    first = servicer.bound["request_id"]
    stub.GetOperation(GetOperationRequest(), timeout=30)
    assert servicer.bound["request_id"] != first
    assert "operation_id" not in servicer.bound


def test_a_line_of_a_request_or_a_saga_says_for_whom_it_is_unless_that_is_bound():
    def line(**bound: str) -> dict[str, str]:
        with acting_as(Caller("acme", "ann")):
            named: dict[str, str] = name_the_caller(None, "", bound)
        return named

    whose = {"account_id": "acme", "subject": "ann"}
    assert line(method="/x") == {"method": "/x", **whose}
    assert line(operation_id="op") == {"operation_id": "op", **whose}
    assert line(operation_id="op", account_id="other")["account_id"] == "other"
    assert line(event="serving") == {"event": "serving"}
