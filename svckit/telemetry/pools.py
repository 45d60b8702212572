"""What is bounded: database connections, the threads of requests, the workers of sagas. A pool that is always full is the
first place to look when a service is slow and its processor is not.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pool:
    """`held` says how many things have a place in it, or wait for one."""

    name: str
    size: int
    held: Callable[[], int]


def pool_metrics(pools: Sequence[Pool]) -> Iterator[Metric]:
    size = GaugeMetricFamily("stillpoint_pool_size", "Places in a pool", labels=["pool"])
    busy = GaugeMetricFamily("stillpoint_pool_busy", "Places in a pool that are taken", labels=["pool"])
    waiting = GaugeMetricFamily(
        "stillpoint_pool_waiting", "What waits for a place in a pool", labels=["pool"]
    )
    for pool in pools:
        held = pool.held()
        size.add_metric([pool.name], pool.size)
        busy.add_metric([pool.name], min(held, pool.size))
        waiting.add_metric([pool.name], max(0, held - pool.size))
    yield from (size, busy, waiting)


class CountingThreads(ThreadPoolExecutor):
    """Knows how much it has been given and has not done yet."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self.size = threads
        self.held = 0
        self._guard = threading.Lock()

    def submit(self, fn: Callable[..., Result], /, *arguments: Any, **named: Any) -> Future[Result]:
        with self._guard:
            self.held += 1
        try:
            future = super().submit(fn, *arguments, **named)
        except BaseException:
            self._done(None)
            raise
        future.add_done_callback(self._done)
        return future

    def _done(self, _future: object) -> None:
        with self._guard:
            self.held -= 1
