"""A block store that fails when a test wants it to: a wrapper around the real one, in a real disk_svc.

The wrapper asks the test before and after every operation that a saga's step makes, over a Unix socket: that is where a
test stops the process in the middle of a step, and where the answer comes from that sealing or restoring fails. When
nobody listens any more, the store just works.
"""

import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from disk_svc.blockstore import BlockStore, DataLoss, OutOfSpace, Restore, StoreError
from tests.faults.gates import Gates

SOCKET = "STILLPOINT_FAULTS_SOCKET"
_STEPS = frozenset(
    {
        "create_volume",
        "delete_volume",
        "resize_volume",
        "cut",
        "withdraw_cut",
        "seal",
        "restore",
        "delete_snapshots",
        "fence",
    }
)


class Director:
    """The test's side: closes gates called `before store.<operation>` and `after store.<operation>`, and says how
    operations fail.
    """

    def __init__(self, folder: Path, gates: Gates) -> None:
        self.path = folder / "director"
        self._gates = gates
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self.failing_seal: tuple[int, str] | None = None
        """Which snapshot of a point, counted from 0, cannot be sealed, and the error: OutOfSpace or DataLoss."""
        self.failing_restore = False
        """Restoring finds that the snapshots' bytes are lost."""
        threading.Thread(target=self._serve, name="director", daemon=True).start()

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
            name = connection.recv(100).decode()
            gate = self._gates.take(name)
            if gate is not None:
                gate.hold()
            failing = self.failing_seal if name == "before store.seal" else None
            if name == "before store.restore" and self.failing_restore:
                failing = (0, "DataLoss")
            connection.sendall(json.dumps(failing).encode())


class FaultyStore:
    """disk_svc's side. Every method of the real store, with the test's word before and after those in `_STEPS`."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _STEPS:
            return method

        def step(*arguments: Any) -> Any:
            failing = _ask(f"before store.{name}")
            if failing and name == "restore":
                restores: Sequence[Restore] = arguments[1]
                raise DataLoss(restores[failing[0]].snapshot_id, 0)
            result = _seal(self._store, arguments[0], *failing) if failing else method(*arguments)
            _ask(f"after store.{name}")
            return result

        return step


def faulty(store: BlockStore) -> BlockStore:
    return cast("BlockStore", FaultyStore(store))


def _seal(
    store: BlockStore, snapshot_ids: Sequence[str], failing: int, error: str
) -> dict[str, StoreError | None]:
    """Every snapshot is sealed but one."""
    doomed = snapshot_ids[failing]
    errors = {"OutOfSpace": OutOfSpace("no space left on device"), "DataLoss": DataLoss(doomed, 4096)}
    results = store.seal([snapshot_id for snapshot_id in snapshot_ids if snapshot_id != doomed])
    return {**results, doomed: errors[error]}


def _ask(name: str) -> tuple[int, str] | None:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[SOCKET])
            connection.sendall(name.encode())
            answer = connection.recv(100)
    except OSError:
        return None
    return json.loads(answer) if answer else None
