"""The folder a store lives in, and the lock that keeps a second process out of it.

LMDB itself would let two processes in. Their commits would take turns, but each has its own queue, so that a cut in one
would not wait for what the other has answered; and the reserve would be spent twice.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disk_svc.blockstore.errors import StoreLocked


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; raises StoreLocked, which says who has it."""
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel drops the lock with the process, however it ends: a file left behind locks nobody out.
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreLocked(str(folder), file.read().strip()) from None
        file.truncate(0)
        # Containers share a volume, and each counts its processes from 1: the name of the host is the container's.
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
