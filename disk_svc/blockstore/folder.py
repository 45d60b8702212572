"""The folder a store lives in, the lock that keeps a second process out of it, and the room that it must have from the start.

LMDB itself would let two processes in. Their commits would take turns, but each has its own queue, so that a cut in one
would not wait for what the other has answered; and the reserve would be spent twice.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from disk_svc.blockstore.errors import OutOfSpace, StoreLocked

_READER_BYTES = 64
_READERS_HEAD_BYTES = 4096
"""More than LMDB has before its table of readers."""


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
        # Containers share a volume, and each counts its processes from 1: the name of the host is the container's.
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        # A courtesy to who is kept out. Where the disk is full, it must not keep out who deletes something.
        with suppress(OSError):
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), holder.encode())
        yield


def says_full(failure: Exception, folder: Path | str, needed_bytes: int) -> bool:
    """Whether something failed because there is no room for it in the folder's file system, or in LMDB's map."""
    if isinstance(failure, lmdb.MapFullError):
        return True
    code = failure.code if isinstance(failure, lmdb.Error) else getattr(failure, "errno", None)
    if code == errno.EIO:
        # A disk that fills up in the middle of a commit shows as a short write, which LMDB calls an I/O error.
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize < needed_bytes
    return code in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def refusing_when_full(folder: Path, needed_bytes: int, what: str) -> Iterator[None]:
    """Raises OutOfSpace, which says `what`, for what failed because of that."""
    try:
        yield
    except (OSError, lmdb.Error) as failure:
        if not says_full(failure, folder, needed_bytes):
            raise
        raise OutOfSpace(f"{what}: {failure}") from failure


def allocate_readers(folder: Path, readers: int) -> None:
    """LMDB notes who reads in a file that it makes as one hole and then maps. A page of it that is first written when the
    disk is full is no error that anybody could answer: the kernel ends the process with SIGBUS. So all of it is allocated
    before LMDB maps it, by an error that can be answered. LMDB takes a file that is large enough as it is.
    """
    handle = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(handle, 0, _READERS_HEAD_BYTES + readers * _READER_BYTES)
    finally:
        os.close(handle)
