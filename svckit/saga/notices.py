"""Wakes whoever waits for a saga in this process: a client's first answer, a Watch stream.

What this process drives is told as it is committed. A saga may be driven by another replica, so the engine's lookout also
looks at the rows of all that are waited for, in one query: a thousand waiters must not each ask the database by
themselves, again and again, whether anything has changed.
"""

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from svckit.database import Database
from svckit.saga import journal

_LOOK_EVERY_SECONDS = 0.5


class Notices:
    """Subscribers are coroutines of one event loop each; publishers are any threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._told: dict[str, datetime] = {}
        """Of those that are waited for, the latest `update_time` that waiters were woken for."""
        self._looked = time.monotonic()

    @contextmanager
    def subscribe(self, saga_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of the saga from now on; the waiter clears it before it looks."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._guard:
            self._waiting[saga_id].add(entry)
        try:
            yield entry[1]
        finally:
            with self._guard:
                self._waiting[saga_id].discard(entry)
                if not self._waiting[saga_id]:
                    del self._waiting[saga_id]
                    self._told.pop(saga_id, None)

    def publish(self, saga_id: str, update_time: datetime) -> None:
        """Its row was written; who waits for it has to look."""
        with self._guard:
            entries = list(self._waiting.get(saga_id, ()))
            if entries:
                self._told[saga_id] = update_time
        _wake(entries)

    def look_elsewhere(self, database: Database) -> float:
        """Wake who waits for a saga that another replica has written; returns in how many seconds to look again, which is never
        while nobody waits.
        """
        with self._guard:
            awaited = list(self._waiting)
        if not awaited:
            return math.inf
        left = self._looked + _LOOK_EVERY_SECONDS - time.monotonic()
        if left > 0:
            return left
        with database.read() as session:
            update_times = journal.update_times(session, awaited)
        with self._guard:
            news = {each: at for each, at in update_times.items() if self._told.get(each) != at}
        for saga_id, update_time in news.items():
            self.publish(saga_id, update_time)
        self._looked = time.monotonic()
        return _LOOK_EVERY_SECONDS

    def publish_all(self) -> None:
        """Nobody knows what has changed: let each waiter look, and find out why."""
        with self._guard:
            entries = [entry for of_one in self._waiting.values() for entry in of_one]
        _wake(entries)


def _wake(entries: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    for loop, changed in entries:
        loop.call_soon_threadsafe(changed.set)


async def wait(changed: asyncio.Event, seconds: float) -> None:
    """Until the next notice, or so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
