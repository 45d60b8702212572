"""A real server over loopback: what its edge lets in, and what it lets out."""

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from stillpoint.operation.v1 import operation_pb2, operation_service_pb2, operation_service_pb2_grpc
from stillpoint.operation.v1.operation_service_pb2 import (
    AbandonOperationRequest,
    AbandonOperationResponse,
    GetOperationRequest,
    GetOperationResponse,
    ListOperationsRequest,
    ListOperationsResponse,
    RetryOperationRequest,
    RetryOperationResponse,
    WatchOperationRequest,
    WatchOperationResponse,
)
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceServicer, OperationServiceStub
from svckit.calls import Unanswered, call
from svckit.database import DatabaseAway
from svckit.errors import OperationNotFound, Overloaded, Refusal
from svckit.operations import registrations
from svckit.server import Registration
from tests.support.servers import free_port, served
from tests.unit.svckit.sample import Gate, Held, World


class _Troubled(OperationServiceServicer):
    """Every way in which a handler can end."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.loop_thread = ""

    def GetOperation(self, request: GetOperationRequest, context: Any) -> GetOperationResponse:
        if request.operation_id == "wait":
            self.gate.wait()
        elif request.operation_id == "missing":
            raise OperationNotFound("missing")
        elif request.operation_id == "away":
            raise DatabaseAway("connection to 10.0.0.7 failed")
        elif request.operation_id == "broken":
            raise ValueError("password=hunter2")
        thread = threading.current_thread().name
        return GetOperationResponse(operation=operation_pb2.Operation(id=thread))

    async def ListOperations(self, request: ListOperationsRequest, context: Any) -> ListOperationsResponse:
        if request.page_token == "block":
            self.gate.wait()
        raise ValueError("password=hunter2")

    def AbandonOperation(self, request: AbandonOperationRequest, context: Any) -> AbandonOperationResponse:
        raise Overloaded

    def RetryOperation(self, request: RetryOperationRequest, context: Any) -> RetryOperationResponse:
        raise Overloaded

    async def WatchOperation(
        self, request: WatchOperationRequest, context: Any
    ) -> AsyncIterator[WatchOperationResponse]:
        yield WatchOperationResponse()
        if request.operation_id == "missing":
            raise OperationNotFound("missing")
        raise ValueError("password=hunter2")


@pytest.fixture
def troubled() -> _Troubled:
    return _Troubled()


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def stub(troubled: _Troubled, address: str) -> Iterator[OperationServiceStub]:
    with served([_registration(troubled)], admitted=2, address=address) as channel:
        yield OperationServiceStub(channel)
        troubled.gate.open()


def _registration(servicer: OperationServiceServicer) -> Registration:
    return Registration(
        operation_service_pb2_grpc.add_OperationServiceServicer_to_server,
        servicer,
        operation_service_pb2.DESCRIPTOR.services_by_name["OperationService"],
    )


def _assert_tells_nothing(error: grpc.RpcError) -> None:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # what a stub raises is a Call too
    assert status is not None
    assert error.code() == grpc.StatusCode.INTERNAL
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "INTERNAL"
    assert info.metadata["incident_id"] in status.message
    assert len(info.metadata["incident_id"]) == 36
    assert "hunter2" not in str(error) + str(status)
    assert "ValueError" not in str(error) + str(status)


def test_an_unforeseen_error_is_internal_with_an_incident_id_and_without_its_text(
    stub: OperationServiceStub, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetOperation(GetOperationRequest(operation_id="broken"))
    _assert_tells_nothing(caught.value)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListOperations(ListOperationsRequest())
    _assert_tells_nothing(caught.value)
    assert "hunter2" in capsys.readouterr().out  # structlog's default, unconfigured


def test_an_unforeseen_error_in_a_stream_is_internal_too_after_what_was_sent(stub: OperationServiceStub):
    stream = stub.WatchOperation(WatchOperationRequest(operation_id="x"))
    assert next(stream) == WatchOperationResponse()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    _assert_tells_nothing(caught.value)


def test_a_refusal_reaches_the_caller_whole_from_a_call_and_from_a_stream(stub: OperationServiceStub):
    with pytest.raises(Refusal) as caught:
        call(stub.GetOperation, GetOperationRequest(operation_id="missing"), timeout_seconds=15)
    assert (caught.value.code.name, caught.value.reason) == ("NOT_FOUND", "OPERATION_NOT_FOUND")
    assert caught.value.metadata == {"operation_id": "missing"}
    with pytest.raises(Refusal) as caught:
        call(
            lambda request, **how: list(stub.WatchOperation(request, **how)),
            WatchOperationRequest(operation_id="missing"),
            timeout_seconds=15,
        )
    assert caught.value.reason == "OPERATION_NOT_FOUND"


def test_a_database_that_is_away_is_unavailable_and_not_known_and_its_address_stays_in_the_log(
    stub: OperationServiceStub,
):
    away = GetOperationRequest(operation_id="away")
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetOperation(away)
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type] # as above
    assert status is not None
    refusal = Refusal.from_status(status)
    assert refusal is not None
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
    assert "10.0.0.7" not in str(caught.value) + str(status)
    with pytest.raises(Unanswered, match="UNAVAILABLE"):
        call(stub.GetOperation, away, timeout_seconds=15)


def test_plain_handlers_run_in_the_servers_own_threads(stub: OperationServiceStub):
    answer = stub.GetOperation(GetOperationRequest(operation_id="who"))
    assert answer.operation.id.startswith("handler")


def test_too_many_requests_at_once_are_told_when_to_try_again_and_then_let_in(
    stub: OperationServiceStub, troubled: _Troubled
):
    waiting = [stub.GetOperation.future(GetOperationRequest(operation_id="wait")) for _ in range(2)]
    troubled.gate.reached()
    refused = _until_refused(stub)
    status = rpc_status.from_call(refused)  # type: ignore[arg-type] # as above
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 500
    troubled.gate.open()
    assert all(call.result(timeout=15).HasField("operation") for call in waiting)
    assert stub.GetOperation(GetOperationRequest(operation_id="who")).HasField("operation")


def test_of_thousands_of_calls_at_once_none_is_dropped_without_a_word(
    stub: OperationServiceStub, troubled: _Troubled, address: str
):
    blocking = stub.ListOperations.future(ListOperationsRequest(page_token="block"))
    troubled.gate.reached()  # the event loop is held up: whatever comes now waits inside gRPC
    with ExitStack() as open_:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [open_.enter_context(grpc.insecure_channel(address, options)) for _ in range(40)]
        stubs = [OperationServiceStub(channel) for channel in channels]
        who = GetOperationRequest(operation_id="who")
        calls = [stubs[number % len(stubs)].GetOperation.future(who) for number in range(2500)]
        time.sleep(1)  # for all of them to arrive
        troubled.gate.open()
        codes = Counter(_code_of(call) for call in calls)
    assert blocking.exception() is not None
    assert codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes


def _code_of(call: Any) -> grpc.StatusCode:
    call.exception(timeout=60)
    code: grpc.StatusCode = call.code()
    return code


def _until_refused(stub: OperationServiceStub) -> grpc.RpcError:
    """The second of the two waiting calls may come in a moment after the first."""
    for _ in range(1000):
        try:
            stub.GetOperation(GetOperationRequest(operation_id="who"))
        except grpc.RpcError as error:
            return error
    raise AssertionError("the server admitted more than two requests at once")


def test_what_is_turned_away_does_not_count_as_held(stub: OperationServiceStub):
    for _ in range(5):
        with pytest.raises(grpc.RpcError):
            stub.GetOperation(GetOperationRequest(operation_id="broken"))
    with ThreadPoolExecutor(2) as pool:
        requests = [GetOperationRequest(operation_id="who")] * 2
        assert len(list(pool.map(stub.GetOperation, requests))) == 2


def test_whatever_is_no_definite_no_is_not_known(stub: OperationServiceStub, troubled: _Troubled):
    broken, wait = GetOperationRequest(operation_id="broken"), GetOperationRequest(operation_id="wait")
    with pytest.raises(Unanswered, match="INTERNAL"):
        call(stub.GetOperation, broken, timeout_seconds=15)
    with pytest.raises(Unanswered, match="RESOURCE_EXHAUSTED"):
        call(stub.RetryOperation, RetryOperationRequest(), timeout_seconds=15)
    with pytest.raises(Unanswered, match="DEADLINE_EXCEEDED"):
        call(stub.GetOperation, wait, timeout_seconds=0.1)
    with grpc.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        nobody = OperationServiceStub(channel)
        with pytest.raises(Unanswered, match="UNAVAILABLE"):
            call(nobody.GetOperation, wait, timeout_seconds=15)


def test_health_is_serving_and_reflection_lists_the_services(world: World):
    with served(registrations(world.engine(), Held())) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = list(reflection.ServerReflectionInfo(iter(asked)))
        assert {service.name for service in listed.list_services_response.service} == {
            "stillpoint.operation.v1.OperationService",
            "stillpoint.operation.v1.EventService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
