"""What is known of every RPC before anybody has looked at it: it is counted, and the ids that it carries are in every line
that is logged on its behalf. Stands before the edge, so that it sees what the edge has made of an error.

A step of another service's saga carries the operation's id, in a field of its own or in its key `<operation id>/<step>`.
So the lines of one operation are found in the logs of all services.
"""

import asyncio
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.contextvars import bind_contextvars, get_contextvars

from svckit.telemetry import traces

REQUEST_ID = "x-request-id"

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_CODES = {code: code.name for code in grpc.StatusCode}
_NOBODY = "unknown"
_tells: ContextVar[bool] = ContextVar("tells", default=False)
"""Whether the request under way changes an operation."""

_log = structlog.get_logger()


class RpcMetrics:
    """Labels are the names of methods that are served, never what a client made up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        method = ("grpc_service", "grpc_method")
        self._started = Counter("stillpoint_rpc_started", "RPCs that were begun", method, registry=registry)
        self._handled = Counter(
            "stillpoint_rpc_handled", "RPCs that have ended", (*method, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "stillpoint_rpc_duration_seconds",
            "How long RPCs took, streams to their end",
            method,
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "stillpoint_rpc_in_flight", "RPCs that are under way", method, registry=registry
        )
        # To look a child up by its labels costs more than to count with it.
        self._of_method = cache(self._look_up)
        self._of_code = cache(self._look_up_code)

    def begin(self, method: str) -> None:
        started, in_flight, _ = self._of_method(method)
        started.inc()
        in_flight.inc()

    def end(self, method: str, code: str, seconds: float) -> None:
        _, in_flight, duration = self._of_method(method)
        in_flight.dec()
        duration.observe(seconds)
        self._of_code(method, code).inc()

    def unknown(self) -> None:
        """A method that nobody serves."""
        self._handled.labels(_NOBODY, _NOBODY, grpc.StatusCode.UNIMPLEMENTED.name).inc()

    def _look_up(self, method: str) -> tuple[Counter, Gauge, Histogram]:
        names = _names(method)
        return self._started.labels(*names), self._in_flight.labels(*names), self._seconds.labels(*names)

    def _look_up_code(self, method: str, code: str) -> Counter:
        return self._handled.labels(*_names(method), code)


def _names(method: str) -> tuple[str, str]:
    service, _, name = method.lstrip("/").partition("/")
    return service, name


class Requests(grpc.aio.ServerInterceptor):
    """The interceptor. Of what changes an operation it logs a line, of everything else only where the level is debug."""

    def __init__(self, metrics: RpcMetrics) -> None:
        self._metrics = metrics
        self._log = _log.bind()  # once: what makes it is slower than a line that is not logged

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            self._metrics.unknown()
            return handler
        if not method.startswith("/stillpoint."):
            return handler  # health and reflection
        coders = (handler.request_deserializer, handler.response_serializer)
        if not handler.response_streaming:
            unary: Any = handler.unary_unary
            return grpc.unary_unary_rpc_method_handler(self._unary(method, unary), *coders)
        if not handler.request_streaming:
            stream: Any = handler.unary_stream
            return grpc.unary_stream_rpc_method_handler(self._stream(method, stream, _bind_ids), *coders)
        streams: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(self._stream(method, streams, _binding_ids), *coders)

    def _unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def watched(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._under_way(method, context):
                response = await behaviour(_bind_ids(request), context)
                if "operation_id" in _fields(response.DESCRIPTOR) and response.operation_id:
                    _bind(operation_id=response.operation_id, tells=True)
                return response

        return watched

    def _stream(
        self, method: str, behaviour: Callable[..., Any], bind: Callable[[Any], Any]
    ) -> Callable[..., AsyncIterator[Any]]:
        async def watched(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._under_way(method, context):
                async for message in behaviour(bind(request), context):
                    yield message

        return watched

    @contextmanager
    def _under_way(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        bind_contextvars(request_id=_request_id(context), method=method)
        self._metrics.begin(method)
        begun = time.perf_counter()
        code = "OK"
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except BaseException:
            # Whoever aborts has set it; of an error that nobody caught gRPC makes UNKNOWN.
            code = _CODES.get(context.code(), "UNKNOWN")
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.end(method, code, seconds)
            log = self._log.info if _tells.get() else self._log.debug
            log("answered", code=code, seconds=round(seconds, 6))


def passed_on() -> tuple[tuple[str, str], ...]:
    """The metadata of a call on behalf of the request under way: its lines in the other service's log have the same id."""
    request_id = get_contextvars().get("request_id")
    return ((REQUEST_ID, request_id),) if request_id else ()


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == REQUEST_ID and isinstance(value, str) and _SANE.fullmatch(value):
            return value
    # It need not be unguessable, and asking the system for random bytes would cost as much as all that is counted.
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


@cache
def _fields(message: Descriptor) -> frozenset[str]:
    """To ask a message for a field that it has not is slow."""
    return frozenset(message.fields_by_name)


def _bind_ids(request: Any) -> Any:
    """Returns the request. Its ids are the client's words, of any length and form, until somebody has checked them; and it
    may be no message, which is for the edge to refuse.
    """
    fields = _fields(request.DESCRIPTOR) if isinstance(request, Message) else frozenset()
    is_step = "key" in fields
    if not is_step and "operation_id" not in fields:
        return request
    operation_id: str = request.operation_id if "operation_id" in fields else ""
    if not operation_id and is_step:
        operation_id = request.key.partition("/")[0]
    if _SANE.fullmatch(operation_id):
        _bind(operation_id=operation_id, tells=is_step)
        if is_step and "account_id" in fields:
            bind_contextvars(account_id=request.account_id)
    return request


async def _binding_ids(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The first message says what the stream is about."""
    bound = False
    async for request in requests:
        yield request if bound else _bind_ids(request)
        bound = True


def _bind(*, operation_id: str, tells: bool) -> None:
    bind_contextvars(operation_id=operation_id)
    traces.note(operation_id=operation_id)
    _tells.set(tells)
