"""A network between two services that a test can hold up, or that damages what it carries: a gRPC proxy with a gate before
and after every call.

Before the call: the participant has not seen it. After the call: the participant has answered, and the caller does not
know. A call that was held goes on although its caller has given up or died; that is what a slow network does.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

from svckit.channels import PERMITTING_KEEPALIVE, open_channel
from tests.faults.gates import Gates

_LONGEST_CALL_SECONDS = 60.0
_STREAMS = ("WriteImport",)


class Proxy(grpc.GenericRpcHandler):
    """Forwards unary calls, whatever they are, and the streams of `_STREAMS` to the service that `connect` names."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self.streamed_bytes = 0
        """In all messages of all streams, those included that were never answered."""
        self.messages_to_damage = 0
        """So many messages of streams from now on arrive with their last byte flipped."""
        self._channel: grpc.Channel | None = None
        self._server = grpc.server(ThreadPoolExecutor(64), handlers=[self], options=PERMITTING_KEEPALIVE)
        self.host_and_port = ("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self.address = "{}:{}".format(*self.host_and_port)
        self._server.start()

    def connect(self, address: str) -> None:
        self._channel = open_channel(address)

    def stop(self) -> None:
        self._server.stop(grace=None).wait()
        if self._channel is not None:
            self._channel.close()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if not handler_call_details.method.startswith("/stillpoint."):
            return None  # without health to watch, callers take it for healthy
        if handler_call_details.method.rpartition("/")[2] in _STREAMS:
            return grpc.stream_stream_rpc_method_handler(
                partial(self._forward_stream, handler_call_details.method)
            )
        return grpc.unary_unary_rpc_method_handler(partial(self._forward, handler_call_details.method))

    def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        assert self._channel is not None
        name = method.rpartition("/")[2]
        before = self._gates.take(f"before {name}")
        if before is not None and not before.hold():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the network lost the call")
        call: Any = self._channel.unary_unary(method)
        response: bytes | None = None
        failure: Any = None
        try:
            response = call(request, timeout=_LONGEST_CALL_SECONDS)
        except grpc.RpcError as error:
            failure = error
        ended = f"{failure.code().name}: {failure.details()}" if failure else "OK"
        if before is not None:
            before.ended.set_result(ended)
        after = self._gates.take(f"after {name}")
        if after is not None:
            after.ended.set_result(ended)
            if not after.hold():
                context.abort(grpc.StatusCode.UNAVAILABLE, "the network lost the answer")
        if response is None:
            context.set_trailing_metadata(failure.trailing_metadata())
            context.abort(failure.code(), failure.details())
            raise AssertionError("abort has raised")
        return response

    def _forward_stream(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """The gate after it stands before its first answer."""
        assert self._channel is not None
        name = method.rpartition("/")[2]
        before = self._gates.take(f"before {name}")
        if before is not None and not before.hold():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the network lost the call")
        connect: Any = self._channel.stream_stream(method)
        call = connect(map(self._carried, requests), timeout=_LONGEST_CALL_SECONDS)
        try:
            for response in call:
                after = self._gates.take(f"after {name}")
                if after is not None and not after.hold():
                    call.cancel()
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the network lost the answer")
                yield response
        except grpc.RpcError as failure:
            error: Any = failure
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code(), error.details())

    def _carried(self, message: bytes) -> bytes:
        self.streamed_bytes += len(message)
        if not self.messages_to_damage:
            return message
        self.messages_to_damage -= 1
        return message[:-1] + bytes([message[-1] ^ 1])
