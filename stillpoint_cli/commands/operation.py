"""`stillpoint operation`: the durable runs of steps behind requests that touch more than one service or store."""

import heapq
from collections.abc import Iterator
from datetime import UTC
from typing import Annotated

import typer
from rich.text import Text

from stillpoint.operation.v1.operation_pb2 import Operation, OperationStep
from stillpoint.operation.v1.operation_service_pb2 import (
    GetOperationRequest,
    ListOperationsRequest,
    RetryOperationRequest,
)
from stillpoint_cli.addresses import Service
from stillpoint_cli.commands import make_app
from stillpoint_cli.commands.operation_abandon import abandon_operation
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import OperationFailed
from stillpoint_cli.following import UNDONE_STATES, must_own, watch
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    LimitOption,
    ServiceOption,
    enum_name,
    make_table,
    print_card,
    print_json,
    print_list,
    printable,
    stdout,
    styled,
)
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_duration, format_size, format_time

app = make_app(
    "What goes on behind a request. An operation's id says whose it is: op-c-… is compute_svc's, op-d-… "
    "disk_svc's, op-s-… snapshot_svc's.",
)

OperationArgument = Annotated[str, typer.Argument(metavar="ID", help="The operation's id, op-….")]


@app.command("list")
def list_(
    context: typer.Context,
    *,
    service: ServiceOption = None,
    resource: Annotated[str, typer.Option(metavar="ID", help="Only operations on this resource.")] = "",
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only operations that have not ended.")
    ] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List operations of all services, newest first."""
    connections = Connections.of(context)
    wanted = ListOperationsRequest.Filter(resource_id=resource, unfinished=unfinished)

    def of(one: Service) -> Iterator[Operation]:
        stub = connections.operations(one)
        return each(
            lambda token: stub.ListOperations(
                ListOperationsRequest(filter=wanted, page_size=page_size(limit), page_token=token)
            ),
            lambda page: page.operations,
        )

    operations = heapq.merge(
        *(of(one) for one in ([service] if service else Service)),
        key=lambda operation: operation.create_time.ToNanoseconds(),
        reverse=True,
    )
    columns: Columns[Operation] = {
        "ID": lambda operation: operation.id,
        "KIND": lambda operation: operation.kind,
        "STATE": _state,
        "STEP": lambda operation: operation.current_step,
        "RESOURCE": lambda operation: operation.resource_id,
        "STARTED": lambda operation: format_time(operation.create_time),
        "TOOK": _took,
    }
    print_list(
        operations, columns, limit=limit, as_json=as_json, nothing="No operations.", to_json=lambda row: row
    )


@app.command()
def show(context: typer.Context, operation: OperationArgument, as_json: JsonOption = False) -> None:
    """Show an operation and its steps so far."""
    stub = Connections.of(context).operations(must_own(operation))
    found = stub.GetOperation(GetOperationRequest(operation_id=operation)).operation
    if as_json:
        print_json(found)
        return
    _print_operation(found)
    steps: Columns[OperationStep] = {
        "TIME": _exact_time,
        "STEP": _step,
        "TRY": lambda step: str(step.attempt) if step.attempt > 1 else "",
    }
    stdout().print(make_table(found.steps, steps))


@app.command("watch")
def watch_(context: typer.Context, operation: OperationArgument, as_json: JsonOption = False) -> None:
    """Follow an operation to its end, a line for each step, and for each tenth of what it moves. As JSON, a line for each
    change of the operation.

    Exits 1 when the operation was undone, or abandoned.
    """
    printed = tries = tenths = 0
    last = Operation()
    for last in watch(Connections.of(context), operation):
        if as_json:
            print_json(last)
            continue
        for step in last.steps[printed:]:
            stdout().print(Text.assemble((_exact_time(step), "dim"), "  ", _step(step)))
        printed = len(last.steps)
        if last.attempts not in (0, tries):
            waits = (
                f"{last.current_step} has no answer yet, tried {last.attempts} times: {last.error.message}"
            )
            stdout().print(Text(printable(f"          {waits}"), style="yellow"))
        tries = last.attempts
        if last.progress.total_bytes:
            tenths_now = last.progress.completed_bytes * 10 // last.progress.total_bytes
            if tenths_now != tenths:
                stdout().print(Text(f"          {_progress(last)}", style="dim"))
            tenths = tenths_now
    if last.state in UNDONE_STATES:
        raise OperationFailed(last)
    if not as_json:
        stdout().print(Text.assemble(styled(_state_name(last)), f" in {_took(last)}"))


@app.command()
def retry(context: typer.Context, operation: OperationArgument, as_json: JsonOption = False) -> None:
    """Make the next try due now. Never needed for progress: an operation is tried again by itself."""
    stub = Connections.of(context).operations(must_own(operation))
    found = stub.RetryOperation(RetryOperationRequest(operation_id=operation)).operation
    print_json(found) if as_json else _print_operation(found)


app.command("abandon")(abandon_operation)


def _print_operation(operation: Operation) -> None:
    error = operation.error
    print_card(
        operation.kind,
        {
            "id": operation.id,
            "state": _state(operation),
            "resource": operation.resource_id,
            "step": operation.current_step,
            "tries": str(operation.attempts) if operation.attempts else "",
            "can be undone": "no, only forward"
            if operation.past_pivot and not operation.end_time.seconds
            else "",
            "progress": _progress(operation),
            "error": f"{error.message} ({error.reason})" if error.reason else error.message,
            "because": "; ".join(each.description for each in error.violations),
            "started": format_time(operation.create_time),
            "took": _took(operation),
        },
    )


def _progress(operation: Operation) -> str:
    """Empty for an operation that moves no bytes."""
    if not operation.HasField("progress"):
        return ""
    progress = operation.progress
    done, total = format_size(progress.completed_bytes), format_size(progress.total_bytes)
    return f"{done} of {total}, {format_size(progress.sent_bytes)} sent"


def _state(operation: Operation) -> Text:
    return styled(_state_name(operation))


def _state_name(operation: Operation) -> str:
    return enum_name(Operation.State.Name, operation.state, "STATE_")


def _took(operation: Operation) -> str:
    if not operation.end_time.seconds:
        return ""
    return format_duration((operation.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e9)


def _exact_time(step: OperationStep) -> str:
    return f"{step.time.ToDatetime(UTC).astimezone():%H:%M:%S.%f}"[:-3]


def _step(step: OperationStep) -> Text:
    if step.undo:
        return Text(f"↩ {step.name} undone", style="red")
    return Text(
        f"{step.name}", style="bold" if step.name in {"accepted", "succeeded", "failed", "abandoned"} else ""
    )
