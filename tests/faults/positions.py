"""Operations brought to a stop at a chosen place of a chosen step, each on a machine of its own, so that one death hits them
all in the middle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.gates import WAIT_SECONDS, Gate
from tests.faults.stage import Machine, Stage, new_request_id

WHEN = ("before", "after")


@dataclass
class Position:
    """A machine, and an operation on it that stands at a gate."""

    machine: Machine
    gate: Gate
    again: Callable[[], Any]
    """Sends the very same request again."""


Begin = Callable[[str], Any]
"""Sends a request with this request_id."""


def creation_on(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    stage.fill(machine, "old")
    return machine, lambda request_id: stage.begin_snapshot(machine, request_id)


def creation_from_a_disk_of(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    stage.fill(machine, "old")
    disk_id = machine.disk_ids[-1]
    return machine, lambda request_id: stage.begin_snapshot_from(disk_id, request_id)


def rollback_on(stage: Stage) -> tuple[Machine, Begin]:
    machine, snapshot_id = _stopped_machine_with_a_past(stage)
    return machine, lambda request_id: stage.begin_rollback(snapshot_id, request_id)


def rollback_of_the_last_disk_on(stage: Stage) -> tuple[Machine, Begin]:
    machine, snapshot_id = _stopped_machine_with_a_past(stage)
    return machine, lambda request_id: stage.begin_rollback(snapshot_id, request_id, machine.disk_ids[-1:])


def _stopped_machine_with_a_past(stage: Stage) -> tuple[Machine, str]:
    """Its disks say `new`, and `old` in the snapshot whose id this gives."""
    machine = stage.make_machine()
    stage.fill(machine, "old")
    snapshot = stage.take_snapshot(machine)
    stage.fill(machine, "new")
    stage.stop_machine(machine)
    return machine, snapshot.id


def deletion_on(stage: Stage) -> tuple[Machine, Begin]:
    machine = stage.make_machine()
    snapshot = stage.take_snapshot(machine)
    return machine, lambda request_id: stage.begin_deletion(snapshot.id, request_id)


def bring_into_position(stage: Stage, machines: Mapping[str, tuple[Machine, Begin]]) -> dict[str, Position]:
    """One operation at each place, on the machine prepared for it."""

    def one(place: str) -> Position:
        machine, begin = machines[place]
        request_id = new_request_id()
        gate, _ = stage.stopped_at(place, lambda: begin(request_id))
        return Position(machine, gate, lambda: begin(request_id))

    return {place: one(place) for place in machines}


def machines_for(
    stage: Stage, steps: Sequence[str], prepare: Callable[[Stage], tuple[Machine, Begin]]
) -> dict[str, tuple[Machine, Begin]]:
    return {f"{when} {step}": prepare(stage) for step in steps for when in WHEN}


def states(stage: Stage, positions: Mapping[str, Position]) -> dict[str, str]:
    """The states of each machine's snapshots."""
    return {place: " ".join(stage.states_of(p.machine)) for place, p in positions.items()}


def words(stage: Stage, positions: Mapping[str, Position]) -> dict[str, str]:
    """What the disks of each machine say."""
    return {place: stage.word_on(p.machine) for place, p in positions.items()}


def deliver_ghosts(positions: Mapping[str, Position]) -> None:
    """The calls of the first tries reach the participant at last."""
    for place, position in positions.items():
        position.gate.let_go()
        if place.startswith("before"):
            position.gate.ended.result(WAIT_SECONDS)
