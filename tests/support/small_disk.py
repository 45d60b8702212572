"""A file system that is really full: a small tmpfs, mounted by the test. Where that is refused the test is skipped, and says so."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_BALLAST = "ballast"


class SmallDisk:
    """Mounted at `folder`; everything in it shares its size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free_bytes(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def fill(self, *, leaving_bytes: int = 0) -> None:
        """As a neighbour would who takes whatever is free, to the last byte or to so many."""
        with suppress(OSError), (self.folder / _BALLAST).open("ab", buffering=0) as ballast:
            while (more := self.free_bytes - leaving_bytes) > 0 or not leaving_bytes:
                ballast.write(bytes(min(max(more, 1), 1 << 20)))

    def empty(self) -> None:
        """The neighbour goes."""
        (self.folder / _BALLAST).unlink(missing_ok=True)

    @property
    def size_bytes(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_blocks * disk.f_frsize

    def resize(self, size_bytes: int) -> None:
        """While it is in use."""
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", self.folder], check=True)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Makes the folder, and mounts there."""
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounting.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounting.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: what a test that failed has left open must not keep it.
        subprocess.run(["umount", "--lazy", folder], check=True)
