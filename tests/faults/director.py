"""How a test directs services in other processes: over a Unix socket each asks, at every place where something may go wrong,
what is to happen there.

The director may make it wait (a gate of that name is closed) and gives an order, if there is one for that place. When
nobody listens any more everything goes on as if nothing had been.
"""

import json
import os
import socket
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.gates import Gates

SOCKET = "STILLPOINT_FAULTS_SOCKET"


class Director:
    """The test's side."""

    def __init__(self, folder: Path, gates: Gates) -> None:
        self.path = folder / "director"
        self._gates = gates
        self._guard = threading.Lock()
        self._orders: dict[str, list[str]] = defaultdict(list)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self.failing_seal: tuple[int, str] | None = None
        """Which snapshot of a point, counted from 0, cannot be sealed, and the error: OutOfSpace or DataLoss."""
        self.failing_restore = False
        """Restoring finds that the snapshots' bytes are lost."""
        threading.Thread(target=self._serve, name="director", daemon=True).start()

    def order(self, place: str, what: str) -> None:
        """For the first who comes there and has none yet."""
        with self._guard:
            self._orders[place].append(what)

    def stop(self) -> None:
        # close() alone does not wake the thread that accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # The process that asked may have been killed while it waited.
        with connection, suppress(OSError):
            place = connection.recv(200).decode()
            gate = self._gates.take(place)
            if gate is not None:
                gate.hold()
            connection.sendall(json.dumps(self._order_at(place)).encode())

    def _order_at(self, place: str) -> object:
        if place == "before store.seal":
            return self.failing_seal
        if place == "before store.restore":
            return (0, "DataLoss") if self.failing_restore else None
        with self._guard:
            return self._orders[place].pop(0) if self._orders[place] else None


def ask(place: str) -> Any:
    """A service's side: waits for as long as it is told to, and returns the order, None for none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[SOCKET])
            connection.sendall(place.encode())
            answer = connection.recv(200)
    except OSError:
        return None
    return json.loads(answer) if answer else None
