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
class Progress:
    """How far a saga is that moves bytes: of `total_bytes`, holes included, and how many had to be sent for that."""

    completed_bytes: int
    total_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class More:
    """Returned by a step that has done a slice of its work: `data` and `progress` are kept, and the step is called again,
    after a pause if it waits for something. So a step that lasts for hours is resumed where it was, holds no worker while
    it waits or others do, and stops no shutdown.
    """

    data: Mapping[str, Any]
    progress: Progress
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `pivot`: the commit that ends it is the point of no return. `answer`: the client's answer, fixed in that
    same commit. `lifts_deadline`: from that commit on the saga may take as long as it takes.
    """

    name: str
    do: Callable[[Run], Mapping[str, Any] | More | None] = _nothing
    undo: Callable[[Run], None] | None = None
    record: Callable[[Session, Run], None] | None = None
    pivot: bool = False
    lifts_deadline: bool = False
    answer: Callable[[Session, Run], Message] | None = None


@dataclass(frozen=True, slots=True)
class SagaDefinition:
    """A kind of saga.

    `failed` writes the service's own rows in the commit that ends the compensation; its error is the refusal that turned
    the saga back. `deadline_seconds` bounds the time before the pivot, or before the step that lifts it: past it the saga
    is turned back, whatever its steps' outcomes (law 2). None means that unknown steps are tried until they are known.

    `abandoned` does so when an admin ends it where it stands, with no step undone, and is told the name of that step. Without
    one it is `failed`, which must then do for every step.
    """

    kind: str
    steps: tuple[Step, ...]
    failed: Callable[[Session, Run, Refusal], None]
    deadline_seconds: float | None = None
    abandoned: Callable[[Session, Run, Refusal, str], None] | None = None
