"""Follows an operation to its end. An operation's id says which service to ask."""

import time
from collections.abc import Iterator
from typing import Annotated

import grpc
import typer

from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import GetOperationRequest, WatchOperationRequest
from stillpoint_cli.addresses import Service
from stillpoint_cli.connections import PAUSES_SECONDS, Connections
from stillpoint_cli.errors import Failure, OperationFailed, code_of
from stillpoint_cli.output import live

WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait", help="Wait until its operation has ended, or only until it is accepted."
    ),
]

LIVE_STATES = frozenset({Operation.STATE_RUNNING, Operation.STATE_COMPENSATING})

_OWNERS = {"op-c-": Service.COMPUTE, "op-d-": Service.DISK, "op-s-": Service.SNAPSHOT}


def owner_of(operation_id: str) -> Service | None:
    return _OWNERS.get(operation_id[:5])


def must_own(operation_id: str) -> Service:
    owner = owner_of(operation_id)
    if owner is None:
        raise Failure(f"{operation_id!r} is not an operation's id: one begins with {', '.join(_OWNERS)}")
    return owner


def watch(connections: Connections, operation_id: str) -> Iterator[Operation]:
    """Every state of the operation until it rests. A stream that breaks is opened again and catches up."""
    stub = connections.operations(must_own(operation_id))
    pauses = iter(PAUSES_SECONDS)
    while True:
        try:
            for response in stub.WatchOperation(WatchOperationRequest(operation_id=operation_id)):
                pauses = iter(PAUSES_SECONDS)
                yield response.operation
                if response.operation.state not in LIVE_STATES:
                    return
        except grpc.RpcError as error:
            if code_of(error) is not grpc.StatusCode.UNAVAILABLE:
                raise
            pause = next(pauses, None)
            if pause is None:
                # Asked once more without a stream: that call says which service it is that does not answer.
                stub.GetOperation(GetOperationRequest(operation_id=operation_id))
                pause, pauses = PAUSES_SECONDS[-1], iter(PAUSES_SECONDS)
            time.sleep(pause)


def wait_for(connections: Connections, operation_id: str) -> Operation:
    """The operation at rest, SUCCEEDED. Raises OperationFailed when it was undone."""
    last = Operation(id=operation_id)
    with live().status(f"{operation_id} …") as status:
        for last in watch(connections, operation_id):
            again = f" (tried {last.attempts} times: {last.error.message})" if last.attempts > 1 else ""
            undoing = "undoing " if last.state == Operation.STATE_COMPENSATING else ""
            status.update(f"{last.kind}: {undoing}{last.current_step}{again}")
    if last.state == Operation.STATE_FAILED:
        raise OperationFailed(last)
    return last
