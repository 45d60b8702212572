"""One engine, one saga: the laws of design.md §6 while nothing dies."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy.orm import Session

from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.errors import Refusal, Violation
from svckit.saga import Run, Step
from svckit.saga.journal import SagaState
from tests.unit.svckit.sample import Gate, World, accept, answer, begin, fact, saga_of


class Full(Refusal):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "FULL"
    domain = "test.stillpoint"


def _refuse(_run: Run) -> None:
    raise Full("no room", preconditions=[Violation("FULL", "disk/1", "disk 1 is full")])


def _plain(world: World, name: str, **more: Any) -> Step:
    return Step(
        name,
        do=lambda run: {name: world.participant.do(run, name)},
        undo=lambda run: world.participant.undo(run, name),
        **more,
    )


def test_a_saga_that_nothing_disturbs_leaves_one_log_row_per_step_and_one_effect_each(world: World):
    saga_id = begin(
        world.started(saga_of(_plain(world, "a", record=fact("a")), _plain(world, "b", pivot=True))), "sample"
    )
    saga = world.at_rest(saga_id)
    assert saga.state == SagaState.SUCCEEDED
    assert saga.past_pivot
    assert (saga.due_at, saga.owner) == (None, "")
    assert saga.end_time is not None
    assert world.log(saga_id) == ["accepted", "a", "b", "succeeded"]
    assert world.participant.changes(f"{saga_id}/a") == [1]
    assert world.participant.changes(f"{saga_id}/b") == [1]
    assert world.facts(saga_id) == ["a"]


def test_a_step_sees_what_the_saga_was_accepted_with_and_what_the_steps_before_returned(world: World):
    seen: list[Mapping[str, Any]] = []

    def look(run: Run) -> None:
        seen.append({**run.input, **run.data})

    engine = world.engine(
        saga_of(Step("a", do=lambda _: {"x": 1}), Step("b", do=lambda _: {"y": 2}), Step("c", look))
    )
    saga = accept(engine, "sample", {"size": 7})
    engine.begin(saga)
    world.at_rest(saga.id)
    assert seen == [{"size": 7, "x": 1, "y": 2}]


def test_a_refusal_before_the_pivot_undoes_in_reverse_including_the_step_in_flight(world: World):
    c = Step("c", do=_refuse, undo=lambda run: world.participant.undo(run, "c"))
    engine = world.started(saga_of(_plain(world, "a"), _plain(world, "b"), c, _plain(world, "d", pivot=True)))
    saga_id = begin(engine, "sample")
    saga = world.at_rest(saga_id)
    assert saga.state == SagaState.FAILED
    assert not saga.past_pivot
    assert [call.replace(saga_id, "") for call in world.participant.calls] == [
        "do /a",
        "do /b",
        "undo /c",
        "undo /b",
        "undo /a",
    ]
    assert world.log(saga_id) == ["accepted", "a", "b", "turned_back", "undo c", "undo b", "undo a", "failed"]
    assert world.participant.changes(f"{saga_id}/a") == [1, -1]
    assert world.participant.changes(f"{saga_id}/c") == []
    assert world.facts(saga_id) == ["failed: FULL"]


def test_the_refusal_that_turned_a_saga_back_is_kept_whole(world: World):
    engine = world.started(saga_of(Step("a", do=_refuse)))
    saga = world.at_rest(begin(engine, "sample"))
    assert saga.error is not None
    kept = Refusal.from_bytes(saga.error)
    assert (kept.code, kept.reason, kept.domain) == (Full.code, Full.reason, Full.domain)
    assert kept.preconditions == (Violation("FULL", "disk/1", "disk 1 is full"),)


def test_a_step_that_was_refused_after_an_unknown_try_that_took_effect_is_undone(world: World):
    def do(run: Run) -> None:
        if not world.participant.do(run, "a"):
            raise Full("no room any more")
        raise Unanswered("the answer was lost")

    step = Step("a", do=do, undo=lambda run: world.participant.undo(run, "a"))
    saga_id = begin(world.started(saga_of(step)), "sample")
    assert world.at_rest(saga_id).state == SagaState.FAILED
    assert world.participant.changes(f"{saga_id}/a") == [1, -1]


@pytest.mark.parametrize("unknown", [Unanswered("DEADLINE_EXCEEDED"), KeyError("a programming error")])
def test_an_unknown_outcome_is_tried_again_with_the_same_key(world: World, unknown: Exception):
    def do(run: Run) -> None:
        if world.participant.do(run, "a"):
            raise unknown

    saga_id = begin(world.started(saga_of(Step("a", do=do))), "sample")
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert world.participant.calls == [f"do {saga_id}/a", f"do {saga_id}/a"]
    assert world.participant.changes(f"{saga_id}/a") == [1]
    assert world.log(saga_id) == ["accepted", "a", "succeeded"]


def test_a_refusal_past_the_pivot_is_tried_again_and_never_compensated(world: World):
    refusals = threading.Event()

    def do(run: Run) -> None:
        if not refusals.is_set():
            refusals.set()
            raise Full("not now")
        world.participant.do(run, "b")

    undone: list[str] = []
    engine = world.started(
        saga_of(
            Step("a", undo=lambda _: undone.append("a"), pivot=True),
            Step("b", do=do, undo=lambda _: undone.append("b")),
        )
    )
    saga_id = begin(engine, "sample")
    saga = world.tried(saga_id)
    assert saga.last_error == "not now"
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert undone == []


def test_a_deadline_before_the_pivot_turns_back_also_when_the_steps_outcome_is_unknown(world: World):
    def do(run: Run) -> None:
        world.participant.do(run, "a")
        raise Unanswered("UNAVAILABLE: nobody there")

    step = Step("a", do=do, undo=lambda run: world.participant.undo(run, "a"))
    engine = world.started(saga_of(step, Step("b", pivot=True), deadline_seconds=1.0))
    saga_id = begin(engine, "sample")
    saga = world.at_rest(saga_id)
    assert saga.state == SagaState.FAILED
    assert saga.error is not None
    refusal = Refusal.from_bytes(saga.error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert refusal.metadata == {"operation_id": saga_id}
    assert world.participant.changes(f"{saga_id}/a") == [1, -1]
    assert saga.end_time is not None
    assert saga.deadline is not None
    assert saga.end_time >= saga.deadline


def test_a_waiting_saga_is_turned_back_at_its_deadline_and_not_at_its_next_try(world: World):
    def do(_run: Run) -> None:
        raise Unanswered("UNAVAILABLE")

    engine = world.started(saga_of(Step("a", do=do), deadline_seconds=0.5))
    saga = accept(engine, "sample")
    saga.attempts = 50  # its next pause is about five seconds
    engine.begin(saga)
    rest = world.at_rest(saga.id)
    assert rest.state == SagaState.FAILED
    assert rest.end_time is not None
    assert rest.deadline is not None
    assert (rest.end_time - rest.deadline).total_seconds() < 3


def test_a_step_that_ends_after_the_deadline_is_undone(world: World):
    gate = Gate()

    def do(run: Run) -> None:
        gate.wait()
        world.participant.do(run, "a")

    step = Step("a", do=do, undo=lambda run: world.participant.undo(run, "a"))
    engine = world.started(saga_of(step, Step("b", pivot=True), deadline_seconds=60))
    saga = accept(engine, "sample")
    engine.begin(saga)
    gate.reached()
    saga.deadline = utc_now()  # the object that the worker holds
    gate.open()
    assert world.at_rest(saga.id).state == SagaState.FAILED
    assert world.participant.changes(f"{saga.id}/a") == [1, -1]


def test_a_deadline_past_the_pivot_means_nothing(world: World):
    gate = Gate()
    steps = (Step("a", pivot=True), Step("b", do=lambda _: gate.wait()), Step("c"))
    engine = world.started(saga_of(*steps, deadline_seconds=60))
    saga = accept(engine, "sample")
    engine.begin(saga)
    gate.reached()
    saga.deadline = utc_now()
    gate.open()
    assert world.at_rest(saga.id).state == SagaState.SUCCEEDED


def test_a_compensation_is_tried_until_it_succeeds_counted_and_visible(world: World):
    broken = threading.Event()
    broken.set()

    def undo(run: Run) -> None:
        if broken.is_set():
            raise Full("an undo may not refuse, and is tried again when it does")
        world.participant.undo(run, "a")

    engine = world.started(
        saga_of(
            Step("a", do=lambda run: {"done": world.participant.do(run, "a")}, undo=undo),
            Step("b", do=_refuse),
        )
    )
    saga_id = begin(engine, "sample")
    saga = world.tried(saga_id, times=2)
    assert saga.state == SagaState.COMPENSATING
    assert "may not refuse" in saga.last_error
    broken.clear()
    assert world.at_rest(saga_id).state == SagaState.FAILED
    assert world.participant.changes(f"{saga_id}/a") == [1, -1]


def test_a_saga_that_failed_two_thousand_times_is_still_tried_and_counted(world: World):
    broken = threading.Event()
    broken.set()

    def do(_run: Run) -> None:
        if broken.is_set():
            raise Unanswered("UNAVAILABLE")

    engine = world.engine(saga_of(Step("a", do=do)))
    saga = accept(engine, "sample")
    saga.attempts = 2000
    engine.begin(saga)
    row = world.tried(saga.id)
    assert row.attempts == 2001
    assert row.owner == ""
    assert row.due_at is not None
    assert 2 < (row.due_at - row.update_time).total_seconds() < 7


def test_what_record_and_answer_write_is_in_the_commit_that_ends_the_step(world: World):
    gate = Gate()

    def record(session: Session, run: Run) -> None:
        fact("recorded")(session, run)
        gate.wait()

    engine = world.engine(saga_of(Step("a", record=record, answer=answer), Step("b", pivot=True)))
    saga_id = begin(engine, "sample")
    gate.reached()
    before = world.row(saga_id)
    assert (before.step, before.answer, world.facts(saga_id)) == (0, None, [])
    gate.open()
    after = world.at_rest(saga_id)
    assert after.answer == StringValue(value=f"{saga_id} after 1 facts").SerializeToString()
    assert world.facts(saga_id) == ["recorded"]


def test_a_record_that_fails_leaves_nothing_and_is_tried_again_in_sight(world: World):
    broken = threading.Event()
    broken.set()

    def record(session: Session, run: Run) -> None:
        fact("recorded")(session, run)
        if broken.is_set():
            raise RuntimeError("a rule of the service's own rows")

    engine = world.started(saga_of(_plain(world, "a", record=record, answer=answer)))
    saga_id = begin(engine, "sample")
    waiting = world.tried(saga_id, times=2)
    assert waiting.step == 0
    assert waiting.answer is None
    assert waiting.last_error != ""
    assert world.facts(saga_id) == []
    broken.clear()
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert world.facts(saga_id) == ["recorded"]
    assert world.participant.changes(f"{saga_id}/a") == [1]


def test_the_text_of_an_unforeseen_error_is_kept_from_whoever_asks_for_the_saga(world: World):
    def do(_run: Run) -> None:
        raise ValueError("password=hunter2")

    engine = world.started(saga_of(Step("a", do=do), deadline_seconds=1.0))
    saga_id = begin(engine, "sample")
    waiting = world.tried(saga_id)
    assert "incident" in waiting.last_error
    assert "hunter2" not in waiting.last_error
    saga = world.at_rest(saga_id)
    assert saga.error is not None
    assert b"hunter2" not in saga.error
    assert b"incident" in saga.error


def test_the_pauses_between_tries_grow_and_stay_below_seven_seconds(world: World):
    pauses: list[float] = []

    def do(_run: Run) -> None:
        raise Unanswered("UNAVAILABLE")

    engine = world.engine(saga_of(Step("a", do=do)))
    for attempts in (0, 3, 20):
        saga = accept(engine, "sample")
        saga.attempts = attempts
        engine.begin(saga)
        row = world.tried(saga.id, times=attempts + 1)
        assert row.due_at is not None
        pauses.append((row.due_at - row.update_time).total_seconds())
    assert pauses == sorted(pauses)
    assert 0.05 < pauses[0] < 0.2
    assert 3 < pauses[2] < 7


def test_a_saga_of_a_kind_that_nobody_defines_any_more_waits_in_sight(world: World):
    engine = world.engine(saga_of(Step("a"), kind="old"))
    saga = accept(engine, "old")
    world.change(saga.id, due_at=utc_now())
    world.started(saga_of(Step("a"), kind="new"))
    row = world.tried(saga.id)
    assert row.last_error != ""
    assert row.state == SagaState.RUNNING


def test_an_engine_that_stops_leaves_no_thread(world: World):
    before = threading.active_count()
    engine = world.started(saga_of(Step("a")))
    world.at_rest(begin(engine, "sample"))
    assert threading.active_count() > before
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 1
    assert threading.active_count() == before
