"""OperationService and EventService over a real server."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from stillpoint.operation.v1.event_service_pb2 import ListEventsRequest
from stillpoint.operation.v1.event_service_pb2_grpc import EventServiceStub
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import (
    AbandonOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    RetryOperationRequest,
    WatchOperationRequest,
)
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from svckit.caller import Caller
from svckit.calls import Unanswered, call
from svckit.errors import Refusal
from svckit.operations import registrations
from svckit.saga import More, Progress, Run, SagaEngine, Step
from svckit.saga.journal import SagaState
from tests.support.servers import served
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Gate, Held, World, accept, begin, is_quiet, saga_of, statements


class Service:
    """An engine whose sagas go through `todo`, and stubs to what it serves."""

    def __init__(self, world: World, todo: Callable[[Run], None]) -> None:
        self.engine: SagaEngine = world.started(saga_of(Step("a", do=todo), Step("b", pivot=True)))
        self.held = Held()
        self._served = served(registrations(self.engine, self.held), handler_threads=4)
        channel = self._served.__enter__()
        self.operations = OperationServiceStub(channel)
        self.events = EventServiceStub(channel)

    def close(self) -> None:
        self._served.__exit__(None, None, None)


class Todo:
    """What the step does: nothing, unless a test says otherwise."""

    def __init__(self) -> None:
        self.act: Callable[[Run], None] = lambda _: None

    def __call__(self, run: Run) -> None:
        self.act(run)


@pytest.fixture
def todo() -> Todo:
    return Todo()


@pytest.fixture
def service(world: World, todo: Todo) -> Iterator[Service]:
    service = Service(world, todo)
    yield service
    service.close()


def test_an_operation_at_rest_shows_its_steps(world: World, service: Service):
    saga_id = begin(service.engine, "sample")
    world.at_rest(saga_id)
    operation = service.operations.GetOperation(GetOperationRequest(operation_id=saga_id)).operation
    assert operation.state == Operation.STATE_SUCCEEDED
    assert [step.name for step in operation.steps] == ["accepted", "a", "b", "succeeded"]
    assert (operation.region, operation.resource_id, operation.current_step) == ("here", "thing-1", "")
    assert operation.HasField("end_time")
    assert not operation.HasField("error")


def test_an_operation_shows_progress_only_when_it_moves_bytes(world: World, service: Service):
    moves_none = begin(service.engine, "sample")
    world.at_rest(moves_none)
    request = GetOperationRequest(operation_id=moves_none)
    assert not service.operations.GetOperation(request).operation.HasField("progress")

    def half(run: Run) -> More | None:
        return None if run.data else More({"half": True}, Progress(5, 10, 3))

    engine = world.started(saga_of(Step("move", do=half), kind="mover"))
    moves_some = begin(engine, "mover")
    world.at_rest(moves_some)
    with served(registrations(engine, Held())) as channel:
        request = GetOperationRequest(operation_id=moves_some)
        progress = OperationServiceStub(channel).GetOperation(request).operation.progress
    assert (progress.completed_bytes, progress.total_bytes, progress.sent_bytes) == (5, 10, 3)


def test_an_operation_of_another_account_is_not_found(world: World, service: Service):
    saga = accept(service.engine, "sample", caller=Caller("other", "someone"))
    for method, request in (
        (service.operations.GetOperation, GetOperationRequest(operation_id=saga.id)),
        (service.operations.GetOperation, GetOperationRequest(operation_id="op-t-1")),
    ):
        with pytest.raises(Refusal) as caught:
            call(method, request, timeout_seconds=15)
        assert caught.value.reason == "OPERATION_NOT_FOUND"
    assert not service.operations.ListOperations(ListOperationsRequest()).operations


def test_an_admin_makes_another_accounts_operation_due_and_abandons_it(world: World, service: Service):
    saga = accept(service.engine, "sample", caller=Caller("other", "someone"))
    retried = service.operations.RetryOperation(RetryOperationRequest(operation_id=saga.id)).operation
    assert retried.account_id == "other"
    request = AbandonOperationRequest(operation_id=saga.id, reason="It is gone.")
    assert service.operations.AbandonOperation(request).operation.state == Operation.STATE_ABANDONED


def test_operations_are_listed_newest_first_and_narrowed_by_their_state(
    world: World, service: Service, todo: Todo
):
    def refuse(_run: Run) -> None:
        raise Refusal("no")

    done = begin(service.engine, "sample")
    world.at_rest(done)
    todo.act = refuse
    failed = begin(service.engine, "sample")
    world.at_rest(failed)
    gate = Gate()
    todo.act = lambda _: gate.wait()
    running = begin(service.engine, "sample")

    def listed(**only: object) -> set[str]:
        request = ListOperationsRequest(filter=ListOperationsRequest.Filter(**only))  # type: ignore[arg-type] # the fields differ in type
        return {operation.id for operation in service.operations.ListOperations(request).operations}

    assert listed() == {done, failed, running}
    assert listed(unfinished=True) == {running}
    assert listed(state=Operation.STATE_FAILED) == {failed}
    assert listed(state=Operation.STATE_SUCCEEDED, resource_id="thing-1") == {done}
    assert listed(resource_id="thing-2") == set()
    first = service.operations.ListOperations(ListOperationsRequest(page_size=2))
    rest = service.operations.ListOperations(
        ListOperationsRequest(page_size=2, page_token=first.next_page_token)
    )
    ids = [operation.id for operation in [*first.operations, *rest.operations]]
    assert ids == sorted([done, failed, running], reverse=True)
    gate.open()


def test_a_malformed_list_request_is_refused_with_every_field(service: Service):
    with pytest.raises(Refusal) as caught:
        call(
            service.operations.ListOperations,
            ListOperationsRequest(
                page_size=-1,
                filter=ListOperationsRequest.Filter(resource_id="A B", state=77),  # type: ignore[arg-type] # unknown on purpose
            ),
            timeout_seconds=15,
        )
    assert [p.field for p in caught.value.fields] == ["page_size", "filter.resource_id", "filter.state"]


def test_retry_makes_a_waiting_operation_due_at_once(world: World, service: Service, todo: Todo):
    broken = threading.Event()
    broken.set()

    def act(_run: Run) -> None:
        if broken.is_set():
            raise Unanswered("UNAVAILABLE: nobody there")

    todo.act = act
    saga = accept(service.engine, "sample")
    saga.attempts = 50  # the pause before its next try is 3.75 to 6.25 seconds
    service.engine.begin(saga)
    eventually(lambda: world.row(saga.id).attempts == 51)
    shown = service.operations.GetOperation(GetOperationRequest(operation_id=saga.id)).operation
    assert shown.error.message == "UNAVAILABLE: nobody there"
    broken.clear()
    service.operations.RetryOperation(RetryOperationRequest(operation_id=saga.id))
    assert world.at_rest(saga.id, within_seconds=3).state == SagaState.SUCCEEDED
    assert "retried" in world.log(saga.id)


def test_retry_leaves_an_operation_that_is_worked_on_to_its_worker(
    world: World, service: Service, todo: Todo
):
    gate = Gate()
    calls: list[str] = []

    def act(run: Run) -> None:
        calls.append(run.id)
        gate.wait()

    todo.act = act
    saga_id = begin(service.engine, "sample")
    gate.reached()
    held = world.row(saga_id)
    service.operations.RetryOperation(RetryOperationRequest(operation_id=saga_id))
    row = world.row(saga_id)
    assert (row.owner, row.due_at) == (held.owner, held.due_at)
    gate.open()
    world.at_rest(saga_id)
    assert calls == [saga_id]


def test_retry_of_an_operation_that_has_ended_is_refused(world: World, service: Service):
    saga_id = begin(service.engine, "sample")
    world.at_rest(saga_id)
    with pytest.raises(Refusal) as caught:
        call(
            service.operations.RetryOperation, RetryOperationRequest(operation_id=saga_id), timeout_seconds=15
        )
    assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "OPERATION_ENDED")


def test_watch_streams_each_change_until_the_operation_is_at_rest(world: World, service: Service, todo: Todo):
    gate = Gate()
    todo.act = lambda _: gate.wait()
    saga_id = begin(service.engine, "sample")
    gate.reached()
    stream = service.operations.WatchOperation(WatchOperationRequest(operation_id=saga_id))
    first = next(stream).operation
    assert (first.state, first.current_step) == (Operation.STATE_RUNNING, "a")
    gate.open()
    shown = [first, *(message.operation for message in stream)]
    assert [operation.HasField("end_time") for operation in shown] == [False] * (len(shown) - 1) + [True]
    assert shown[-1].state == Operation.STATE_SUCCEEDED
    assert all(before != after for before, after in itertools.pairwise(shown))


def test_watch_sees_the_end_of_an_operation_that_another_replica_drives(world: World, service: Service):
    other = world.engine(saga_of(Step("a"), Step("b", pivot=True)))
    saga = accept(other, "sample")
    stream = service.operations.WatchOperation(WatchOperationRequest(operation_id=saga.id))
    assert next(stream).operation.state == Operation.STATE_RUNNING
    other.begin(saga)
    assert [message.operation for message in stream][-1].state == Operation.STATE_SUCCEEDED


def test_two_hundred_watchers_hold_no_thread_and_all_see_the_end(world: World, service: Service, todo: Todo):
    gate = Gate()
    todo.act = lambda _: gate.wait()
    saga_id = begin(service.engine, "sample")
    gate.reached()
    service.operations.GetOperation(GetOperationRequest(operation_id=saga_id))
    request = WatchOperationRequest(operation_id=saga_id)
    streams = [service.operations.WatchOperation(request) for _ in range(200)]
    assert all(next(stream).operation.state == Operation.STATE_RUNNING for stream in streams)
    assert len(service.engine.notices._waiting[saga_id]) == 200
    handlers = [thread for thread in threading.enumerate() if thread.name.startswith("handler")]
    assert len(handlers) <= 4
    # With every thread held, this would not be answered.
    service.operations.GetOperation(GetOperationRequest(operation_id=saga_id), timeout=10)
    gate.open()
    for stream in streams:
        assert [message.operation for message in stream][-1].state == Operation.STATE_SUCCEEDED
    eventually(lambda: not service.engine.notices._waiting, what="the last watcher's leave")


def test_watchers_of_what_does_not_change_do_not_ask_the_database_each_for_itself(
    world: World, service: Service
):
    sagas = [accept(world.engine(saga_of(Step("a"), Step("b", pivot=True))), "sample") for _ in range(100)]
    requests = [WatchOperationRequest(operation_id=saga.id) for saga in sagas]
    streams = [service.operations.WatchOperation(request) for request in requests]
    assert all(next(stream).operation.state == Operation.STATE_RUNNING for stream in streams)
    # Each is looked at once more: it may have changed as its stream began.
    eventually(lambda: is_quiet(service.engine.database))
    for stream in streams:
        stream.cancel()


def test_watchers_of_one_operation_look_at_its_change_once_for_all(
    world: World, service: Service, todo: Todo
):
    gate = Gate()
    todo.act = lambda _: gate.wait()
    request = WatchOperationRequest(operation_id=begin(service.engine, "sample"))
    streams = [service.operations.WatchOperation(request) for _ in range(60)]
    assert all(next(stream) for stream in streams)
    with statements(service.engine.database) as executed:
        gate.open()
        for stream in streams:
            *_, last = stream
            assert last.operation.state == Operation.STATE_SUCCEEDED
    looks = [statement for statement in executed if statement.startswith("SELECT")]
    assert len(looks) < len(streams)


def test_watchers_that_go_away_leave_nothing_behind(world: World, service: Service, todo: Todo):
    gate = Gate()
    todo.act = lambda _: gate.wait()
    saga_id = begin(service.engine, "sample")
    request = WatchOperationRequest(operation_id=saga_id)
    streams = [service.operations.WatchOperation(request) for _ in range(20)]
    assert all(next(stream) for stream in streams)
    for stream in streams:
        stream.cancel()
    eventually(lambda: not service.engine.notices._waiting, what="the last watcher's leave")
    gate.open()


def test_events_are_listed_newest_first_by_operation(world: World, service: Service):
    world.at_rest(begin(service.engine, "sample"))
    saga_id = begin(service.engine, "sample")
    world.at_rest(saga_id)
    filter_ = ListEventsRequest.Filter(operation_id=saga_id)
    first = service.events.ListEvents(ListEventsRequest(filter=filter_, page_size=3))
    rest = service.events.ListEvents(
        ListEventsRequest(filter=filter_, page_size=3, page_token=first.next_page_token)
    )
    assert [event.type for event in [*first.events, *rest.events]] == [
        "sample/succeeded",
        "sample/b",
        "sample/a",
        "sample/accepted",
    ]
    assert rest.next_page_token == ""
    assert {event.actor for event in first.events} == {"local"}
