"""A clock that a test holds: services ask it what has come due. It stands where it was put, and without that shows the time.

The two sides share a file, so that a service in another process, killed and restarted, is asked for nothing.
"""

from datetime import datetime
from pathlib import Path

from svckit.clock import Clock, utc_now


def clock_in(file: Path) -> Clock:
    """The services' side."""

    def now() -> datetime:
        try:
            return datetime.fromisoformat(file.read_text())
        except FileNotFoundError:
            return utc_now()

    return now


def put_clock(file: Path, moment: datetime) -> None:
    """The test's side. Whole or not at all: a service must not read half a moment."""
    beside = file.with_suffix(".new")
    beside.write_text(moment.isoformat())
    beside.replace(file)
