"""The edge of every server: who may not come in is turned away, and what is no message; a refusal becomes its status, the
unforeseen becomes INTERNAL with an incident id, a database that is away becomes UNAVAILABLE and one that is full
RESOURCE_EXHAUSTED, and too many requests at once are turned away with a time to try again.

Handlers are plain functions, run in the loop's thread pool so that they finish what they began when a client goes away,
or coroutines (streams, and mutations that wait for a saga) that hold no thread.
"""

import asyncio
import inspect
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from svckit.auth.door import Door, let_in
from svckit.auth.roles import Role
from svckit.caller import begin_request_of
from svckit.database import DatabaseAway, DatabaseFull
from svckit.errors import DatabaseHasNoRoom, DatabaseUnavailable, InvalidRequest, Overloaded, Refusal
from svckit.steps import must_be_well_formed

_log = structlog.get_logger()


class InternalError(Refusal):
    """What a client sees of an error that nobody foresaw; its text stays in the log."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"

    def __init__(self, incident_id: str) -> None:
        super().__init__(
            f"internal error; the service's log has it as incident {incident_id}",
            metadata={"incident_id": incident_id},
        )


class Unreadable:
    """Stands for bytes that are no message of the method's type. gRPC would answer UNKNOWN, with words of the parser, before
    anybody here had seen them.
    """


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(received: bytes) -> Any:
        try:
            return deserialize(received)
        except DecodeError:
            return Unreadable()

    return read


class NoMessage(InvalidRequest):
    def __init__(self) -> None:
        super().__init__("the request is no message of the type that this method takes")


class StreamEnded(Exception):
    """By the service, which stops."""


class OpenStreams:
    """The streams that are being served. They end with their clients, which may be never: a service that stops ends them,
    and their clients begin them again, here or on another replica.
    """

    def __init__(self) -> None:
        self._ended = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def end(self) -> None:
        self._ended = True
        for task in self._waiting:
            task.cancel()

    async def next(self, messages: AsyncGenerator[Any]) -> Any:
        """None after the last one. Raises StreamEnded, also while it waits."""
        task = asyncio.current_task()
        assert task is not None
        if self._ended:
            raise StreamEnded
        # Not while a message is sent: gRPC would take the cancellation for the client's, and send no status.
        self._waiting.add(task)
        try:
            return await anext(messages, None)
        except asyncio.CancelledError:
            if self._ended:
                raise StreamEnded from None
            raise
        finally:
            self._waiting.discard(task)


class Edge(grpc.aio.ServerInterceptor):
    """`admitted` bounds the unary requests that are held at once; `needed` is the role that each method asks for."""

    def __init__(
        self, *, admitted: int, door: Door, needed: Mapping[str, Role], streams: OpenStreams
    ) -> None:
        self._free = admitted
        self._door = door
        self._needed = needed
        self._streams = streams

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler  # a method that nobody serves
        deserialize: Any = handler.request_deserializer
        coders = (_reading(deserialize), handler.response_serializer)
        if not method.startswith("/stillpoint."):
            return _readable(handler, *coders)  # health and reflection look after themselves
        if handler.response_streaming:
            wrap = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            stream: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
            return wrap(self._guard_stream(method, stream), *coders)
        unary: Any = handler.unary_unary
        return grpc.unary_unary_rpc_method_handler(self._guard_unary(method, unary), *coders)

    def _guard_unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        waits = inspect.iscoroutinefunction(behaviour)

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if self._free == 0:
                await _abort(context, Overloaded())
            self._free -= 1
            structlog.contextvars.bind_contextvars(method=method)
            try:
                begin_request_of(let_in(self._door, self._needed, method, context))
                self._must_be_message(method, request)
                if waits:
                    return await behaviour(request, context)
                return await asyncio.to_thread(behaviour, request, context)
            except Exception as error:  # noqa: BLE001 - the edge is where every error ends
                await _abort(context, _refusal_for(error))
            finally:
                self._free += 1

        return guarded

    def _guard_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any]]
    ) -> Callable[..., AsyncIterator[Any]]:
        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            structlog.contextvars.bind_contextvars(method=method)
            try:
                begin_request_of(let_in(self._door, self._needed, method, context))
                if isinstance(request, AsyncIterator):
                    request = self._messages(method, request)
                else:
                    self._must_be_message(method, request)
                async with aclosing(behaviour(request, context)) as messages:
                    while (message := await self._streams.next(messages)) is not None:
                        yield message
            except StreamEnded:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the service stops; begin the stream again")
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(context, _refusal_for(error))

        return guarded

    async def _messages(self, method: str, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._must_be_message(method, request)
            yield request

    def _must_be_message(self, method: str, request: Any) -> None:
        if isinstance(request, Unreadable):
            raise NoMessage
        if self._needed[method] is Role.SERVICE:
            must_be_well_formed(request)


def _readable(handler: "grpc.RpcMethodHandler[Any, Any]", *coders: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    """A library's servicer, which is handed nothing but messages. That of a stream of requests answers with one."""
    if handler.request_streaming:
        streams: Any = handler.stream_stream

        async def readable(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                if isinstance(request, Unreadable):
                    await _abort(context, NoMessage())
                yield request

        async def relayed(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for response in streams(readable(requests, context), context):
                yield response

        return grpc.stream_stream_rpc_method_handler(relayed, *coders)
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def guarded(request: Any, context: Any) -> Any:
        if isinstance(request, Unreadable):
            await _abort(context, NoMessage())
        return await behaviour(request, context)

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(guarded, *coders)
    return grpc.unary_unary_rpc_method_handler(guarded, *coders)


def _refusal_for(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        _log.debug("refused", reason=error.reason, message=error.message)
        return error
    if isinstance(error, DatabaseAway):
        _log.warning("the database is away", error=str(error))
        return DatabaseUnavailable()
    if isinstance(error, DatabaseFull):
        _log.error("the database is full", error=str(error))
        return DatabaseHasNoRoom()
    incident_id = str(uuid.uuid4())
    _log.error("unforeseen error", incident_id=incident_id, exc_info=error)
    return InternalError(incident_id)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> None:
    status = rpc_status.to_status(refusal.to_status())
    await context.abort(status.code, status.details, status.trailing_metadata)
