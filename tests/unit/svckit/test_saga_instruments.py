"""What is counted of sagas, and what they keep of the request that began them."""

import contextvars
import threading

import pytest
import structlog
from prometheus_client import CollectorRegistry

from svckit.calls import Unanswered
from svckit.errors import Overloaded
from svckit.saga import Run, SagaDefinition, SagaEngine, Step
from svckit.saga.instruments import SagaInstruments, unfinished_sagas
from svckit.telemetry.exposition import AtScrape
from svckit.telemetry.pools import CountingThreads
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Gate, World, begin, saga_of


class Watched:
    """An engine, and what it has told."""

    def __init__(self, world: World, definition: SagaDefinition) -> None:
        self.registry = CollectorRegistry()
        self.engine: SagaEngine = world.engine(definition, instruments=SagaInstruments(self.registry))
        self.engine.start()
        self.registry.register(AtScrape(lambda: unfinished_sagas(world.database, "here", self.engine.kinds)))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"stillpoint_{name}", {"saga": "sample", **labels})


def failing(times: int) -> Step:
    left = [times]

    def do(_run: Run) -> None:
        if left[0]:
            left[0] -= 1
            raise Unanswered("not yet")

    return Step("a", do=do)


def test_every_try_of_a_step_is_timed_and_every_further_one_counted(world: World):
    watched = Watched(world, saga_of(failing(2), Step("b", pivot=True)))
    world.at_rest(begin(watched.engine, "sample"))
    eventually(lambda: watched.value("sagas_ended_total", state="SUCCEEDED"))
    assert watched.value("saga_step_duration_seconds_count", step="a", action="do") == 3
    assert watched.value("saga_step_retries_total", step="a", action="do") == 2
    assert watched.value("saga_step_duration_seconds_count", step="b", action="do") == 1


def test_counters_are_there_before_anything_has_happened(world: World):
    watched = Watched(world, saga_of(Step("a", undo=lambda _: None), Step("b", pivot=True)))
    for action in ("do", "undo"):
        assert watched.value("saga_step_retries_total", step="a", action=action) == 0
    assert watched.value("saga_step_retries_total", step="b", action="undo") is None
    for state in ("SUCCEEDED", "FAILED"):
        assert watched.value("sagas_ended_total", state=state) == 0
    assert watched.value("sagas", state="COMPENSATING") == 0


def test_an_undoing_that_keeps_failing_is_seen_with_its_age(world: World):
    def refuse(_run: Run) -> None:
        raise Overloaded

    def cannot(_run: Run) -> None:
        raise Unanswered("away")

    watched = Watched(world, saga_of(Step("a", do=refuse, undo=cannot), Step("b", pivot=True)))
    saga_id = begin(watched.engine, "sample")
    eventually(lambda: world.row(saga_id).state == "COMPENSATING")
    world.tried(saga_id)
    assert watched.value("sagas", state="COMPENSATING") == 1
    assert watched.value("sagas_retrying", state="COMPENSATING") == 1
    assert watched.value("sagas", state="RUNNING") == 0
    age = watched.value("saga_oldest_age_seconds", state="COMPENSATING")
    assert age is not None
    assert 0 < age < 60
    assert watched.value("saga_oldest_age_seconds", state="RUNNING") == 0


def test_a_saga_keeps_the_context_of_the_request_that_began_it_also_through_retries(world: World):
    seen: list[str] = []
    step = failing(2)

    def do(run: Run) -> None:
        seen.append(structlog.contextvars.get_contextvars().get("request_id", ""))
        step.do(run)

    watched = Watched(world, saga_of(Step("a", do=do), Step("b", pivot=True)))
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        saga_id = begin(watched.engine, "sample")
    world.at_rest(saga_id)
    assert seen == ["r-1"] * 3


def test_the_lines_of_a_saga_say_whose_it_is(world: World):
    seen: list[dict[str, object]] = []
    definition = saga_of(Step("a", do=lambda _: seen.append(structlog.contextvars.get_contextvars())))
    engine = world.started(definition)
    saga_id = begin(engine, "sample")
    world.at_rest(saga_id)
    assert seen == [{"operation_id": saga_id, "saga": "sample", "account_id": "local", "subject": "local"}]


def test_the_contexts_of_sagas_that_others_ended_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("svckit.saga.instruments._REMEMBERED", 3)
    instruments = SagaInstruments(CollectorRegistry())
    kept = contextvars.ContextVar("kept", default="")
    for number in range(10):
        kept.set(f"{number}")
        instruments.context_of(f"op-{number}")
    kept.set("now")
    assert instruments.context_of("op-9").run(kept.get) == "9"
    assert instruments.context_of("op-0").run(kept.get) == "now"
    assert len(instruments._contexts) == 3


def test_metrics_that_cannot_be_looked_up_keep_no_others_from_being_served(world: World):
    watched = Watched(world, saga_of(Step("a", pivot=True)))

    def away() -> list[object]:
        raise ConnectionError

    watched.registry.register(AtScrape(away))  # type: ignore[arg-type] # it never gets to return any
    assert watched.value("sagas", state="RUNNING") == 0


def test_threads_know_what_they_work_on_and_what_waits_for_one():
    gate = Gate()
    threads = CountingThreads(2, "counted")
    done = threading.Event()
    with threads:
        for _ in range(3):
            threads.submit(gate.wait)
        cancelled = threads.submit(done.set)
        assert threads.held == 4
        cancelled.cancel()
        assert threads.held == 3
        gate.open()
    assert threads.held == 0
    assert not done.is_set()
    with pytest.raises(RuntimeError):
        threads.submit(done.set)
    assert threads.held == 0
