"""The engine dies before and after each call, each undo and each commit; another one brings the saga to its end.

The points are generated from the scenarios, and each scenario's list is checked against the points that a run really
passes: a step or a commit that is added to the engine adds its crashes here, or fails the check.
"""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from svckit.clock import utc_now
from svckit.errors import StepWithdrawn
from svckit.ids import new_id
from svckit.saga.definition import Run
from svckit.saga.journal import SagaState
from tests.support.waiting import eventually
from tests.unit.svckit.dying import SAMPLE_STEPS, accept_on, sample_definition
from tests.unit.svckit.sample import Death, Fuse, MortalDatabase, World

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`moves` are the calls that one engine makes until it comes to rest, or waits for the next try."""

    moves: tuple[str, ...]
    state: SagaState
    effects: dict[str, list[int]]
    facts: tuple[str, ...]
    log: tuple[str, ...]

    def points(self) -> list[str]:
        points: list[str] = []
        for number, move in enumerate(self.moves, start=1):
            if not move.startswith("commit only"):
                points.append(f"before {move}")
                if "refused" not in move:
                    points.append(f"after {move}")
            points += [f"before commit {number}", f"after commit {number}"]
        return [point.replace(" refused", "") for point in points]


SCENARIOS = {
    "happy": Scenario(
        moves=("do reserve", "do cut", "do seal", "commit only: the pivot", "do finish"),
        state=SagaState.SUCCEEDED,
        effects={name: [1] for name in ("reserve", "cut", "seal", "finish")},
        facts=("reserved", "cut", "finished"),
        log=("accepted", "reserve", "cut", "seal", "commit", "finish", "succeeded"),
    ),
    "refused": Scenario(
        moves=(
            "do reserve",
            "do cut",
            "do seal refused",  # its commit is the change of direction
            "undo seal",
            "undo cut",
            "undo reserve",
        ),
        state=SagaState.FAILED,
        effects={"reserve": [1, -1], "cut": [1, -1], "seal": [], "finish": []},
        facts=("reserved", "cut", "failed: FULL"),
        log=("accepted", "reserve", "cut", "turned_back", "undo seal", "undo cut", "undo reserve", "failed"),
    ),
    "lost answer": Scenario(
        moves=("do reserve", "do cut"),  # then it waits for its next try
        state=SagaState.SUCCEEDED,
        effects={name: [1] for name in ("reserve", "cut", "seal", "finish")},
        facts=("reserved", "cut", "finished"),
        log=("accepted", "reserve", "cut", "seal", "commit", "finish", "succeeded"),
    ),
}
_EVERY_POINT = [
    pytest.param(name, point, id=f"{name}-{point}".replace(" ", "_"))
    for name, scenario in SCENARIOS.items()
    for point in scenario.points()
]
_KILLED_AT = [
    ("happy", "after do cut"),
    ("happy", "before commit 2"),
    ("happy", "after commit 4"),
    ("refused", "after undo cut"),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_points_at_which_the_engine_is_made_to_die_are_all_that_a_run_passes(world: World, name: str):
    fuse = Fuse(at=None)
    saga_id = _drive_until_death(world, name, fuse)
    eventually(lambda: saga_id not in world.latest_engine()._driving)
    assert fuse.passed == SCENARIOS[name].points()


@pytest.mark.parametrize(("name", "point"), _EVERY_POINT)
def test_a_saga_whose_engine_dies_anywhere_is_finished_by_another_with_one_effect_per_key(
    world: World, name: str, point: str
):
    fuse = Fuse(at=point)
    saga_id = _drive_until_death(world, name, fuse)
    eventually(lambda: fuse.passed[-1:] == [point], what=f"death {point}")
    _finish_and_check(world, saga_id, SCENARIOS[name])


@pytest.mark.parametrize(("name", "point"), _KILLED_AT)
def test_a_saga_whose_process_is_killed_is_finished_by_another_with_one_effect_per_key(
    world: World, name: str, point: str
):
    saga_id = new_id("op-t")
    command = [sys.executable, "-m", "tests.unit.svckit.dying", world.url, saga_id, name, point]
    child = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    _finish_and_check(world, saga_id, SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_saga_survives_one_death_after_the_other_at_every_point(world: World, name: str):
    """Each engine gets one point further than the one before it, and dies there."""
    saga_id = _drive_until_death(world, name, Fuse(at=SCENARIOS[name].points()[0]))
    for turn in range(100):
        eventually(lambda: not world.row(saga_id).due_at or _is_due(world, saga_id))
        if world.row(saga_id).due_at is None:
            break
        fuse = _NthPoint(turn % 4 + 1)
        fuse.armed = True
        database = MortalDatabase(world.url, connections=4, fuse=fuse)
        definition = sample_definition(world.participant, fuse)
        engine = world.engine(definition, lease_seconds=0.03, workers=1, database=database)
        fuse.armed = False
        engine._take_over_due()
        engine.stop()
    _finish_and_check(world, saga_id, SCENARIOS[name])


class _NthPoint(Fuse):
    """Dies at the n-th point, whatever its name."""

    def __init__(self, number: int) -> None:
        super().__init__(at=None)
        self._left = number

    def reach(self, point: str) -> None:
        super().reach(point)
        if self.armed:
            self._left -= 1
            if self._left <= 0:
                raise Death


def _is_due(world: World, saga_id: str) -> bool:
    due_at = world.row(saga_id).due_at
    return due_at is not None and due_at <= utc_now()


def _drive_until_death(world: World, name: str, fuse: Fuse) -> str:
    """An engine without a lookout: what its one worker leaves undone, nobody in it takes up again."""
    database = MortalDatabase(world.url, connections=4, fuse=fuse)
    definition = sample_definition(world.participant, fuse)
    engine = world.engine(definition, lease_seconds=0.05, workers=1, database=database)
    return accept_on(engine, fuse, new_id("op-t"), name)


def _finish_and_check(world: World, saga_id: str, scenario: Scenario) -> None:
    world.started(sample_definition(world.participant, Fuse(at=None)))
    saga = world.at_rest(saga_id)
    assert saga.state == scenario.state
    for step_name in SAMPLE_STEPS:
        assert world.participant.changes(f"{saga_id}/{step_name}") == scenario.effects[step_name], step_name
    assert world.facts(saga_id) == list(scenario.facts)
    assert world.log(saga_id) == list(scenario.log)
    # The answer counts the facts of its own transaction: it is the one that step "cut" gave, before anything after it.
    assert saga.answer == StringValue(value=f"{saga_id} after 2 facts").SerializeToString()
    if scenario.state == SagaState.FAILED:
        late = Run(saga_id, "sample", "local", "thing-1", {}, {}, None)
        with pytest.raises(StepWithdrawn):
            world.participant.do(late, "seal")
