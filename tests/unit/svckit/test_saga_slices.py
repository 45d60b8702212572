"""Steps that do their work in slices, and the deadline that a step lifts."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.saga import More, Progress, Run, SagaEngine, Step, journal
from svckit.saga.journal import SagaState
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Death, Gate, World, accept, begin, saga_of

SLICES = 4


def sliced(
    done: list[int], *, at: int = -1, act: Callable[[], None] = lambda: None, pause_seconds: float = 0.0
) -> Step:
    """A step of four slices that notes each as it does it; before slice `at` it does something else."""

    def do(run: Run) -> More | None:
        number = run.data.get("slice", 0)
        if number == SLICES:
            return None
        if number == at:
            act()
        done.append(number)
        return More({"slice": number + 1}, Progress(10 * (number + 1), 40, 7 * (number + 1)), pause_seconds)

    return Step("copy", do=do)


def die() -> None:
    raise Death


def test_a_step_is_called_again_until_its_slices_are_done_and_each_leaves_its_data_and_progress(world: World):
    done: list[int] = []
    seen: list[dict[str, object]] = []
    gate = Gate()

    def look() -> None:
        seen.append(world.row(saga_id).data)
        gate.wait()

    saga_id = begin(world.started(saga_of(sliced(done, at=3, act=look), Step("end"))), "sample")
    gate.reached()
    assert seen == [{"slice": 3, "progress": {"completed_bytes": 30, "total_bytes": 40, "sent_bytes": 21}}]
    gate.open()
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert done == [0, 1, 2, 3]
    assert world.row(saga_id).data["progress"]["completed_bytes"] == 40
    assert world.log(saga_id) == ["accepted", "copy", "end", "succeeded"]


def test_an_engine_that_dies_between_slices_is_followed_by_one_that_begins_where_it_was(world: World):
    by_the_dead: list[int] = []
    # Without a lookout: what its worker leaves undone, nobody in it takes up again.
    dying = world.engine(saga_of(sliced(by_the_dead, at=2, act=die)), lease_seconds=0.05)
    saga_id = begin(dying, "sample")
    eventually(lambda: by_the_dead == [0, 1])
    by_the_heir: list[int] = []
    world.started(saga_of(sliced(by_the_heir)))
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert (by_the_dead, by_the_heir) == ([0, 1], [2, 3])


def test_a_slice_whose_outcome_is_unknown_is_tried_again_from_the_one_before_it(world: World):
    done: list[int] = []
    failures = [Unanswered("the network was away")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    saga_id = begin(world.started(saga_of(sliced(done, at=2, act=fail_once))), "sample")
    saga = world.at_rest(saga_id)
    assert (saga.state, saga.attempts, saga.last_error) == (SagaState.SUCCEEDED, 0, "")
    assert done == [0, 1, 2, 3]


def test_a_pause_between_slices_holds_no_worker(world: World):
    pausing: list[int] = []
    engine = world.started(
        saga_of(sliced(pausing, pause_seconds=3600), kind="pausing"),
        saga_of(Step("a"), kind="quick"),
        workers=1,
    )
    paused = begin(engine, "pausing")
    eventually(lambda: pausing == [0])
    quick = begin(engine, "quick")
    assert world.at_rest(quick).state == SagaState.SUCCEEDED
    saga = world.row(paused)
    assert (saga.state, saga.owner, pausing) == (SagaState.RUNNING, "", [0])
    assert saga.due_at is not None
    assert saga.due_at > utc_now() + timedelta(minutes=50)


def test_a_retry_ends_a_pause(world: World):
    done: list[int] = []
    engine = world.started(saga_of(sliced(done, pause_seconds=3600)))
    saga_id = begin(engine, "sample")
    for expected in ([0], [0, 1], [0, 1, 2], [0, 1, 2, 3]):
        _paused(world, saga_id, done, expected)
        _retry(engine, saga_id)
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED


def test_a_saga_of_many_slices_lets_others_have_the_only_worker_between_two(world: World):
    gate = Gate()
    order: list[str] = []

    def quick(_run: Run) -> None:
        order.append("quick")

    done: list[int] = []
    step = sliced(done, at=1, act=gate.wait)
    engine = world.started(
        saga_of(step, Step("end", do=lambda _: order.append("long")), kind="long"),
        saga_of(Step("a", do=quick), kind="quick"),
        workers=1,
    )
    long_one = begin(engine, "long")
    gate.reached()
    quick_one = begin(engine, "quick")
    gate.open()
    for saga_id in (quick_one, long_one):
        assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert order == ["quick", "long"]


def test_an_engine_that_stops_hands_over_after_the_slice_in_hand(world: World):
    gate = Gate()
    by_the_first: list[int] = []
    first = world.started(saga_of(sliced(by_the_first, at=1, act=gate.wait)), lease_seconds=3600)
    saga_id = begin(first, "sample")
    gate.reached()
    # It is in the middle of slice 1: stopping waits for that one, and for no other.
    first._stopping.set()
    gate.open()
    first.stop()
    assert by_the_first == [0, 1]
    by_the_second: list[int] = []
    # The lease is an hour: only a saga that was handed over is taken up at once.
    world.started(saga_of(sliced(by_the_second)), lease_seconds=3600)
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert by_the_second == [2, 3]


@pytest.mark.parametrize("lifts", [True, False])
def test_only_a_step_that_lifts_the_deadline_leaves_the_saga_all_the_time_it_needs(world: World, lifts: bool):
    done: list[int] = []

    def past_the_deadline() -> None:
        deadline = world.row(saga.id).deadline
        eventually(lambda: deadline is None or utc_now() > deadline)

    engine = world.engine(
        saga_of(
            Step("begin", lifts_deadline=lifts),
            sliced(done, at=1, act=past_the_deadline),
            deadline_seconds=1.5,
        )
    )
    saga = accept(engine, "sample")
    engine.start()
    engine.begin(saga)
    ended = world.at_rest(saga.id)
    assert ended.state == (SagaState.SUCCEEDED if lifts else SagaState.FAILED)
    assert done == ([0, 1, 2, 3] if lifts else [0, 1])
    assert (ended.deadline is None) is lifts


def test_a_step_that_would_lift_the_deadline_is_itself_bound_by_it(world: World):
    def unknown(_run: Run) -> None:
        raise Unanswered("nobody is there")

    engine = world.started(saga_of(Step("begin", do=unknown, lifts_deadline=True), deadline_seconds=0.3))
    assert world.at_rest(begin(engine, "sample")).state == SagaState.FAILED


def _paused(world: World, saga_id: str, done: list[int], expected: list[int]) -> None:
    eventually(lambda: done == expected and not world.row(saga_id).owner, what=f"the pause after {expected}")


def _retry(engine: SagaEngine, saga_id: str) -> None:
    with engine.database.write() as session:
        journal.make_due(session, saga_id, utc_now())
    engine.wake()
