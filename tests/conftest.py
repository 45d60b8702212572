"""What holds for every suite: where its files are, how its services start, and what two workers share.

A test's services sync each commit, and thousands of tests wait for a disk then; so where there is room the files are in
memory. What the services promise is tested by killing them, which a file in memory survives as a file on a disk does.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.support.databases", "tests.support.deployments", "tests.support.tally"]

_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("stillpoint").addoption(
        "--by-hand",
        action="store_true",
        help="of tests/faults and tests/load also what takes longer than a CI has, or a machine that does nothing else",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("by_hand"):
        by_hand = [item for item in items if item.get_closest_marker("by_hand")]
        config.hook.pytest_deselected(items=by_hand)
        items[:] = [item for item in items if item not in by_hand]


def pytest_configure(config: pytest.Config) -> None:
    """A TMPDIR that was given stays."""
    config.addinivalue_line("markers", "by_hand: only with --by-hand")
    if (
        "TMPDIR" not in os.environ
        and os.access(_IN_MEMORY, os.W_OK)
        and shutil.disk_usage(_IN_MEMORY).free >= _ROOM_BYTES
    ):
        os.environ["TMPDIR"] = str(_IN_MEMORY)
        tempfile.tempdir = None  # forget the folder that was found before
    # Services are started hundreds of times: each would compile all of its source again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling":
    """For several workers."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - it need not be there

    class WholeFiles(LoadFileScheduling):
        """Each takes whole files; of the contract all that is on one database, since in the end it looks back at all that
        was answered.
        """

        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            if not file.startswith("tests/contract/"):
                return file
            kind = re.search(r"\[.*?\b(sqlite|postgresql|target)\b", test)
            return f"contract on {kind[1]}" if kind else file

    return WholeFiles(config, log)
