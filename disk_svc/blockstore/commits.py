"""The single writer: everything that changes the store waits in one queue, and one thread commits it in groups.

A durable commit costs two waits for the disk however much is in it, so what arrives while one is under way goes
together into the next. The order of the queue is the order of the changes; `cut` relies on it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import lmdb

from disk_svc.blockstore.errors import OutOfSpace, Refused, StoreClosed, StoreError
from disk_svc.blockstore.folder import says_full
from disk_svc.blockstore.interface import Observer
from disk_svc.blockstore.layout import Txn
from disk_svc.blockstore.operations import Operations

_log = logging.getLogger(__name__)

# One batch stays well below the reserve, which is measured once, as its transaction begins.
_BATCH_BYTES = 16 * 1024 * 1024
_BATCH_CHANGES = 256
_QUEUE_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class _Change:
    apply: Callable[[Operations], Any]
    size_bytes: int
    future: Future[Any]


class GroupCommit:
    def __init__(
        self, env: lmdb.Environment, begin: Callable[[Txn], Operations], on_garbage: Callable[[], None]
    ) -> None:
        self._env = env
        self._begin = begin
        self._on_garbage = on_garbage
        self.observer: Observer | None = None
        self._queue: deque[_Change] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="blockstore-commits", daemon=True)
        self._thread.start()

    def submit(self, apply: Callable[[Operations], T], size_bytes: int = 0) -> Future[T]:
        """Queues a change. Waits while the queue is full of bytes; a change without bytes never waits here."""
        future: Future[T] = Future()
        with self._lock:
            while size_bytes and self._queued_bytes >= _QUEUE_BYTES and not self._closing:
                self._drained.wait()
            if self._closing:
                raise StoreClosed
            self._queue.append(_Change(apply, size_bytes, future))
            self._queued_bytes += size_bytes
            self._arrived.notify()
        return future

    def run(self, apply: Callable[[Operations], T]) -> T:
        return self.submit(apply).result()

    def close(self) -> None:
        """Commits what is queued. Idempotent."""
        with self._lock:
            self._closing = True
            self._arrived.notify_all()
            self._drained.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            # A future that was cancelled in time is not run; from here on it cannot be cancelled.
            wanted = [change for change in batch if change.future.set_running_or_notify_cancel()]
            if wanted:
                self._commit(wanted)

    def _take(self) -> list[_Change]:
        """The next batch, in order; empty when closed and drained."""
        batch: list[_Change] = []
        size_bytes = 0
        with self._lock:
            while not self._queue and not self._closing:
                self._arrived.wait()
            while self._queue and len(batch) < _BATCH_CHANGES and size_bytes < _BATCH_BYTES:
                batch.append(self._queue.popleft())
                size_bytes += batch[-1].size_bytes
            self._queued_bytes -= size_bytes
            self._drained.notify_all()
        return batch

    def _commit(self, batch: list[_Change]) -> None:
        done: list[tuple[_Change, Any]] = []
        refused: list[tuple[_Change, Refused]] = []
        begun = time.perf_counter()
        try:
            with self._env.begin(write=True) as txn:
                operations = self._begin(txn)
                for change in batch:
                    try:
                        done.append((change, change.apply(operations)))
                    except Refused as no:
                        refused.append((change, no))
                operations.flush()
        except Exception as failure:  # noqa: BLE001  a future gets it, whatever it is
            # Nothing of the batch was applied. One bad change must not fail its neighbours, so each
            # gets a transaction of its own, in the same order.
            if len(batch) > 1:
                for change in batch:
                    self._commit([change])
            else:
                batch[0].future.set_exception(self._as_refusal(failure, batch[0].size_bytes))
            return
        if self.observer is not None:
            self.observer.has_committed(len(batch), time.perf_counter() - begun)
        if operations.made_garbage:
            self._on_garbage()
        for change, result in done:
            change.future.set_result(result)
        for change, refusal in refused:
            change.future.set_exception(refusal)

    def _as_refusal(self, failure: Exception, size_bytes: int) -> Exception:
        if says_full(failure, self._env.path(), size_bytes + _BATCH_BYTES):
            return OutOfSpace(str(failure))
        if not isinstance(failure, StoreError):
            _log.error("a change to the block store failed", exc_info=failure)
        return failure
