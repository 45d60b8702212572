"""Follows an operation to its end. An operation's id says which service to ask."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, Self

import grpc
import typer
from rich.progress import Progress, TaskID

from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import WatchOperationRequest
from stillpoint_cli.addresses import Service
from stillpoint_cli.bars import byte_bar
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import Failure, OperationFailed
from stillpoint_cli.output import live
from stillpoint_cli.values import format_size

WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait", help="Wait until its operation has ended, or only until it is accepted."
    ),
]

LIVE_STATES = frozenset({Operation.STATE_RUNNING, Operation.STATE_COMPENSATING})

UNDONE_STATES = frozenset({Operation.STATE_FAILED, Operation.STATE_ABANDONED})

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
    owner = must_own(operation_id)
    stub = connections.operations(owner)
    wait = connections.wait(owner)
    while True:
        try:
            for response in stub.WatchOperation(WatchOperationRequest(operation_id=operation_id)):
                wait = connections.answered(owner)
                yield response.operation
                if response.operation.state not in LIVE_STATES:
                    return
        except grpc.RpcError as error:
            wait.sleep_after(error)


def wait_for(connections: Connections, operation_id: str) -> Operation:
    """The operation at rest, SUCCEEDED. Raises OperationFailed when it was undone, or abandoned."""
    last = Operation(id=operation_id)
    with _Line(f"{operation_id} …") as line:
        for last in watch(connections, operation_id):
            line.show(last)
    if last.state in UNDONE_STATES:
        raise OperationFailed(last)
    return last


def sent_by(operation: Operation) -> str:
    """How much it has sent, of how much it copies; empty for one that copies nothing."""
    progress = operation.progress
    if not operation.HasField("progress"):
        return ""
    return f"{format_size(progress.sent_bytes)} of {format_size(progress.total_bytes)}"


class _Line:
    """One line that says how far an operation is: a spinner, and a bar from when it has progress to show."""

    def __init__(self, title: str) -> None:
        self._status = live().status(title)
        self._bar: tuple[Progress, TaskID] | None = None
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        self._shown.enter_context(self._status)
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, operation: Operation) -> None:
        again = (
            f" (tried {operation.attempts} times: {operation.error.message})"
            if operation.attempts > 1
            else ""
        )
        undoing = "undoing " if operation.state == Operation.STATE_COMPENSATING else ""
        step = f"{undoing}{operation.current_step}{again}"
        if not operation.HasField("progress"):
            self._status.update(f"{operation.kind}: {step}")
            return
        if self._bar is None:
            # A terminal has one line that moves.
            self._shown.close()
            bar = self._shown.enter_context(byte_bar(goes=True))
            self._bar = bar, bar.add_task(step, total=operation.progress.total_bytes)
        bar, task = self._bar
        bar.update(task, description=step, completed=operation.progress.completed_bytes)
