"""Every saga, at every place of every step: the lists are the sagas' own, so that a new step is tried the day it is there.

At each place stands an attempt of its own, and one death hits them all. What has become of them is compared with an
attempt that was left in peace. tests/faults/test_policies_die.py does the same for what comes by the clock.

In a CI each step has its answer lost and its call repeated; the rest takes longer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint_cli.addresses import Service
from tests.faults.attempts import Attempt, Attempts, Sight
from tests.faults.engine import OnPurpose
from tests.faults.gates import Gate
from tests.faults.regions import Regions
from tests.faults.sagas import BY_THE_CLOCK, SAGAS, Saga
from tests.faults.stage import Stage, new_request_id, refusal_of

BETWEEN_REGIONS = {"disk.copy_disk_snapshot", "snapshot.copy_instance_snapshot"}
TRIED = [saga for name, saga in SAGAS.items() if name not in BY_THE_CLOCK]
REFUSABLE = [saga for saga in TRIED if saga.can_be_refused]

pytestmark = pytest.mark.timeout(300)


def named(sagas: Sequence[Saga]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("saga", [pytest.param(saga, id=saga.name) for saga in sagas])


def victims_of(sagas: Sequence[Saga]) -> pytest.MarkDecorator:
    """Each saga with each service."""
    return pytest.mark.parametrize(
        ("saga", "victim"),
        [pytest.param(saga, victim, id=f"{saga.name}-{victim}") for saga in sagas for victim in Service],
    )


@pytest.fixture
def attempts(saga: Saga, database_kind: str, request: pytest.FixtureRequest) -> Attempts:
    if saga.name in BETWEEN_REGIONS:
        regions: Regions = request.getfixturevalue("regions")
        return Attempts(regions.north, regions)
    stage: Stage = request.getfixturevalue("stage")
    return Attempts(stage, None)


@dataclass(frozen=True, slots=True)
class Standing:
    """An attempt that stands at a place, and what was to be seen before it."""

    attempt: Attempt
    request_id: str
    gate: Gate
    before: Sight


def in_peace(attempts: Attempts, saga: Saga) -> Sight:
    """What is to be seen when nothing was done to it."""
    attempt = attempts.at(saga.name)
    before = attempt.look()
    assert outcome(attempts, attempt, new_request_id()) == "SUCCEEDED"
    after = attempt.look()
    assert after != before
    return after


def outcome(attempts: Attempts, attempt: Attempt, request_id: str) -> str:
    """Of asking for it, again or for the first time: how its operation has ended, or FAILED when that is the answer."""
    call = attempt.send(request_id)
    if call.exception() is not None:
        assert refusal_of(call).reason == OnPurpose.reason
        return "FAILED"
    return attempts.stage.outcome(call.result().operation_id)


def left_by_failure(saga: Saga, refused_at: str, before: Sight) -> Sight:
    """What was there before; and where the moment had been fixed, the snapshot that has failed stays listed."""
    if refused_at == "seal" and saga.name == "disk.create_disk_snapshot":
        return before | {"disk snapshots": [(DiskSnapshot.STATE_ERROR, DiskSnapshot.KIND_MANUAL, False, "")]}
    if refused_at == "seal":
        return before | {"instance snapshots": [(InstanceSnapshot.STATE_ERROR, 0, "")]}
    return before


def stand_at_each(
    attempts: Attempts, saga: Saga, places: Sequence[str], *, refused_at: str = ""
) -> dict[str, Standing]:
    """An attempt at each place; all of them are refused at one, if that is named."""
    director, gates = attempts.stage.director, attempts.stage.gates
    prepared = {place: attempts.at(saga.name) for place in places}
    standing = {}
    for place, attempt in prepared.items():
        before, request_id = attempt.look(), new_request_id()
        if refused_at:
            director.order(refused_at, "refuse")
        gate = gates.close(place)
        call = attempt.send(request_id)
        gate.wait_for(call)
        standing[place] = Standing(attempt, request_id, gate, before)
    return standing


def die(attempts: Attempts, victim: Service, standing: Mapping[str, Standing]) -> None:
    """What stands there goes on while nobody answers, or is dead itself."""
    attempts.stage.kill(victim)
    for each in standing.values():
        each.gate.let_go()
    attempts.stage.restart(victim)
    attempts.come_to_rest()


@pytest.mark.by_hand
@victims_of(TRIED)
def test_killed_around_each_call_and_each_write_of_the_log_it_is_carried_on(
    saga: Saga, victim: Service, attempts: Attempts, tally: Counter[str]
):
    calm = in_peace(attempts, saga)
    standing = stand_at_each(attempts, saga, saga.places())
    die(attempts, victim, standing)
    assert {place: each.attempt.look() for place, each in standing.items()} == dict.fromkeys(standing, calm)
    ends = {place: outcome(attempts, each.attempt, each.request_id) for place, each in standing.items()}
    assert ends == dict.fromkeys(standing, "SUCCEEDED")
    assert {place: each.attempt.look() for place, each in standing.items()} == dict.fromkeys(standing, calm)
    attempts.assert_nothing_left()
    tally["sagas stood at a place of theirs, forwards, when a service was killed"] += len(standing)


@pytest.mark.by_hand
@victims_of(REFUSABLE)
def test_killed_around_each_undo_and_each_write_of_the_log_it_is_undone(
    saga: Saga, victim: Service, attempts: Attempts, tally: Counter[str]
):
    last = saga.refusable[-1].name
    standing = stand_at_each(
        attempts, saga, saga.places_of_undoing(), refused_at=f"before {saga.name}/{last}"
    )
    die(attempts, victim, standing)
    assert {place: each.attempt.look() for place, each in standing.items()} == {
        place: left_by_failure(saga, last, each.before) for place, each in standing.items()
    }
    attempts.assert_nothing_left()
    tally["sagas stood at a place of theirs, on the way back, when a service was killed"] += len(standing)


@named(TRIED)
@pytest.mark.parametrize(
    ("place", "fault"),
    [("after {}", "lose the answer"), ("before {}", "make it twice")],
    ids=["answer-lost", "call-repeated"],
)
def test_a_call_whose_answer_is_lost_or_that_comes_twice_takes_effect_once(
    saga: Saga, place: str, fault: str, attempts: Attempts, tally: Counter[str]
):
    calm = in_peace(attempts, saga)
    for step in saga.definition.steps:
        attempts.stage.director.order(place.format(f"{saga.name}/{step.name}"), fault)
        attempt, request_id = attempts.at(saga.name), new_request_id()
        assert outcome(attempts, attempt, request_id) == "SUCCEEDED", step.name
        assert attempt.look() == calm, step.name
        tally[f"steps made to {fault}"] += 1
    attempts.assert_nothing_left()


@pytest.mark.by_hand
@named(REFUSABLE)
@pytest.mark.parametrize(
    ("place", "fault"),
    [("after undo {}", "lose the answer"), ("before undo {}", "make it twice")],
    ids=["answer-lost", "call-repeated"],
)
def test_an_undo_whose_answer_is_lost_or_that_comes_twice_takes_effect_once(
    saga: Saga, place: str, fault: str, attempts: Attempts, tally: Counter[str]
):
    last = saga.refusable[-1].name
    for step in [step for step in saga.refusable if step.undo is not None]:
        attempts.stage.director.order(place.format(f"{saga.name}/{step.name}"), fault)
        attempt = attempts.at(saga.name)
        before = attempt.look()
        attempts.stage.director.order(f"before {saga.name}/{last}", "refuse")
        assert outcome(attempts, attempt, new_request_id()) == "FAILED"
        attempts.come_to_rest()
        assert attempt.look() == left_by_failure(saga, last, before), step.name
        tally[f"undos made to {fault}"] += 1
    attempts.assert_nothing_left()


@pytest.mark.by_hand
@named(REFUSABLE)
def test_refused_for_good_it_is_undone_before_its_point_of_no_return_and_carried_on_after_it(
    saga: Saga, attempts: Attempts, tally: Counter[str]
):
    calm = in_peace(attempts, saga)
    for step in (*saga.refusable, *saga.past_the_pivot):
        attempt = attempts.at(saga.name)
        before = attempt.look()
        attempts.stage.director.order(f"before {saga.name}/{step.name}", "refuse")
        undone = step in saga.refusable
        expected = "FAILED" if undone else "SUCCEEDED"
        assert outcome(attempts, attempt, new_request_id()) == expected, step.name
        attempts.come_to_rest()
        assert attempt.look() == (left_by_failure(saga, step.name, before) if undone else calm), step.name
        if undone:
            assert outcome(attempts, attempt, new_request_id()) == "SUCCEEDED", "it can be asked for again"
        tally["steps refused for good"] += 1
    attempts.assert_nothing_left()


@pytest.mark.by_hand
@named(REFUSABLE)
def test_a_call_that_is_delivered_after_its_undo_does_nothing(
    saga: Saga, attempts: Attempts, tally: Counter[str]
):
    gates = attempts.stage.gates
    for step in [step for step in saga.refusable if step.undo is not None]:
        place = f"{saga.name}/{step.name}"
        attempt = attempts.at(saga.name)
        before = attempt.look()
        late, done = gates.close(f"deliver {place}"), gates.close(f"delivered {place}")
        attempts.stage.director.order(f"before {place}", "refuse, deliver late")
        assert outcome(attempts, attempt, new_request_id()) == "FAILED"
        attempts.come_to_rest()
        late.wait_for_call()
        late.let_go()
        done.wait_for_call()
        done.let_go()
        assert attempt.look() == left_by_failure(saga, step.name, before), step.name
        tally["calls delivered after their undo"] += 1
    attempts.assert_nothing_left()
