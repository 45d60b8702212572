"""A saga that would be tried for ever is ended where it stands: by whom, in which order, and against whom it races."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session

from svckit import barrier
from svckit.abandonment import Abandonment, Hold
from svckit.caller import Caller, acting_as
from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.errors import OperationAbandoned, OperationEnded, OperationNotFound, Refusal, StepWithdrawn
from svckit.saga import Run, SagaDefinition, Step, journal
from svckit.saga.journal import Event, Saga, SagaState
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Gate, Held, World, accept, begin, fact, failed, saga_of

WHY = "The region burned down."
LEASE = Hold("lease", "thing-1", "local")
ADMIN = Caller("operators", "alice")


def _unanswered(_run: Run) -> None:
    raise Unanswered("UNAVAILABLE: nobody there")


def _abandoned(session: Session, run: Run, refusal: Refusal, step: str) -> None:
    fact(f"abandoned at {step}: {refusal.reason}")(session, run)


def _events(world: World, saga_id: str) -> list[Event]:
    with world.database.read() as session:
        return list(journal.steps_of(session, saga_id))


def _why(saga: Saga) -> str:
    assert saga.error is not None
    return Refusal.from_bytes(saga.error).message


def test_a_saga_that_waits_is_ended_where_it_stands_with_its_own_last_word_and_an_audit_record(world: World):
    step = Step("a", do=_unanswered, undo=lambda run: world.participant.undo(run, "a"))
    definition = SagaDefinition("sample", (step, Step("b", pivot=True)), failed, abandoned=_abandoned)
    engine = world.started(definition)
    saga_id = begin(engine, "sample")
    world.tried(saga_id)
    held = Held()
    held.by_operation[saga_id] = [LEASE]
    with acting_as(ADMIN):
        assert Abandonment(engine, held).abandon(saga_id, WHY) == [LEASE]

    saga = world.row(saga_id)
    assert (saga.state, saga.due_at, saga.owner, saga.last_error) == (SagaState.ABANDONED, None, "", "")
    assert saga.end_time is not None
    assert _why(saga) == f"operation {saga_id} was abandoned by alice, at a: {WHY}"
    assert world.participant.calls == []
    assert world.facts(saga_id) == ["abandoned at a: OPERATION_ABANDONED"]
    assert [(e.actor, e.type, e.step, e.account_id, e.detail) for e in _events(world, saga_id)[-2:]] == [
        ("alice", "abandon_operation", "released", "local", f"lease: {WHY}"),
        ("alice", "abandon_operation", "abandoned", "local", f"at a: {WHY}"),
    ]


def test_it_is_no_ones_any_more_before_anything_is_ended_and_only_then_at_rest(world: World):
    engine = world.started(saga_of(Step("a", do=_unanswered)))
    saga_id = begin(engine, "sample")
    world.tried(saga_id)
    owner = world.row(saga_id).owner
    held, seen = Held(), list[tuple[SagaState, bool]]()
    held.when_let_go = lambda: seen.append((world.row(saga_id).state, world.row(saga_id).owner != owner))
    Abandonment(engine, held).abandon(saga_id, WHY)
    assert held.calls == [f"forestall {saga_id}", f"let go {saga_id}"]
    assert seen == [(SagaState.RUNNING, True)]


def test_a_worker_in_the_middle_of_a_step_is_fenced_and_what_the_step_does_late_is_refused(world: World):
    gate, refused = Gate(), list[str]()

    def do(run: Run) -> None:
        gate.wait()
        try:
            world.participant.do(run, "a")
        except StepWithdrawn as withdrawn:
            refused.append(withdrawn.metadata["key"])
            raise

    undone: list[str] = []
    engine = world.started(
        saga_of(Step("a", do=do, undo=lambda run: undone.append(run.id), record=fact("a")), Step("b"))
    )
    saga_id = begin(engine, "sample")
    gate.reached()
    held = Held()

    def tombstone() -> None:
        with world.participant.database.write() as session:
            barrier.forestall(session, f"{saga_id}/a")

    held.when_let_go = tombstone
    Abandonment(engine, held).abandon(saga_id, WHY)
    gate.open()
    eventually(lambda: not engine._driving, what="the worker's end")
    assert refused == [f"{saga_id}/a"]
    assert undone == []
    assert world.row(saga_id).state == SagaState.ABANDONED
    assert world.facts(saga_id) == ["failed: OPERATION_ABANDONED"]
    assert world.participant.changes(f"{saga_id}/a") == []


def test_a_worker_that_was_fenced_and_finds_the_rows_changed_tells_of_no_error(
    world: World, capsys: pytest.CaptureFixture[str]
):
    gate = Gate()

    def must_hold_it(_session: Session, run: Run) -> None:
        raise AssertionError(f"{run.id} holds nothing any more")

    definition = saga_of(Step("a", do=lambda _: gate.wait(), record=must_hold_it))
    engine = world.started(definition)
    saga_id = begin(engine, "sample")
    gate.reached()
    Abandonment(engine, Held()).abandon(saga_id, WHY)
    gate.open()
    eventually(lambda: not engine._driving, what="the worker's end")
    said = capsys.readouterr().out  # structlog's default, unconfigured
    assert "saga taken over by another worker" in said
    assert "unforeseen" not in said


def test_a_worker_of_another_process_whose_step_ends_well_writes_nothing(world: World):
    gate = Gate()
    definition = saga_of(Step("a", do=lambda _: gate.wait(), record=fact("a")), Step("b"))
    other, engine = world.started(definition), world.engine(definition)
    saga_id = begin(other, "sample")
    gate.reached()
    Abandonment(engine, Held()).abandon(saga_id, WHY)
    rest = world.row(saga_id)
    gate.open()
    eventually(lambda: not other._driving, what="the worker's end")
    assert world.row(saga_id).update_time == rest.update_time
    assert world.facts(saga_id) == ["failed: OPERATION_ABANDONED"]


def test_a_saga_that_cannot_be_undone_is_ended_in_the_middle_of_it(world: World):
    def refuse(_run: Run) -> None:
        raise Refusal("no room")

    engine = world.started(saga_of(Step("a", undo=_unanswered), Step("b", do=refuse)))
    saga_id = begin(engine, "sample")
    saga = world.tried(saga_id)
    assert saga.state == SagaState.COMPENSATING
    Abandonment(engine, Held()).abandon(saga_id, WHY)
    assert "at the undo of a: " in _why(world.row(saga_id))


def test_a_death_before_its_end_leaves_a_saga_that_goes_on_and_the_same_call_ends_it(world: World):
    engine = world.engine(saga_of(Step("a", do=_unanswered)), lease_seconds=0.2)
    saga_id = accept(engine, "sample").id
    held = Held()
    held.by_operation[saga_id] = [LEASE]

    def die() -> None:
        raise KeyboardInterrupt

    held.when_let_go = die
    with pytest.raises(KeyboardInterrupt):
        Abandonment(engine, held).abandon(saga_id, WHY)
    assert world.row(saga_id).state == SagaState.RUNNING
    engine.start()
    world.tried(saga_id)
    held.when_let_go = lambda: None
    assert Abandonment(engine, held).abandon(saga_id, WHY) == [LEASE]
    assert world.row(saga_id).state == SagaState.ABANDONED


def test_two_who_abandon_at_once_end_it_once(world: World):
    definition = saga_of(Step("a", do=_unanswered))
    saga_id = accept(world.engine(definition), "sample").id
    start = threading.Barrier(4)

    def abandon(_number: int) -> None:
        engine = world.engine(definition)
        start.wait()
        with acting_as(ADMIN):
            Abandonment(engine, Held()).abandon(saga_id, WHY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(abandon, range(4)))
    assert world.facts(saga_id) == ["failed: OPERATION_ABANDONED"]
    assert world.log(saga_id) == ["accepted", "abandoned"]


def test_abandoning_again_changes_nothing_and_answers_as_before(world: World):
    engine = world.engine(saga_of(Step("a", do=_unanswered)))
    saga_id = accept(engine, "sample").id
    abandonment = Abandonment(engine, Held())
    abandonment.abandon(saga_id, WHY)
    first = world.row(saga_id)
    assert abandonment.abandon(saga_id, "For another reason.") == []
    assert abandonment.look(saga_id) == []
    assert (world.row(saga_id).update_time, _why(world.row(saga_id))) == (first.update_time, _why(first))
    assert world.log(saga_id) == ["accepted", "abandoned"]


@pytest.mark.parametrize("do", [lambda _: None, _unanswered], ids=["succeeded", "failed"])
def test_what_has_ended_by_itself_is_refused_unless_something_is_held_for_it_all_the_same(
    world: World, do: Callable[[Run], None]
):
    engine = world.started(saga_of(Step("a", do=do), deadline_seconds=0.1))
    saga_id = begin(engine, "sample")
    state = world.at_rest(saga_id).state
    held = Held()
    abandonment = Abandonment(engine, held)
    methods: list[Callable[[], Any]] = [
        lambda: abandonment.abandon(saga_id, WHY),
        lambda: abandonment.look(saga_id),
    ]
    for method in methods:
        with pytest.raises(OperationEnded):
            method()
    held.by_operation[saga_id] = [LEASE]
    assert abandonment.look(saga_id) == [LEASE]
    assert abandonment.abandon(saga_id, WHY) == [LEASE]
    assert held.by_operation == {}
    assert world.row(saga_id).state == state


def test_what_is_held_for_another_services_operation_is_let_go_and_nothing_else_is_said(world: World):
    held = Held()
    abandonment = Abandonment(world.engine(saga_of(Step("a"))), held)
    assert abandonment.look("op-x-1") == []
    assert abandonment.abandon("op-x-1", WHY) == []
    held.by_operation["op-x-1"] = [LEASE]
    assert abandonment.look("op-x-1") == [LEASE]
    with acting_as(ADMIN):
        assert abandonment.abandon("op-x-1", WHY) == [LEASE]
    assert abandonment.abandon("op-x-1", WHY) == []
    assert [(event.actor, event.account_id, event.resource_id) for event in _events(world, "op-x-1")] == [
        ("alice", "local", "thing-1")
    ]


def test_an_operation_that_would_be_this_services_and_is_unknown_is_refused_and_its_late_calls_are_too(
    world: World,
):
    held = Held()
    abandonment = Abandonment(world.engine(saga_of(Step("a"))), held)
    methods: list[Callable[[], Any]] = [
        lambda: abandonment.look("op-t-1"),
        lambda: abandonment.abandon("op-t-1", WHY),
    ]
    for method in methods:
        with pytest.raises(OperationNotFound):
            method()
    assert held.calls == ["forestall op-t-1", "let go op-t-1"]
    # Of another region whose services have the same prefixes: known from then on, because something was held for it.
    held.by_operation["op-t-1"] = [LEASE]
    assert abandonment.abandon("op-t-1", WHY) == [LEASE]
    assert abandonment.abandon("op-t-1", WHY) == []


def test_what_could_not_be_let_go_is_not_said_to_be(world: World):
    class Stubborn(Held):
        def let_go(self, operation_id: str) -> None:
            """Nothing comes of it."""

    held = Stubborn()
    held.by_operation["op-x-1"] = [LEASE]
    assert Abandonment(world.engine(saga_of(Step("a"))), held).abandon("op-x-1", WHY) == []


def test_the_refusal_of_who_waits_names_the_operation_and_the_request_stands_for_it(world: World):
    engine = world.engine(saga_of(Step("a", do=_unanswered)))
    saga = accept(engine, "sample")
    Abandonment(engine, Held()).abandon(saga.id, WHY)
    row = world.row(saga.id)
    assert row.error is not None
    refusal = Refusal.from_bytes(row.error)
    assert (refusal.reason, refusal.code) == (OperationAbandoned.reason, OperationAbandoned.code)
    assert refusal.metadata == {"operation_id": saga.id}


def test_a_saga_that_was_abandoned_is_never_taken_up_again(world: World):
    definition = saga_of(Step("a", do=_unanswered))
    engine = world.engine(definition, lease_seconds=0.05)
    saga_id = accept(engine, "sample").id
    Abandonment(engine, Held()).abandon(saga_id, WHY)
    with world.database.write() as session:
        assert not journal.make_due(session, saga_id, utc_now())
        assert journal.next_due(session, "here") is None
