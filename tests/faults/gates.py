"""Gates: places in the middle of a call where a test can stop it, do its worst, and then let it go on or lose it.

A gate stops one call, the first that comes by its name; whatever comes later passes. So a step that is tried again after
a crash goes through, while the call of the first try still stands there, to be delivered late like any lost packet.
"""

import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from typing import Any

WAIT_SECONDS = 30.0


class Gate:
    """A closed gate, and the one call that stands at it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended: Future[str] = Future()
        """What became of the call in the end: `OK`, or the code and the text of its error."""
        self._arrived = threading.Event()
        self._decided = threading.Event()
        self._goes_on = False

    def wait_for_call(self) -> None:
        assert self._arrived.wait(WAIT_SECONDS), f"no call came to {self.name!r}"

    def wait_for(self, call: Any) -> None:
        """For what this call, a future, leads to; raises what the call was refused with instead."""
        give_up = time.monotonic() + WAIT_SECONDS
        while not self._arrived.wait(0.1):
            assert time.monotonic() < give_up, f"no call came to {self.name!r}"
            if call.done():
                call.result()

    def let_go(self) -> None:
        """The call goes on as if nothing had been."""
        self._goes_on = True
        self._decided.set()

    def lose(self) -> None:
        """The call gets no further, and whoever made it gets no answer."""
        self._decided.set()

    def hold(self) -> bool:
        """For the call: True when it goes on."""
        self._arrived.set()
        self._decided.wait()
        return self._goes_on


class Gates:
    """All gates of a deployment; names are like `before CreateConsistencyPoint` or `after store.seal`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._closed: dict[str, list[Gate]] = defaultdict(list)
        self._made: list[Gate] = []
        self._broken: set[str] = set()

    def close(self, name: str) -> Gate:
        gate = Gate(name)
        with self._guard:
            self._closed[name].append(gate)
            self._made.append(gate)
        return gate

    def lose_every(self, name: str) -> None:
        """From now on every call that comes by this name is lost, until `mend`."""
        with self._guard:
            self._broken.add(name)

    def mend(self) -> None:
        with self._guard:
            self._broken.clear()

    def lose_all(self) -> None:
        """Nobody stands at a gate after this, and none is closed."""
        self.mend()
        with self._guard:
            gates, self._made = self._made, []
            self._closed.clear()
        for gate in gates:
            gate.lose()

    def take(self, name: str) -> Gate | None:
        """For a call that comes by: the gate that stops it, if one does."""
        with self._guard:
            if self._closed[name]:
                return self._closed[name].pop(0)
            if name not in self._broken:
                return None
        gate = Gate(name)
        gate.lose()
        return gate
