"""The undo arrives before the do: "an undo tolerates "never happened" and leaves a tombstone that refuses a late do"
(design.md §6, law 5).

A call is held in the network, or in the middle of the participant, until the operation that made it has given up and has
undone it; then it goes on.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults.conftest import Stages
from tests.faults.gates import WAIT_SECONDS
from tests.faults.positions import creation_on, deletion_on, rollback_on
from tests.faults.stage import Stage, new_request_id, refusal_of

DEADLINE_SECONDS = 2.0


@pytest.fixture
def hasty(stages: Stages) -> Iterator[Stage]:
    """A stage that gives up soon."""
    given = stages(DEADLINE_SECONDS)
    yield given
    given.gates.lose_all()


def test_a_step_that_arrives_after_its_undo_is_refused_and_does_nothing(hasty: Stage):
    steps = [
        ("ReserveSnapshotDeletion", deletion_on),
        ("ReserveRollback", rollback_on),
        ("CreateConsistencyPoint", creation_on),
        ("LeaseInstance", creation_on),
        ("LeaseInstance", rollback_on),
    ]
    machines = [prepare(hasty) for _, prepare in steps]
    before = [(hasty.states_of(machine), hasty.disk_snapshots_of(machine)) for machine, _ in machines]
    stopped = [
        hasty.stopped_at(f"before {step}", partial(begin, new_request_id()))
        for (step, _), (_, begin) in zip(steps, machines, strict=True)
    ]
    # No later try arrives either: the participants hear of these steps from their undo.
    for step, _ in steps:
        hasty.gates.lose_every(f"before {step}")
    for _, call in stopped:
        assert refusal_of(call).reason == "DEPENDENCY_UNAVAILABLE"
    hasty.come_to_rest()
    hasty.gates.mend()

    for gate, _ in stopped:
        gate.let_go()
        assert gate.ended.result(WAIT_SECONDS).startswith("ABORTED: ")
    assert [(hasty.states_of(machine), hasty.disk_snapshots_of(machine)) for machine, _ in machines] == before
    assert [hasty.instance(machine).operation_id for machine, _ in machines] == [""] * len(machines)
    hasty.assert_nothing_left()
    for _, begin in machines:
        assert hasty.outcome(begin(new_request_id()).result().operation_id) == "SUCCEEDED"
    hasty.assert_nothing_left()


def test_a_cut_that_is_overtaken_by_its_undo_inside_disk_svc_leaves_no_rows_and_no_bytes(hasty: Stage):
    places = ["before store.cut", "after store.cut"]
    machines = [creation_on(hasty) for _ in places]
    answers = [hasty.gates.close("after CreateConsistencyPoint") for _ in places]
    stopped = [
        hasty.stopped_at(place, partial(begin, new_request_id()))
        for place, (_, begin) in zip(places, machines, strict=True)
    ]
    hasty.gates.lose_every("before CreateConsistencyPoint")
    for _, call in stopped:
        assert refusal_of(call).reason == "DEPENDENCY_UNAVAILABLE"
    hasty.come_to_rest()
    hasty.gates.mend()

    for gate, _ in stopped:
        gate.let_go()
    for answer in answers:
        assert answer.ended.result(WAIT_SECONDS).startswith("ABORTED: ")
    for machine, _ in machines:
        assert hasty.states_of(machine) == []
        assert hasty.disk_snapshots_of(machine) == []
    hasty.assert_nothing_left()
    for machine, _ in machines:
        hasty.take_snapshot(machine)
    hasty.assert_nothing_left()
