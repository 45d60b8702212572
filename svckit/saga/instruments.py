"""What is known of sagas: how long their steps take and how often they are tried again, from the engine; what is unfinished
and for how long, from the rows. And the context that each began in, so that its trace and its lines go on from there.
"""

import contextvars
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from svckit.clock import utc_now
from svckit.database import Database
from svckit.saga import journal
from svckit.saga.definition import SagaDefinition
from svckit.saga.journal import UNFINISHED, Saga, SagaState
from svckit.telemetry import traces

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REMEMBERED = 10_000
_AT_REST = (SagaState.SUCCEEDED, SagaState.FAILED, SagaState.ABANDONED)

_log = structlog.get_logger()


def _action(*, undo: bool) -> str:
    return "undo" if undo else "do"


class SagaInstruments:
    """What an engine tells of what it drives."""

    def __init__(self, registry: CollectorRegistry) -> None:
        step = ("saga", "step", "action")
        self._seconds = Histogram(
            "stillpoint_saga_step_duration_seconds",
            "How long tries of steps took, their commits included",
            step,
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "stillpoint_saga_step_retries",
            "Tries of steps that had no definite outcome and are made again",
            step,
            registry=registry,
        )
        self._ended = Counter(
            "stillpoint_sagas_ended", "Sagas that came to rest", ("saga", "state"), registry=registry
        )
        # To look a child up by its labels costs more than to count with it.
        self._duration_of = cache(self._seconds.labels)
        self._contexts: dict[str, contextvars.Context] = {}

    def expect(self, definitions: Iterable[SagaDefinition]) -> None:
        """Counters begin at zero, not at their first event: an increase from nothing is none to Prometheus."""
        for definition in definitions:
            for state in _AT_REST:
                self._ended.labels(definition.kind, state)
            for step in definition.steps:
                self._retries.labels(definition.kind, step.name, _action(undo=False))
                if step.undo is not None:
                    self._retries.labels(definition.kind, step.name, _action(undo=True))

    def context_of(self, saga_id: str) -> contextvars.Context:
        """A copy of the one that the saga was begun in, also when it is taken up again after a pause; of the caller's, when
        this process did not begin it.
        """
        context = self._contexts.setdefault(saga_id, contextvars.copy_context())
        while len(self._contexts) > _REMEMBERED:
            # Other replicas ended them, and nobody said so here.
            self._contexts.pop(next(iter(self._contexts)), None)
        return context.copy()

    @contextmanager
    def driving(self, saga: Saga) -> Iterator[None]:
        ids = {"operation_id": saga.id, "account_id": saga.account_id, "subject": saga.actor}
        with (
            structlog.contextvars.bound_contextvars(saga=saga.kind, **ids),
            traces.span(f"saga {saga.kind}", operation_id=saga.id, saga=saga.kind),
        ):
            yield
            if saga.state in _AT_REST:
                self.note_end(saga)

    def note_end(self, saga: Saga) -> None:
        self._contexts.pop(saga.id, None)
        self._ended.labels(saga.kind, saga.state).inc()
        _log.info("saga ended", state=saga.state)

    @contextmanager
    def trying(self, saga: Saga, step: str) -> Iterator[None]:
        """Whatever comes of it; what came of it, the saga says afterwards."""
        undo, attempts = saga.state == SagaState.COMPENSATING, saga.attempts
        labels = (saga.kind, step, _action(undo=undo))
        begun = time.perf_counter()
        with traces.span(
            f"{'undo ' if undo else ''}{step}",
            operation_id=saga.id,
            saga=saga.kind,
            step=step,
            undo=undo,
            attempt=attempts + 1,
        ):
            yield
            if saga.attempts > attempts:
                self._retries.labels(*labels).inc()
                traces.note(outcome="unknown", error=saga.last_error)
            elif not undo and saga.state == SagaState.COMPENSATING:
                traces.note(outcome="turned back")
        seconds = time.perf_counter() - begun
        self._duration_of(*labels).observe(seconds)
        _log.debug("step tried", step=step, undo=undo, attempt=attempts + 1, seconds=round(seconds, 6))


def unfinished_sagas(database: Database, region: str, kinds: Sequence[str]) -> Iterator[Metric]:
    """What the rows say at the moment, so every replica says the same."""
    labels = ["saga", "state"]
    count = GaugeMetricFamily("stillpoint_sagas", "Sagas that have not come to rest", labels=labels)
    age = GaugeMetricFamily(
        "stillpoint_saga_oldest_age_seconds", "Since the oldest of them was accepted", labels=labels
    )
    retrying = GaugeMetricFamily(
        "stillpoint_sagas_retrying",
        "Those of them whose step, or undo, had no definite outcome yet and is tried again",
        labels=labels,
    )
    with database.read() as session:
        found = {(row.kind, row.state): row for row in journal.count_unfinished(session, region)}
    now = utc_now()
    for kind in sorted({*kinds, *(kind for kind, _ in found)}):
        for state in UNFINISHED:
            row = found.get((kind, state))
            count.add_metric([kind, state], row.unfinished if row else 0)
            retrying.add_metric([kind, state], row.retrying if row else 0)
            oldest = max(0.0, (now - row.oldest).total_seconds()) if row else 0.0
            age.add_metric([kind, state], oldest)
    yield from (count, age, retrying)
