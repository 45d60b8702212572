"""Ends an operation that would be tried for ever, as an admin asks: design.md §6, law 10, "only their saga, or an admin's
audited `abandon`, ends them."

Every service does this for itself: ends what it holds for the operation, and its saga, where it is its own. In this order:
nobody drives the saga any more; no step takes effect here any more, whether its call is still on its way or its worker in
the middle of it; the log has what is held, and why it will not be; that is ended; and the saga is. A death in between leaves
less than there was, and the same call ends the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from svckit.caller import current_caller
from svckit.errors import OperationEnded, OperationNotFound
from svckit.saga import SagaEngine, journal
from svckit.saga.engine import ABANDON
from svckit.saga.journal import UNFINISHED, SagaState


@dataclass(frozen=True, slots=True)
class Hold:
    """What an operation holds here: `kind` is like `task`, `account_id` whose resource it is."""

    kind: str
    resource_id: str
    account_id: str


class Holds(Protocol):
    """What a service holds for operations, those of other services and regions above all."""

    def held_for(self, session: Session, operation_id: str) -> Sequence[Hold]: ...

    def forestall(self, session: Session, operation_id: str) -> None:
        """From the commit on, no step of the operation takes effect here that has not by then. Keys are `<operation>/<step>`
        (law 3), so that who is a participant knows all that a call of it can come with.
        """

    def let_go(self, operation_id: str) -> None:
        """End what is held, by the undo of each step. What cannot be undone is carried out."""


class Abandonment:
    """The use case, of one service."""

    def __init__(self, engine: SagaEngine, holds: Holds) -> None:
        self._engine = engine
        self._database = engine.database
        self._holds = holds

    def look(self, operation_id: str) -> Sequence[Hold]:
        """What `abandon` would let go; refuses as that would."""
        with self._database.read() as session:
            held = self._holds.held_for(session, operation_id)
            self._refuse_idle(session, operation_id, held)
        return held

    def abandon(self, operation_id: str, why: str) -> Sequence[Hold]:
        """Returns what was held, and is not any more."""
        actor = current_caller().subject
        held: Sequence[Hold] = []

        def end_holds() -> None:
            nonlocal held
            held = self._forestall(operation_id, actor, why)
            self._holds.let_go(operation_id)

        with self._database.read() as session:
            saga = journal.find(session, operation_id, region=self._engine.region)
        if saga is not None and saga.state in UNFINISHED:
            self._engine.abandon(operation_id, actor=actor, why=why, once_taken=end_holds)
        else:
            end_holds()
        with self._database.read() as session:
            self._refuse_idle(session, operation_id, held)
            still_held = set(self._holds.held_for(session, operation_id))
        return [hold for hold in held if hold not in still_held]

    def _forestall(self, operation_id: str, actor: str, why: str) -> Sequence[Hold]:
        with self._database.write() as session:
            self._holds.forestall(session, operation_id)
            held = self._holds.held_for(session, operation_id)
            for hold in held:
                journal.add_event(
                    session,
                    account_id=hold.account_id,
                    region=self._engine.region,
                    actor=actor,
                    type=ABANDON,
                    resource_id=hold.resource_id,
                    operation_id=operation_id,
                    step="released",
                    detail=f"{hold.kind}: {why}",
                )
        return held

    def _refuse_idle(self, session: Session, operation_id: str, held: Sequence[Hold]) -> None:
        """There was nothing to do, and there had not been before."""
        saga = journal.find(session, operation_id, region=self._engine.region)
        if held:
            return
        if saga is not None:
            if saga.state in (SagaState.SUCCEEDED, SagaState.FAILED):
                raise OperationEnded(operation_id)
        elif operation_id.startswith(f"{self._engine.operation_prefix}-") and not any(
            event.type == ABANDON for event in journal.steps_of(session, operation_id)
        ):
            raise OperationNotFound(operation_id)
