"""What holds for every suite: where its files are, how its services start, and what two workers share.

A test's services sync each commit, and thousands of tests wait for a disk then; so where there is room the files are in
memory. What the services promise is tested by killing them, which a file in memory survives as a file on a disk does.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["tests.support.databases", "tests.support.deployments"]

_ROOT = Path(__file__).parent
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
    # Services are started hundreds of times: each would compile all of its source again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers (`-n 2 --dist loadgroup`) take whole files; of the contract, all that is on one database, because in
    the end it looks back at all that was answered.
    """
    for item in items:
        group = str(item.path.relative_to(_ROOT))
        if group.startswith("contract") and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            group = f"contract on {item.callspec.params.get('database_kind')}"
        item.add_marker(pytest.mark.xdist_group(group))
