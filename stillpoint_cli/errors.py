"""What went wrong, said once and completely.

A refusal's status carries its facts in google.rpc details. All of them are printed: when five disks block a snapshot,
a user who is told of the first would need five attempts to learn of the rest.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from stillpoint.operation.v1.operation_pb2 import Operation, OperationError
from stillpoint_cli.addresses import Service
from stillpoint_cli.pasting import command

START_HINT = "`stillpoint up` starts the three services on this machine."


class Failure(Exception):
    """Ends the command with this message and exit code 1."""


class Unreachable(Failure):
    """Nothing answers at a service's address, or the connection broke."""

    def __init__(self, service: Service, address: str, detail: str | None) -> None:
        # Of grpc's chain of causes ("failed to connect to all addresses; last error: …") the last is the one.
        cause = (detail or "no reason given").rpartition(": ")[2]
        super().__init__(
            f"cannot reach {service.module} at {address} ({cause}).\nIs it running there? {START_HINT}"
        )


class DoorLocked(Failure):
    """A service was asked without TLS that takes nothing else."""

    def __init__(self, service: Service, address: str) -> None:
        super().__init__(
            f"{service.module} at {address} has its door locked: it wants TLS and a token.\n"
            "Set STILLPOINT_CA to the file of its CA, and `stillpoint login` with a token: there is no login for this address."
        )


class NotTrusted(Failure):
    """Nothing was sent to a service that could not prove who it is."""

    def __init__(self, service: Service, address: str, why: str) -> None:
        super().__init__(
            f"{service.module} at {address} does not prove who it is: {why}.\n"
            "No token was sent. STILLPOINT_CA names the file of the CA to trust; `stillpoint login` keeps it."
        )


class OperationFailed(Failure):
    """An operation that was followed to its end came to rest undone."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        super().__init__(f"operation {operation.id} ({operation.kind}) failed: {sum_up(operation.error)}")


def sum_up(error: OperationError) -> str:
    return _sum_up(
        error.message or "no reason given", error.reason, [each.description for each in error.violations]
    )


def explain(error: Exception) -> str | None:
    """The message for an exception that a user can do something about; None for any other: a bug here, or typer's to handle."""
    if isinstance(error, grpc.Call):
        return _explain_call(error)
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None


def _explain_call(call: grpc.Call) -> str:
    code, text = call.code(), call.details()
    details = list(unpack_details(call))
    if code is grpc.StatusCode.UNAVAILABLE and not details:
        # No status of ours: gRPC itself says so, in the middle of a stream. Its text has the address.
        return f"the connection to the service broke: {text}\nIs it running? {START_HINT}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not details:
        return (
            "the service did not answer in time. What it has accepted goes on behind: "
            f"`{command('operation', 'list', '--unfinished')}` shows it."
        )
    summary = _sum_up(text or code.name, _reason(details) or code.name, list(_things_in_the_way(details)))
    return "\n".join([summary, *(f"  {hint}" for hint in [*_hints(details), *_hints_at_the_door(code)])])


def code_of(error: Exception) -> grpc.StatusCode | None:
    """The status of a failed call. What grpc raises is a Call besides an RpcError, which its types do not say."""
    return error.code() if isinstance(error, grpc.Call) else None


def reason_of(error: Exception) -> str:
    """The reason that a service gave; empty when none did."""
    return _reason(unpack_details(error)) if isinstance(error, grpc.Call) else ""


def obstacles_of(error: Exception) -> list[str]:
    """Everything that stood in the way of a call, a sentence each; what else went wrong, as one."""
    things = list(_things_in_the_way(unpack_details(error))) if isinstance(error, grpc.Call) else []
    return things or [explain(error) or str(error)]


def unpack_details(call: grpc.Call) -> Iterator[Message]:
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        return  # a proxy rewrote the code or the message: the details are not this status's
    for detail in status.details if status else ():
        for kind in _KINDS:
            message = kind()
            if detail.Unpack(message):
                yield message


def retry_delay_seconds(call: grpc.Call) -> float | None:
    """How long the service asks to wait before the same request may be tried again; None when it does not."""
    for detail in unpack_details(call):
        if isinstance(detail, error_details_pb2.RetryInfo):
            return detail.retry_delay.ToTimedelta().total_seconds()
    return None


_KINDS: tuple[type[Message], ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)


def _sum_up(message: str, reason: str, things: Sequence[str]) -> str:
    """The message and what stands in the way, each said once: services put the same sentences into both."""
    shown = f" ({reason})" if reason else ""
    bullets = "".join(f"\n  • {thing}" for thing in things)
    if not all(thing in message for thing in things):
        return f"{message}{shown}{bullets}"
    return (
        f"{message}{shown}" if len(things) < 2 else f"{len(things)} things stand in the way{shown}{bullets}"
    )


def _reason(details: Iterable[Message]) -> str:
    return next((info.reason for info in details if isinstance(info, error_details_pb2.ErrorInfo)), "")


def _things_in_the_way(details: Iterable[Message]) -> Iterator[str]:
    for detail in details:
        match detail:
            case error_details_pb2.PreconditionFailure() | error_details_pb2.QuotaFailure():
                yield from (
                    _thing(each.subject.rpartition("/")[2], each.description) for each in detail.violations
                )
            case error_details_pb2.BadRequest():
                # "name" and "is empty": a service's own message has them as this sentence.
                yield from (f"{each.field} {each.description}" for each in detail.field_violations)
            case _:
                pass


def _thing(subject: str, description: str) -> str:
    return description if subject in description else f"{subject}: {description}"


def _hints(details: Iterable[Message]) -> Iterator[str]:
    for detail in details:
        match detail:
            case error_details_pb2.RetryInfo():
                yield f"Try again in {detail.retry_delay.ToTimedelta().total_seconds():g} s."
            case error_details_pb2.ErrorInfo() if "incident_id" in detail.metadata:
                yield f"Incident {detail.metadata['incident_id']}: the service's log has the cause under this id."
            case _:
                pass


def _hints_at_the_door(code: grpc.StatusCode) -> Iterator[str]:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        for name in ("STILLPOINT_TOKEN", "STILLPOINT_TOKEN_FILE"):
            if os.environ.get(name):
                yield f"The token is from {name}; put a new one there."
                return
        yield "`stillpoint login` takes a new token; so do STILLPOINT_TOKEN and STILLPOINT_TOKEN_FILE."
    elif code is grpc.StatusCode.PERMISSION_DENIED:
        yield "The token does not give that; nothing was changed. Ask whoever issues tokens for one that does."
