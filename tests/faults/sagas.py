"""The sagas of the three services as their own definitions say them: each step of each is a place to fail.

What is not asked for here (databases, stores, other services) is stood in for by nothing: only the lists are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import Mock

from compute_svc import sagas as of_compute
from disk_svc.sagas import copies, disks, policies, snapshots
from disk_svc.sagas.forward import cannot_fail
from snapshot_svc import sagas as of_snapshot
from stillpoint_cli.addresses import Service
from svckit.saga import SagaDefinition, Step

BY_THE_CLOCK = {"disk.take_automatic_snapshot"}
"""Those that nobody asks for: tests/faults/test_policies_die.py."""

FOLLOWS_ANOTHER = {"snapshot.copy_instance_snapshot/copy"}
"""Steps that are refused only when the operation that they follow has failed, and has undone everything itself."""


@dataclass(frozen=True, slots=True)
class Saga:
    """A kind of saga, of the service that drives it."""

    service: Service
    definition: SagaDefinition

    @property
    def name(self) -> str:
        """Like `compute.create_instance`: as its places are called (tests.faults.engine)."""
        return f"{self.service}.{self.definition.kind}"

    @property
    def can_be_refused(self) -> bool:
        return self.definition.failed is not cannot_fail

    @property
    def refusable(self) -> tuple[Step, ...]:
        """The steps that a refusal can turn back: up to the pivot's own, or all."""
        return tuple(
            step
            for step in self.definition.steps[: self._steps_to_the_pivot]
            if f"{self.name}/{step.name}" not in FOLLOWS_ANOTHER
        )

    @property
    def past_the_pivot(self) -> tuple[Step, ...]:
        return self.definition.steps[self._steps_to_the_pivot :]

    @property
    def _steps_to_the_pivot(self) -> int:
        """Its own included; without one all."""
        pivots = [number for number, step in enumerate(self.definition.steps, 1) if step.pivot]
        return pivots[0] if pivots else len(self.definition.steps)

    def places(self) -> list[str]:
        """Around each step's call and each write of the log, on the way forwards."""
        return [
            f"{when} {self.name}/{step.name}"
            for step in self.definition.steps
            for when in ("before", "after", "logged")
        ]

    def places_of_undoing(self) -> list[str]:
        """The same on the way back from the last step that can be refused."""
        return [
            f"{when} undo {self.name}/{step.name}"
            for step in reversed(self.refusable)
            for when in (("before", "after", "logged") if step.undo is not None else ("logged",))
        ]


def _all() -> Iterator[Saga]:
    anything = Mock()
    for definition in of_compute.definitions(anything, anything, anything, 30.0):
        yield Saga(Service.COMPUTE, definition)
    for definition in (
        *disks.definitions(anything, anything, anything),
        *snapshots.definitions(anything, anything, anything),
        policies.definition(anything, anything),
        copies.definition(anything, anything, anything, 30.0),
    ):
        yield Saga(Service.DISK, definition)
    for definition in of_snapshot.definitions(anything, anything, anything, anything, 30.0):
        yield Saga(Service.SNAPSHOT, definition)


SAGAS = {saga.name: saga for saga in _all()}
