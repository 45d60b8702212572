"""What holds for every suite: its fixtures, and that its files are in memory where there is room.

A test's services sync each commit, and thousands of tests wait for a disk then. What they promise is tested by killing
them, which a file in memory survives as a file on a disk does.
"""

import os
import shutil
import tempfile
from pathlib import Path

pytest_plugins = ["tests.support.databases", "tests.support.deployments"]

_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30


def pytest_configure() -> None:
    """A TMPDIR that was given stays."""
    if (
        "TMPDIR" not in os.environ
        and os.access(_IN_MEMORY, os.W_OK)
        and shutil.disk_usage(_IN_MEMORY).free >= _ROOM_BYTES
    ):
        os.environ["TMPDIR"] = str(_IN_MEMORY)
        tempfile.tempdir = None  # forget the folder that was found before
