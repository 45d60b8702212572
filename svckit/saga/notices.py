"""Wakes whoever waits for a saga in this process: a client's first answer, a Watch stream.

Only a shortcut. A saga may be driven by another replica, so every waiter also looks at the database now and then.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Notices:
    """Subscribers are coroutines of one event loop each; publishers are any threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)

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

    def publish(self, saga_id: str) -> None:
        with self._guard:
            entries = list(self._waiting.get(saga_id, ()))
        for loop, changed in entries:
            loop.call_soon_threadsafe(changed.set)


async def wait(changed: asyncio.Event, seconds: float) -> None:
    """Until the next notice, or so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
