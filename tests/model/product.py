"""The product as the machine sees it: three real processes, to which requests are sent, which die, and which are looked at."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_status import rpc_status

from stillpoint.disk.v1.block_service_pb2 import ReadBlocksRequest, WriteBlocksRequest, WriteBlocksResponse
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import Channels, examine
from stillpoint_cli.local import LocalDeployment
from svckit.errors import Refusal
from tests.contract.cloud import Cloud, joined
from tests.contract.methods import METHODS
from tests.contract.resources import RESOURCES
from tests.model.answers import plain
from tests.support.waiting import eventually

REST_SECONDS = 60.0
RECONNECT_SECONDS = 10.0
"""A service tries another that was away again within a second, on a machine that has time for it."""
Answer = Any
"""A message, the bytes that were read, or the grpc.RpcError that a call ended with."""

_METHODS = {method.request: method for method in METHODS}
_GO_ON = {
    f"{rpc}Request"
    for rpc in (
        "CreateDiskSnapshot",
        "CreateInstanceSnapshot",
        "RollbackInstanceSnapshot",
        "DeleteInstanceSnapshot",
        "BatchDeleteInstanceSnapshots",
    )
}
"""What answers when its moment is fixed, or when it can only go forward."""
_NO_ANSWER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Product:
    """One deployment, for all histories."""

    def __init__(self, cloud: Cloud, local: LocalDeployment) -> None:
        self._cloud = cloud
        self._local = local
        self._clients = ThreadPoolExecutor(2)
        self._restarted = -RECONNECT_SECONDS
        internal = {
            service: cloud.open_channel(local.addresses.of(service).internal)
            for service in (Service.COMPUTE, Service.DISK)
        }
        self._doctors = Channels(
            compute=cloud.channels[Service.COMPUTE],
            compute_internal=internal[Service.COMPUTE],
            disk=cloud.channels[Service.DISK],
            disk_internal=internal[Service.DISK],
            snapshot=cloud.channels[Service.SNAPSHOT],
        )

    def close(self) -> None:
        self._clients.shutdown()

    # Asking

    def ask(self, request: Message) -> Answer:
        """A request that is only validated may find another service away until its caller has connected anew: it is asked
        again, as its contract says.
        """
        answer = self._ask(request)
        while getattr(request, "validate_only", False) and is_no_answer(answer) and self._has_lately_died():
            time.sleep(0.1)
            answer = self._ask(request)
        return answer

    def _has_lately_died(self) -> bool:
        return time.monotonic() < self._restarted + RECONNECT_SECONDS

    def _ask(self, request: Message) -> Answer:
        try:
            match request:
                case WriteBlocksRequest():
                    [durable] = self._cloud.blocks.WriteBlocks(iter([request]))
                    return durable
                case ReadBlocksRequest():
                    return joined(self._cloud.blocks.ReadBlocks(request), request.offset_bytes)
                case _:
                    return _METHODS[type(request)].call(self._cloud, request)
        except grpc.RpcError as error:
            return error

    def ask_both(self, first: Message, second: Message) -> list[Answer]:
        """At once, as two clients."""
        calls = [self._clients.submit(self.ask, request) for request in (first, second)]
        answers = [call.result() for call in calls]
        self.come_to_rest()
        return answers

    def ask_while_one_dies(self, request: Message, victim: Service, after_seconds: float) -> Answer:
        """Everything is at rest again when this returns."""
        call: Future[Answer] = self._clients.submit(self.ask, request)
        time.sleep(after_seconds)
        self._local.kill(victim)
        self._local.restart(victim)
        self._restarted = time.monotonic()
        self.come_to_rest()
        return call.result()

    def mend(self) -> None:
        """Start again what is dead, after a history that broke off."""
        while victim := self._local.dead():
            self._local.restart(victim)

    def finish(self, request: Message, answer: Answer) -> None:
        """Wait for the operations that an answer names, where they go on behind it."""
        if type(request).__name__ not in _GO_ON:
            return
        results = getattr(answer, "results", [answer])
        for operation_id in [getattr(result, "operation_id", "") for result in results]:
            if operation_id:
                self._cloud.finish(operation_id)

    # Rest

    def come_to_rest(self) -> None:
        eventually(self._is_at_rest, within_seconds=REST_SECONDS, what="coming to rest")

    def _is_at_rest(self) -> bool:
        wanted = operation_service_pb2.ListOperationsRequest.Filter(unfinished=True)
        request = operation_service_pb2.ListOperationsRequest(filter=wanted)
        try:
            return not any(
                stub.ListOperations(request).operations for stub in self._cloud.operations.values()
            )
        except grpc.RpcError as error:
            if is_no_answer(error):
                return False  # a client's connection comes back a little after the service
            raise

    def faults(self) -> list[str]:
        """What doctor finds, and what it could not ask."""
        results = list(examine(self._doctors))
        found = [finding.problem for result in results for finding in result.findings]
        return found + [result.not_asked for result in results if result.not_asked]

    # What there is

    def listed(self, since: Timestamp, page_size: int = 0) -> dict[str, dict[str, Message]]:
        """Of each kind all that was made since, newest first, by id."""
        return {resource.title: dict(self._pages(resource, since, page_size)) for resource in RESOURCES}

    def _pages(self, resource: Any, since: Timestamp, page_size: int) -> Iterator[tuple[str, Message]]:
        request = resource.list_request(filter={"created_from": since}, page_size=page_size)
        while True:
            answer = resource.list_rpc(self._cloud)(request)
            rows = getattr(answer, f"{resource.field}s")
            for newer, older in pairwise(rows):
                assert newer.create_time.ToNanoseconds() >= older.create_time.ToNanoseconds()
            yield from ((row.id, plain(row)) for row in rows)
            request.page_token = answer.next_page_token
            if not request.page_token:
                return

    def read(self, object_id: str) -> bytes:
        return self._cloud.read(object_id)


def empty_answer(request: Message) -> Any:
    match request:
        case WriteBlocksRequest():
            return WriteBlocksResponse()
        case ReadBlocksRequest():
            return b""
        case _:
            return _METHODS[type(request)].response()


def is_no_answer(answer: Answer) -> bool:
    """The call broke off, or says that it does not know."""
    if not isinstance(answer, grpc.RpcError):
        return False
    refusal = refusal_of(answer)
    if refusal is None:
        return answer.code() in _NO_ANSWER
    return refusal.reason == "DEPENDENCY_UNAVAILABLE"


def refusal_of(error: grpc.RpcError) -> Refusal | None:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # what a stub raises is a Call too
    return Refusal.from_status(status) if status is not None else None


def reasons_of(answer: Answer) -> set[str]:
    """Everything that a refusal gives as a reason; nothing for an answer that is none."""
    refusal = refusal_of(answer) if isinstance(answer, grpc.RpcError) else None
    if refusal is None:
        return set()
    return {refusal.reason, *(violation.type for violation in refusal.preconditions)}
