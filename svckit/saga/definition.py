"""What a saga is: a list of steps, and what its ends do to the service's own rows.

A step's `do` may call another service, or a store, under the key `run.key(step name)`; it ends done (it returns), refused
(it raises Refusal, having changed nothing) or unknown (it raises anything else, and is tried again with the same key).
`record` writes the service's own rows in the very commit that ends the step, so a row never says more than the saga
knows. `undo` must tolerate that the step never happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from svckit.errors import Refusal


@dataclass(frozen=True, slots=True)
class Run:
    """One saga as its steps see it. `input` is what it was accepted with, `data` what its steps returned so far."""

    id: str
    kind: str
    account_id: str
    resource_id: str
    input: Mapping[str, Any]
    data: Mapping[str, Any]
    deadline: datetime | None

    def key(self, step_name: str) -> str:
        """Deterministic, so that every try of a step carries the same (design.md §6, law 3)."""
        return f"{self.id}/{step_name}"


def _nothing(_run: Run) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `pivot`: the commit that ends it is the point of no return. `answer`: the client's answer, fixed in that
    same commit.
    """

    name: str
    do: Callable[[Run], Mapping[str, Any] | None] = _nothing
    undo: Callable[[Run], None] | None = None
    record: Callable[[Session, Run], None] | None = None
    pivot: bool = False
    answer: Callable[[Session, Run], Message] | None = None


@dataclass(frozen=True, slots=True)
class SagaDefinition:
    """A kind of saga.

    `failed` writes the service's own rows in the commit that ends the compensation; its error is the refusal that turned
    the saga back. `deadline_seconds` bounds the time before the pivot: past it the saga is turned back, whatever its
    steps' outcomes (law 2). None means that unknown steps are tried until they are known.
    """

    kind: str
    steps: tuple[Step, ...]
    failed: Callable[[Session, Run, Refusal], None]
    deadline_seconds: float | None = None
