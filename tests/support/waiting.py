"""Waiting in tests: for a condition, with a deadline, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], *, within_seconds: float = 15.0, what: str = "") -> Found:
    """The first true result of `look`; fails when there is none in time."""
    give_up = time.monotonic() + within_seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > give_up:
            raise AssertionError(f"{what or 'it'} did not happen within {within_seconds} s")
        time.sleep(0.005)
