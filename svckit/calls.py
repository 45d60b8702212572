"""Calls to other services, as saga steps make them: an answer, a refusal, or not known.

design.md §6, law 2: "A call ends done, refused (a definite no) or unknown (everything else, DEADLINE_EXCEEDED and
INTERNAL included)." A definite no is one that a Stillpoint service put its name to: it carries our ErrorInfo, no
RetryInfo, and a code that cannot also mean "it may have happened".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import grpc
from grpc_status import rpc_status

from svckit.clock import utc_now
from svckit.errors import Refusal
from svckit.telemetry.requests import passed_on

_INDEFINITE = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}

_SHORTEST_PATIENCE_SECONDS = 0.1

Response = TypeVar("Response")


class Unanswered(Exception):
    """It is not known whether the call took effect."""


def patience_seconds(deadline: datetime | None, at_most: float) -> float:
    """How long a call before the pivot is waited for: no longer than its saga may take, or a participant that hangs would
    keep the client waiting beyond the deadline it was promised.
    """
    if deadline is None:
        return at_most
    left = (deadline - utc_now()).total_seconds()
    return min(at_most, max(left, _SHORTEST_PATIENCE_SECONDS))


def call(method: Callable[..., Response], request: Any, *, timeout_seconds: float) -> Response:
    """Raises Refusal for a definite no, and Unanswered for everything else."""
    with told_apart():
        return method(request, timeout=timeout_seconds, metadata=passed_on())


@contextmanager
def told_apart() -> Iterator[None]:
    """The same for a block that makes its call itself: a stream."""
    try:
        yield
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # what a stub raises is a Call too
        refusal = Refusal.from_status(status) if status is not None else None
        if refusal is None or refusal.code in _INDEFINITE or refusal.retry_after_seconds is not None:
            raise Unanswered(f"{error.code().name}: {error.details()}") from error
        raise refusal from error
