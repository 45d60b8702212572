"""`stillpoint operation abandon`: the end of an operation that would be tried for ever.

Its own service is asked first: then nobody drives it any more, and what it has sent to others finds itself refused there. A
service that is gone is passed over; should it come back, the same command ends what it holds.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated

import grpc
import typer

from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import (
    AbandonOperationRequest,
    AbandonOperationResponse,
    ReleasedHold,
)
from stillpoint_cli.addresses import Service
from stillpoint_cli.asking import YesOption, ask
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import Failure, Unreachable, reason_of
from stillpoint_cli.following import must_own
from stillpoint_cli.output import (
    Columns,
    JsonOption,
    as_dict,
    enum_name,
    make_table,
    print_json,
    stderr,
    stdout,
)
from stillpoint_cli.pasting import command

_NOT_THERE = frozenset({"OPERATION_NOT_FOUND", "OPERATION_ENDED"})

_Answers = dict[Service, AbandonOperationResponse]

_COLUMNS: Columns[tuple[Service, ReleasedHold]] = {
    "SERVICE": lambda row: row[0].module,
    "HOLDS": lambda row: row[1].kind,
    "OF": lambda row: row[1].resource_id,
}


def abandon_operation(
    context: typer.Context,
    operation: Annotated[str, typer.Argument(metavar="ID", help="The operation's id, op-….")],
    reason: Annotated[
        str, typer.Option(metavar="SENTENCE", help="Why; the event log keeps it.", show_default=False)
    ],
    *,
    owner_is_gone: Annotated[
        bool,
        typer.Option(
            "--owner-is-gone", help="Only at the other services: the operation's own is gone for good."
        ),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End an operation that waits for what is gone for good: a service, a region, the bytes of a disk.

    It cannot be resumed, and its resource rests in a state in which it can be deleted or used again. What is only away is
    better waited for: the operation goes on by itself. Needs the role admin. Where the operation copied to another region, the
    same command there ends what that holds. As JSON, a line for each service.
    """
    connections = Connections.of(context)
    owner = must_own(operation)
    others = [service for service in Service if service is not owner]
    request = AbandonOperationRequest(operation_id=operation, reason=reason)

    held, gone = _look(connections, [*([] if owner_is_gone else [owner]), *others], owner, request)
    if not yes:
        _show(held)
        rest = f"; {_names(gone)} cannot be asked" if gone else ""
        ask(f"Abandon {_described(operation, held)}? It cannot be resumed{rest}.")
    answers: _Answers = {}
    for service in held:
        try:
            answers[service] = connections.operations(service).AbandonOperation(request)
        except Unreachable:
            if service is owner:
                raise
            gone.append(service)
            continue
        if as_json:
            print_json({"service": service, **as_dict(answers[service])})
    if not as_json:
        _print(operation, answers)
    if gone:
        again = command("operation", "abandon", operation, "--reason", reason)
        raise Failure(
            f"{_names(gone)} did not answer. Should it come back, it may hold something still: `{again}` ends that."
        )


def _look(
    connections: Connections, services: list[Service], owner: Service, request: AbandonOperationRequest
) -> tuple[_Answers, list[Service]]:
    """What those hold that can be asked, its own first; and those that do not answer. An operation that its own service does
    not have, or has no more, may be held by others all the same.
    """
    asked = AbandonOperationRequest()
    asked.CopyFrom(request)
    asked.validate_only = True
    held: _Answers = {}
    gone: list[Service] = []
    no_operation: grpc.RpcError | None = None
    for service in services:
        try:
            held[service] = connections.operations(service).AbandonOperation(asked)
        except Unreachable as unreachable:
            if service is owner:
                raise Failure(
                    f"{unreachable}\nWhere it is gone for good, --owner-is-gone ends what the others hold."
                ) from unreachable
            gone.append(service)
        except grpc.RpcError as error:
            if service is not owner or reason_of(error) not in _NOT_THERE:
                raise
            no_operation = error
    if no_operation is not None and not any(_rows(held)):
        raise no_operation
    return held, gone


def _rows(held: Mapping[Service, AbandonOperationResponse]) -> Iterator[tuple[Service, ReleasedHold]]:
    return ((service, hold) for service, answer in held.items() for hold in answer.released)


def _operation(answers: _Answers) -> Operation | None:
    return next((each.operation for each in answers.values() if each.HasField("operation")), None)


def _described(operation_id: str, held: _Answers) -> str:
    operation = _operation(held)
    if operation is None:
        return operation_id
    state = enum_name(Operation.State.Name, operation.state, "STATE_")
    step = f" at {operation.current_step}" if operation.current_step else ""
    return f"{operation_id} ({operation.kind}, {state}{step})"


def _show(held: _Answers) -> None:
    rows = list(_rows(held))
    stderr().print(make_table(rows, _COLUMNS) if rows else "Nothing is held for it.")


def _print(operation_id: str, answers: _Answers) -> None:
    operation = _operation(answers)
    if operation is not None:
        state = enum_name(Operation.State.Name, operation.state, "STATE_")
        stdout().print(f"{operation_id} is {state}.")
    for service, hold in _rows(answers):
        stdout().print(f"{service.module} has let go: {hold.kind} {hold.resource_id}")
    if not any(_rows(answers)):
        stdout().print("Nothing was held for it.")


def _names(services: list[Service]) -> str:
    return " and ".join(service.module for service in services)
