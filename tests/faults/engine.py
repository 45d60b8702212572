"""A saga engine that a test can stop at every place of every saga, and whose steps it can make fail in every way in which a
call can: around the product's own engine, in the tests' composition roots of the services.

The places of a step are called `before compute.create_instance/create_disks`; `after …`: it has taken effect, and the log
does not say so yet; `logged …`: the log says so. Those of its undo are `before undo compute.create_instance/create_disks`
and so on. What a test may order, for the first who comes by:

    before …   refuse                  for good, without having been made
               refuse, deliver late    the same; and it is made when everything has long been undone
               make it twice           what a network does that repeats a message
    after …    lose the answer         it has taken effect, and whoever made it does not know
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

from sqlalchemy.orm import Session

from svckit.calls import Unanswered
from svckit.database import Database
from svckit.errors import Refusal
from svckit.saga import More, Run, SagaDefinition, SagaEngine, Step
from svckit.saga.journal import Saga, SagaState
from tests.faults.director import ask

Result = Mapping[str, Any] | More | None


class OnPurpose(Refusal):
    """What a test orders."""

    reason = "ON_PURPOSE"


def put_on_stage(root: ModuleType) -> None:
    """The composition root makes engines of this kind from now on."""
    service = root.__name__.partition("_svc")[0]
    root.SagaEngine = partial(StagedEngine, service)  # type: ignore[attr-defined]


class StagedEngine(SagaEngine):
    """`service` is `compute`, `disk` or `snapshot`."""

    def __init__(
        self, service: str, database: Database, definitions: Sequence[SagaDefinition], **settings: Any
    ) -> None:
        self._service = service
        super().__init__(database, [_staged(service, definition) for definition in definitions], **settings)

    def _write(
        self, saga: Saga, values: dict[str, Any], effects: Callable[[Session], None] | None = None
    ) -> None:
        ends_a_step = "step" in values
        undone = "undo " if saga.state == SagaState.COMPENSATING else ""
        place = f"{undone}{self._service}.{saga.kind}/{self.step_name(saga)}"
        super()._write(saga, values, effects)
        if ends_a_step:
            ask(f"logged {place}")


def _staged(service: str, definition: SagaDefinition) -> SagaDefinition:
    return replace(
        definition,
        steps=tuple(
            _staged_step(f"{service}.{definition.kind}/{step.name}", step) for step in definition.steps
        ),
    )


def _staged_step(place: str, step: Step) -> Step:
    def do(run: Run) -> Result:
        order = ask(f"before {place}")
        if order == "refuse, deliver late":
            threading.Thread(target=_deliver_late, args=[place, step, run], daemon=True).start()
        if order in ("refuse", "refuse, deliver late"):
            raise OnPurpose(f"{place} was refused on purpose")
        if order == "make it twice":
            step.do(run)
        result = step.do(run)
        if ask(f"after {place}") == "lose the answer":
            raise Unanswered(f"the answer of {place} was lost on purpose")
        return result

    def undo(run: Run) -> None:
        assert step.undo is not None
        if ask(f"before undo {place}") == "make it twice":
            step.undo(run)
        step.undo(run)
        if ask(f"after undo {place}") == "lose the answer":
            raise Unanswered(f"the answer of the undo of {place} was lost on purpose")

    return replace(step, do=do, undo=undo if step.undo is not None else None)


def _deliver_late(place: str, step: Step, run: Run) -> None:
    ask(f"deliver {place}")
    with suppress(Exception):  # whatever it is told, nobody hears it
        step.do(run)
    ask(f"delivered {place}")
