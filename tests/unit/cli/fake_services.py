"""A gRPC server that answers what a test tells it to, for the parts of the command line that only a call exercises."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation

Answer = Callable[[Any], Any]


class Refusal(Exception):
    """Raised by an answer: the call ends with this status and these google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.status = Status(code=code.value[0], message=message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            self.status.details.append(packed)


@dataclass
class FakeServices(grpc.GenericRpcHandler):
    """All three services on one port. A method that no test has set answers UNIMPLEMENTED."""

    address: str = ""
    requests: list[Any] = field(default_factory=list)
    _handlers: dict[str, "grpc.RpcMethodHandler[Any, Any]"] = field(default_factory=dict)

    def answer(self, method: str, request: type[Message], answer: Answer) -> None:
        """`method` is `DiskService/ListDisks`, say, of whichever package the request's type is in."""

        def handle(message: Any, context: grpc.ServicerContext) -> Any:
            self.requests.append(message)
            try:
                return answer(message)
            except Refusal as refusal:
                context.abort_with_status(rpc_status.to_status(refusal.status))

        self._set(method, request, grpc.unary_unary_rpc_method_handler, handle)

    def stream(self, method: str, request: type[Message], answer: Answer) -> None:
        def handle(message: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self.requests.append(message)
            try:
                yield from answer(message)
            except Refusal as refusal:
                context.abort_with_status(rpc_status.to_status(refusal.status))

        self._set(method, request, grpc.unary_stream_rpc_method_handler, handle)

    def exchange(self, method: str, request: type[Message], answer: Answer) -> None:
        """`answer` gets the iterator of the client's messages and yields answers."""

        def handle(messages: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from answer(messages)
            except Refusal as refusal:
                context.abort_with_status(rpc_status.to_status(refusal.status))

        self._set(method, request, grpc.stream_stream_rpc_method_handler, handle)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._handlers.get(handler_call_details.method)

    def _set(self, method: str, request: Any, make: Any, handle: Any) -> None:
        path = f"/{request.DESCRIPTOR.file.package}.{method}"
        self._handlers[path] = make(
            handle,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def refuse(*arguments: Any) -> Callable[[Any], Any]:
    def answer(_request: Any) -> Any:
        raise Refusal(*arguments)

    return answer


def serve_operation(services: FakeServices, *states: Operation) -> None:
    services.stream(
        "OperationService/WatchOperation",
        operation_pb2.WatchOperationRequest,
        lambda _: (operation_pb2.WatchOperationResponse(operation=state) for state in states),
    )


def sent(services: FakeServices, kind: type[Any]) -> list[Any]:
    return [request for request in services.requests if isinstance(request, kind)]
