"""The same request_id gives the first answer with one effect (design.md §7)."""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from stillpoint.compute.v1.instance_service_pb2 import (
    StartInstanceRequest,
    StartInstanceResponse,
    StopInstanceRequest,
    StopInstanceResponse,
)
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    CreateInstanceSnapshotRequest,
    CreateInstanceSnapshotResponse,
    DeleteInstanceSnapshotRequest,
)
from svckit.caller import LOCAL, Caller, acting_as
from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.database import table_of
from svckit.errors import Overloaded, Refusal, RequestIdReused
from svckit.ids import new_id
from svckit.mutations import Mutations, SagaStart
from svckit.saga import Run, Step, requests
from svckit.saga.journal import SagaState
from svckit.saga.requests import AcceptedRequest
from svckit.saga.retention import purge
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Effect, Gate, World, begin, is_quiet, saga_of

REQUEST_ID = "0f0e0d0c-0000-4000-8000-00000000abcd"


def _start(mutations: Mutations, instance_id: str = "i-1", request_id: str = REQUEST_ID) -> str:
    """A direct mutation whose answer says how many effects there were by then."""

    def change(session: Session) -> StartInstanceResponse:
        session.execute(sa.insert(table_of(Effect)), {"key": "start", "change": 1})
        count = session.scalar(sa.select(sa.func.count()).select_from(Effect))
        response = StartInstanceResponse()
        response.instance.id = f"{instance_id} after {count}"
        return response

    request = StartInstanceRequest(request_id=request_id, instance_id=instance_id)
    return mutations.direct(request, instance_id, change, StartInstanceResponse).instance.id


def test_a_repeated_mutation_gives_the_first_answer_with_one_effect(world: World):
    mutations = Mutations(world.engine())
    answers = [_start(mutations) for _ in range(3)]
    assert answers == ["i-1 after 1"] * 3
    assert world.participant.changes("start") == [1]


def test_a_request_id_means_the_same_in_capitals(world: World):
    mutations = Mutations(world.engine())
    assert _start(mutations) == _start(mutations, request_id=REQUEST_ID.upper())
    assert world.participant.changes("start") == [1]


def test_a_mutation_repeated_by_many_threads_on_two_replicas_has_one_effect(world: World):
    replicas = [Mutations(world.engine()), Mutations(world.engine())]
    request_ids = [str(uuid.uuid4()) for _ in range(4)]
    calls = [(replicas[n % 2], request_id) for request_id in request_ids for n in range(8)]

    def start(call: tuple[Mutations, str]) -> tuple[str, str]:
        mutations, request_id = call
        with acting_as(LOCAL):
            return request_id, _start(mutations, request_id=request_id)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(start, calls))
    assert len(set(answers)) == len(request_ids)
    assert world.participant.changes("start") == [1] * len(request_ids)


def test_without_a_request_id_each_mutation_is_a_new_one(world: World):
    mutations = Mutations(world.engine())
    assert [_start(mutations, request_id="") for _ in range(2)] == ["i-1 after 1", "i-1 after 2"]


def test_a_request_id_with_other_arguments_is_refused_and_changes_nothing(world: World):
    mutations = Mutations(world.engine())
    _start(mutations)
    with pytest.raises(RequestIdReused):
        _start(mutations, instance_id="i-2")
    assert world.participant.changes("start") == [1]


def test_a_refused_mutation_is_not_remembered(world: World):
    mutations = Mutations(world.engine())

    def refuse(_session: Session) -> StartInstanceResponse:
        raise Refusal("not now")

    request = StartInstanceRequest(request_id=REQUEST_ID, instance_id="i-1")
    with pytest.raises(Refusal, match="not now"):
        mutations.direct(request, "i-1", refuse, StartInstanceResponse)
    assert _start(mutations) == "i-1 after 1"


def test_the_same_request_id_in_two_accounts_and_two_methods_does_not_collide(world: World):
    mutations = Mutations(world.engine())
    assert _start(mutations) == "i-1 after 1"
    with acting_as(Caller("other", "someone")):
        assert _start(mutations, instance_id="i-2") == "i-2 after 2"
    stop = StopInstanceRequest(request_id=REQUEST_ID, instance_id="i-1")
    mutations.direct(stop, "i-1", lambda _: StopInstanceResponse(), StopInstanceResponse)


def test_a_mutation_leaves_one_event_however_often_it_is_repeated(world: World):
    mutations = Mutations(world.engine())
    for _ in range(3):
        _start(mutations)
    assert world.log("") == [""]


def test_a_row_that_is_forgotten_between_two_statements_is_as_if_it_had_never_been(world: World):
    """A saga that is turned back deletes the row after the repetition has met it, and before it reads it."""
    request = StartInstanceRequest(request_id=REQUEST_ID, instance_id="i-1")

    def remember(session: Session, operation_id: str) -> requests.AcceptedRequest | None:
        return requests.remember(
            session, account_id="local", region="here", request=request, operation_id=operation_id
        )

    with world.database.write() as session:
        assert remember(session, "op-1") is None
    if world.database.is_sqlite:
        pytest.skip("SQLite has one writer: nobody can delete the row in between")
    met: list[str] = []

    def forget_before_read(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and not met:
            met.append(statement)
            with world.participant.database.write() as rival:
                requests.forget(rival, "op-1")

    sa.event.listen(world.database._engine, "before_cursor_execute", forget_before_read)
    with world.database.write() as session:
        assert remember(session, "op-2") is None
    assert met


def test_what_is_older_than_it_must_be_kept_is_forgotten_and_nothing_else(world: World):
    mutations = Mutations(world.engine())
    old, young = str(uuid.uuid4()), str(uuid.uuid4())
    _start(mutations, request_id=old)
    with world.database.write() as session:
        session.execute(
            sa.update(table_of(AcceptedRequest)).values(create_time=utc_now() - timedelta(days=31))
        )
    _start(mutations, request_id=young)
    assert purge(world.database, utc_now() - timedelta(days=30)) == 1
    assert _start(mutations, request_id=young) == "i-1 after 2"
    assert _start(mutations, request_id=old) == "i-1 after 3"


# Mutations that are sagas


def _creation(world: World, before: Callable[[Run], None] = lambda _: None) -> Any:
    def do(run: Run) -> dict[str, Any]:
        before(run)
        return {"n": world.participant.do(run, "cut")}

    def answer(_session: Session, run: Run) -> CreateInstanceSnapshotResponse:
        return CreateInstanceSnapshotResponse(operation_id=run.id)

    return saga_of(
        Step("cut", do=do, undo=lambda run: world.participant.undo(run, "cut"), answer=answer),
        Step("commit", pivot=True),
        kind="create",
    )


async def _create(mutations: Mutations, request_id: str = REQUEST_ID, instance_id: str = "i-1") -> str:
    def admit(session: Session, operation_id: str) -> SagaStart:
        session.execute(sa.insert(table_of(Effect)), {"key": "admitted", "change": 1})
        return SagaStart("create", new_id("isnap"), {"instance_id": instance_id})

    request = CreateInstanceSnapshotRequest(request_id=request_id, instance_id=instance_id)
    return (await mutations.saga(request, admit, CreateInstanceSnapshotResponse)).operation_id


def test_a_repeated_saga_gives_the_first_answer_also_from_another_replica(world: World):
    first = Mutations(world.started(_creation(world)))
    second = Mutations(world.started(_creation(world)))

    async def story() -> set[str]:
        return {await _create(first), await _create(first), await _create(second)}

    (operation_id,) = asyncio.run(story())
    assert world.participant.changes("admitted") == [1]
    assert world.participant.changes(f"{operation_id}/cut") == [1]


def test_repetitions_while_the_first_call_runs_wait_for_it_and_give_its_answer(world: World):
    gate = Gate()
    definition = _creation(world, lambda _: gate.wait())
    first = Mutations(world.started(definition))
    second = Mutations(world.started(definition))

    async def story() -> list[str]:
        calls = [asyncio.create_task(_create(first))]
        await asyncio.to_thread(gate.reached)
        calls += [asyncio.create_task(_create(mutations)) for mutations in (first, second) * 4]
        await asyncio.wait(calls, timeout=0.2)
        assert not any(call.done() for call in calls)
        gate.open()
        return await asyncio.gather(*calls)

    assert len(set(asyncio.run(story()))) == 1
    assert world.participant.changes("admitted") == [1]


def test_many_first_calls_at_once_begin_one_saga(world: World):
    replicas = [Mutations(world.started(_creation(world))) for _ in range(2)]

    async def story() -> list[str]:
        return await asyncio.gather(*(_create(replicas[n % 2]) for n in range(16)))

    assert len(set(asyncio.run(story()))) == 1
    assert world.participant.changes("admitted") == [1]


def test_a_saga_with_a_used_request_id_and_other_arguments_is_refused(world: World):
    mutations = Mutations(world.started(_creation(world)))

    async def story() -> None:
        await _create(mutations)
        with pytest.raises(RequestIdReused):
            await _create(mutations, instance_id="i-2")

    asyncio.run(story())
    assert world.participant.changes("admitted") == [1]


def test_a_saga_that_was_turned_back_before_its_answer_is_not_remembered(world: World):
    refusals: list[str] = []

    def refuse_once(run: Run) -> None:
        if not refusals:
            refusals.append(run.id)
            raise Refusal("disk busy")

    mutations = Mutations(world.started(_creation(world, refuse_once)))

    async def story() -> str:
        with pytest.raises(Refusal, match="disk busy"):
            await _create(mutations)
        return await _create(mutations)

    assert asyncio.run(story()) != refusals[0]
    assert world.row(refusals[0]).state == SagaState.FAILED


def test_a_refusal_is_answered_while_its_compensation_cannot_get_through(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("svckit.mutations._COMPENSATION_PATIENCE_SECONDS", 0.1)
    stuck = Gate()

    def refuse(_run: Run) -> None:
        raise Refusal("disk busy")

    definition = saga_of(Step("cut", do=refuse, undo=lambda _: stuck.wait()), kind="create")
    mutations = Mutations(world.started(definition))

    async def story() -> None:
        with pytest.raises(Refusal, match="disk busy"):
            await _create(mutations)

    asyncio.run(story())
    stuck.open()


def test_a_client_that_goes_away_stops_nothing_that_was_accepted(world: World):
    gate = Gate()
    engine = world.started(_creation(world, lambda _: gate.wait()))
    mutations = Mutations(engine)

    async def story() -> None:
        call = asyncio.create_task(_create(mutations))
        await asyncio.to_thread(gate.reached)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(story())
    assert not engine.notices._waiting
    gate.open()
    (operation_id,) = {call.split("/")[0].removeprefix("do ") for call in _calls_of(world)}
    assert world.at_rest(operation_id).state == SagaState.SUCCEEDED
    assert asyncio.run(_create(mutations)) == operation_id


def test_who_waits_for_an_answer_does_not_ask_the_database_again_and_again(world: World):
    gate = Gate()
    engine = world.started(_creation(world, lambda _: gate.wait()))
    mutations = Mutations(engine)

    async def story() -> None:
        calls = [
            asyncio.create_task(_create(mutations, f"{REQUEST_ID[:-2]}{number}")) for number in range(10, 50)
        ]
        await asyncio.to_thread(gate.reached)
        await asyncio.to_thread(eventually, lambda: is_quiet(engine.database))
        gate.open()
        assert len(set(await asyncio.gather(*calls))) == len(calls)

    asyncio.run(story())


def test_clients_that_give_up_and_ask_anew_do_not_pile_up_sagas_without_end(world: World):
    gate = Gate()
    engine = world.started(_creation(world, lambda _: gate.wait()), workers=2, admitted=5)
    mutations = Mutations(engine)

    async def story() -> list[BaseException | str]:
        begun: list[BaseException | str] = []
        for _ in range(20):
            call = asyncio.create_task(_create(mutations, str(uuid.uuid4())))
            await asyncio.wait([call], timeout=0.3)
            call.cancel()
            begun += await asyncio.gather(call, return_exceptions=True)
        return begun

    answers = asyncio.run(story())
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 5 + [Overloaded] * 15
    assert world.participant.changes("admitted") == [1] * 5
    gate.open()
    eventually(lambda: not engine._driving)
    assert asyncio.run(_create(mutations))


def test_what_no_replica_can_finish_does_not_pile_up_without_end(world: World):
    def away(_run: Run) -> None:
        raise Unanswered("the service is away")

    definition = saga_of(Step("lease", do=away), Step("commit", pivot=True), kind="create")
    first, second = (world.started(definition, unfinished=3) for _ in range(2))
    sagas = [begin(first, "create") for _ in range(3)]
    eventually(lambda: not second.room.is_left)
    with pytest.raises(Overloaded):
        asyncio.run(_create(Mutations(second)))
    with pytest.raises(Overloaded):
        asyncio.run(Mutations(second).batch(DeleteInstanceSnapshotRequest(), ["a"], _admit_any))
    first.abandon(sagas[0], actor="admin", why="it is away for good", once_taken=lambda: None)
    eventually(lambda: second.room.is_left)


def _admit_any(_session: Session, _operation_id: str, item: str) -> SagaStart:
    return SagaStart("create", item, {})


def _calls_of(world: World) -> list[str]:
    return eventually(lambda: list(world.participant.calls))
