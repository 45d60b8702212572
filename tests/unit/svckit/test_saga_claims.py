"""Several engines on one database: claims, leases, fences, and handing over."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.orm import Session

from svckit.clock import utc_now
from svckit.database import Database
from svckit.saga import Run, SagaEngine, Step, journal
from svckit.saga.journal import SagaState
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Gate, World, accept, begin, fact, saga_of


def test_two_engines_never_drive_one_saga_at_once_and_share_the_work(world: World):
    guard = threading.Lock()
    inside: dict[str, int] = defaultdict(int)
    overlaps: list[str] = []
    drivers: set[str] = set()

    def step_of(engine_name: str) -> Step:
        def do(run: Run) -> None:
            with guard:
                inside[run.id] += 1
                drivers.add(engine_name)
                if inside[run.id] > 1:
                    overlaps.append(run.id)
            eventually(lambda: len(drivers) == 2, what="the other engine's share")
            world.participant.do(run, "a")
            with guard:
                inside[run.id] -= 1

        return Step("a", do=do)

    other = Step("b", do=lambda run: {"b": world.participant.do(run, "b")})
    idle = world.engine(saga_of(step_of("nobody"), other), lease_seconds=0.01)
    saga_ids = [accept(idle, "sample").id for _ in range(24)]
    for name in ("first", "second"):
        world.started(saga_of(step_of(name), other))
    for saga_id in saga_ids:
        assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
        assert world.participant.calls.count(f"do {saga_id}/a") == 1
        assert world.participant.calls.count(f"do {saga_id}/b") == 1
    assert overlaps == []


def test_claims_that_race_never_get_the_same_saga_nor_more_than_they_asked_for(world: World):
    idle = world.engine(saga_of(Step("a")), lease_seconds=0.001)
    saga_ids = {accept(idle, "sample").id for _ in range(40)}
    start = threading.Barrier(8)

    def claim(number: int) -> list[tuple[str, str]]:
        database = Database(world.url, connections=1)
        mine: list[tuple[str, str]] = []
        start.wait()
        for turn in range(20):
            now = utc_now()
            owner = f"{number}-{turn}"
            with database.write() as session:
                claimed = journal.claim_due(
                    session, region="here", owner=owner, now=now, until=now + timedelta(hours=1), limit=2
                )
            assert len(claimed) <= 2
            assert all(saga.owner == owner for saga in claimed)
            mine += [(saga.id, owner) for saga in claimed]
        database.dispose()
        return mine

    with ThreadPoolExecutor(8) as pool:
        claims = [claimed for mine in pool.map(claim, range(8)) for claimed in mine]
    assert len(claims) == len(saga_ids)
    assert {saga_id for saga_id, _ in claims} == saga_ids
    assert all(world.row(saga_id).owner == owner for saga_id, owner in claims)


def test_a_saga_whose_process_died_between_accepting_and_beginning_is_found(world: World):
    dead = world.engine(saga_of(Step("a", record=fact("a"))), lease_seconds=0.05)
    saga = accept(dead, "sample")
    world.started(saga_of(Step("a", record=fact("a"))))
    assert world.at_rest(saga.id).state == SagaState.SUCCEEDED
    assert world.facts(saga.id) == ["a"]


def test_a_worker_that_slept_through_its_lease_changes_nothing(world: World):
    gate = Gate()

    def slow(run: Run) -> None:
        world.participant.do(run, "a")
        gate.wait()

    # Not started: nobody renews its claims, as in a process that the operating system has stopped.
    sleeper = world.engine(saga_of(Step("a", do=slow, record=fact("by the sleeper"))), lease_seconds=0.05)
    saga_id = begin(sleeper, "sample")
    gate.reached()
    healthy = Step("a", do=lambda run: {"n": world.participant.do(run, "a")}, record=fact("by the healthy"))
    world.started(saga_of(healthy))
    rest = world.at_rest(saga_id)
    gate.open()
    sleeper.stop()
    assert world.facts(saga_id) == ["by the healthy"]
    assert world.log(saga_id).count("a") == 1
    assert world.row(saga_id).update_time == rest.update_time
    assert world.participant.changes(f"{saga_id}/a") == [1]


def test_a_fenced_worker_can_neither_retry_nor_turn_back(world: World):
    gate = Gate()

    def slow(_run: Run) -> None:
        gate.wait()
        raise RuntimeError("unknown")

    sleeper = world.engine(saga_of(Step("a", do=slow)))
    saga_id = begin(sleeper, "sample")
    gate.reached()
    world.change(saga_id, owner="somebody else")
    gate.open()
    sleeper.stop()
    row = world.row(saga_id)
    assert (row.owner, row.attempts, row.last_error) == ("somebody else", 0, "")


def test_a_step_that_runs_long_keeps_its_lease(world: World):
    gate = Gate()

    def slow(run: Run) -> None:
        world.participant.do(run, "a")
        gate.wait()

    definition = saga_of(Step("a", do=slow))
    saga_id = begin(world.started(definition, lease_seconds=0.6), "sample")
    world.started(definition, lease_seconds=0.6)
    gate.reached()
    owner = world.row(saga_id).owner
    claimed_until = {world.row(saga_id).due_at}

    def four_renewals() -> bool:
        claimed_until.add(world.row(saga_id).due_at)
        return len(claimed_until) > 4

    eventually(four_renewals, what="the fourth renewal")
    assert world.row(saga_id).owner == owner
    gate.open()
    assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
    assert world.participant.calls == [f"do {saga_id}/a"]


class _Stalling(Database):
    """Its `write()` waits at the door for whoever is told to."""

    stalled: str = ""

    def __init__(self, url: str, *, connections: int) -> None:
        super().__init__(url, connections=connections)
        self.gate = Gate()

    @contextmanager
    def write(self) -> Iterator[Session]:
        if threading.current_thread().name == self.stalled:
            self.gate.wait()
        with super().write() as session:
            yield session


def _renew_while(engine: SagaEngine, database: _Stalling, saga_id: str, let_end: Gate) -> None:
    """A renewal that has chosen the saga, waits for its turn to write, and gets it when the saga is let go."""
    eventually(lambda: saga_id in engine._driving)
    saga, _ = engine._driving[saga_id]
    engine._driving[saga_id] = (saga, -1e9)  # held for long
    database.stalled = "renewal"
    renewal = threading.Thread(target=engine._renew_claims, name="renewal")
    renewal.start()
    database.gate.reached()
    let_end.open()
    eventually(lambda: saga_id not in engine._driving)
    database.gate.open()
    renewal.join()


def test_a_renewal_that_comes_after_the_end_does_not_wake_a_saga_at_rest(world: World):
    database = _Stalling(world.url, connections=8)
    gate = Gate()
    engine = world.engine(
        saga_of(Step("a", do=lambda _: gate.wait(), undo=lambda _: None)), database=database
    )
    saga_id = begin(engine, "sample")
    gate.reached()
    _renew_while(engine, database, saga_id, gate)
    rest = world.row(saga_id)
    assert rest.state == SagaState.SUCCEEDED
    assert rest.due_at is None


def test_a_renewal_that_comes_late_does_not_put_off_the_next_try(world: World):
    database = _Stalling(world.url, connections=8)
    gate = Gate()

    def do(_run: Run) -> None:
        gate.wait()
        raise RuntimeError("unknown")

    engine = world.engine(saga_of(Step("a", do=do)), database=database)
    saga_id = begin(engine, "sample")
    gate.reached()
    _renew_while(engine, database, saga_id, gate)
    waiting = world.row(saga_id)
    assert waiting.due_at is not None
    assert waiting.due_at < utc_now() + timedelta(seconds=5)


def test_an_empty_token_is_nobodys_claim(world: World):
    engine = world.engine(saga_of(Step("a")))
    saga = accept(engine, "sample")
    engine.begin(saga)
    rest = world.at_rest(saga.id)
    stale = world.row(saga.id)
    try:
        with world.database.write() as session:
            journal.update_claimed(session, stale, {"state": SagaState.COMPENSATING})
    except journal.Fenced:
        pass
    assert world.row(saga.id).state == rest.state == SagaState.SUCCEEDED


def test_a_graceful_stop_lets_the_step_end_and_hands_over_at_once(world: World):
    gate = Gate()

    def slow(run: Run) -> None:
        world.participant.do(run, "a")
        gate.wait()

    second = Step("b", do=lambda run: {"n": world.participant.do(run, "b")})
    leaving = world.started(saga_of(Step("a", do=slow), second), lease_seconds=300)
    saga_id = begin(leaving, "sample")
    gate.reached()
    stopping = threading.Thread(target=leaving.stop)
    stopping.start()
    eventually(leaving._stopping.is_set)
    gate.open()
    stopping.join()
    handed_over = world.row(saga_id)
    assert (handed_over.step, handed_over.owner) == (1, "")
    world.started(saga_of(Step("a", do=slow), second))
    assert world.at_rest(saga_id, within_seconds=5).state == SagaState.SUCCEEDED
    assert world.participant.calls == [f"do {saga_id}/a", f"do {saga_id}/b"]


def test_a_graceful_stop_hands_over_what_still_waits_for_a_worker(world: World):
    gate = Gate()
    leaving = world.engine(
        saga_of(Step("a", do=lambda _: gate.wait()), Step("b")), workers=1, lease_seconds=300
    )
    saga_ids = [begin(leaving, "sample") for _ in range(3)]
    gate.reached()
    stopping = threading.Thread(target=leaving.stop)
    stopping.start()
    eventually(leaving._stopping.is_set)
    gate.open()
    stopping.join()
    now = utc_now()
    for saga_id in saga_ids:
        row = world.row(saga_id)
        assert row.owner == ""
        assert row.due_at is not None
        assert row.due_at <= now


def test_a_saga_accepted_while_its_engine_stops_is_handed_over_at_once(world: World):
    leaving = world.engine(saga_of(Step("a")), lease_seconds=300)
    saga = accept(leaving, "sample")
    leaving.stop()
    leaving.begin(saga)
    world.started(saga_of(Step("a")))
    assert world.at_rest(saga.id, within_seconds=5).state == SagaState.SUCCEEDED


def test_more_sagas_than_workers_are_all_driven(world: World):
    engine = world.started(
        saga_of(Step("a", do=lambda run: {"n": world.participant.do(run, "a")}), Step("b", pivot=True)),
        workers=2,
    )
    for saga_id in [begin(engine, "sample") for _ in range(20)]:
        assert world.at_rest(saga_id).state == SagaState.SUCCEEDED
        assert world.participant.changes(f"{saga_id}/a") == [1]


def test_a_saga_of_another_region_is_left_to_it(world: World):
    """Two regions on one database: a deployment that was given another name before everything had come to rest."""
    saga = accept(world.engine(saga_of(Step("a"))), "sample")
    later = utc_now() + timedelta(days=1)

    def due_in(region: str) -> list[str]:
        with world.database.write() as session:
            claimed = journal.claim_due(session, region=region, owner="x", now=later, until=later, limit=9)
            assert bool(claimed) == (journal.next_due(session, region) is not None)
        return [each.id for each in claimed]

    assert due_in("there") == []
    assert due_in("here") == [saga.id]
