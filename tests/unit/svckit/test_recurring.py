"""Rounds, and the sagas that a service begins in them by itself."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context

import pytest
from sqlalchemy.orm import Session

from svckit.caller import LOCAL, Caller, acting_as, current_caller
from svckit.errors import OperationNotFound
from svckit.mutations import Mutations, SagaStart
from svckit.recurring import Recurring, each_alone, repeat
from svckit.saga import Run, Step, journal
from svckit.saga.journal import SagaState
from tests.unit.svckit.sample import World, fact, saga_of

ROBOT = Caller(account_id="acc-1", subject="robot")


def repeat_until(enough: Callable[[int], bool], work: Callable[[int], None]) -> int:
    """Rounds until there are enough; returns how many that were."""
    rounds = 0

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def one() -> None:
            nonlocal rounds
            rounds += 1
            if enough(rounds):
                loop.call_soon_threadsafe(stop.set)
            work(rounds)

        await asyncio.wait_for(repeat(Recurring("test", one, 0.001), stop), 15)

    asyncio.run(main())
    return rounds


def test_a_round_that_fails_is_followed_by_the_next():
    def work(round_: int) -> None:
        if round_ == 2:
            raise RuntimeError("the database is away")

    assert repeat_until(lambda rounds: rounds == 4, work) >= 4


def test_a_round_under_way_ends_before_the_rounds_do():
    entered, left = threading.Event(), threading.Event()

    async def main() -> None:
        stop = asyncio.Event()

        def work() -> None:
            entered.set()
            assert stop_was_set.wait(15)
            left.set()

        stop_was_set = threading.Event()
        rounds = asyncio.create_task(repeat(Recurring("test", work, 3600.0), stop))
        await asyncio.to_thread(entered.wait, 15)
        stop.set()
        await asyncio.sleep(0)
        assert not rounds.done()
        stop_was_set.set()
        await asyncio.wait_for(rounds, 15)
        assert left.is_set()

    asyncio.run(main())


def test_a_long_pause_between_rounds_does_not_keep_a_service_from_ending():
    async def main() -> None:
        stop = asyncio.Event()
        rounds = asyncio.create_task(repeat(Recurring("test", done.set, 3600.0), stop))
        await asyncio.to_thread(done.wait, 15)
        stop.set()
        await asyncio.wait_for(rounds, 15)

    done = threading.Event()
    asyncio.run(main())


def test_one_that_is_refused_or_fails_keeps_no_other_from_its_turn():
    done: list[str] = []

    def work(item: str) -> None:
        if item == "refused":
            raise OperationNotFound("op-t-1")
        if item == "broken":
            raise RuntimeError(item)
        done.append(item)

    each_alone(["first", "refused", "second", "broken", "third"], work)
    assert done == ["first", "second", "third"]


def test_a_caller_acts_for_the_length_of_a_block():
    assert current_caller() == LOCAL
    with acting_as(ROBOT):
        assert current_caller() == ROBOT
    assert current_caller() == LOCAL


def test_where_it_was_lost_who_asks_it_is_nobody_and_not_somebody_with_every_role():
    with pytest.raises(LookupError):
        Context().run(current_caller)


def start(_session: Session, _operation_id: str) -> SagaStart:
    assert current_caller() == ROBOT
    return SagaStart("sample", "thing-1", {})


def test_sagas_that_nobody_asked_for_run_when_their_transaction_has_committed(world: World):
    engine = world.engine(saga_of(Step("a", record=fact("done"))))
    with Mutations(engine).unasked(ROBOT) as (_, begin):
        operation_ids = [begin(start) for _ in range(3)]
        with world.database.read() as session:
            assert [journal.find(session, each, region=engine.region) for each in operation_ids] == [None] * 3
    for operation_id in operation_ids:
        saga = world.at_rest(operation_id)
        assert saga.state == SagaState.SUCCEEDED
        assert (saga.account_id, saga.actor) == (ROBOT.account_id, ROBOT.subject)
        assert world.facts(operation_id) == ["done"]


def test_sagas_that_nobody_asked_for_are_all_accepted_or_none(world: World):
    ran: list[Run] = []
    engine = world.engine(saga_of(Step("a", do=ran.append)))
    operation_ids: list[str] = []

    def refuse(_session: Session, operation_id: str) -> SagaStart:
        raise OperationNotFound(operation_id)

    def one_that_would_and_one_that_will_not() -> None:
        with Mutations(engine).unasked(ROBOT) as (_, begin):
            operation_ids.append(begin(start))
            begin(refuse)

    with pytest.raises(OperationNotFound):
        one_that_would_and_one_that_will_not()
    engine.stop()  # whatever was begun has ended by then
    assert ran == []
    with world.database.read() as session:
        assert [journal.find(session, each, region=engine.region) for each in operation_ids] == [None]
