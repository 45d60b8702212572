"""Fixtures of the unit tests."""

from collections.abc import Iterator

import pytest

from svckit.caller import LOCAL, acting_as


@pytest.fixture(autouse=True)
def _asked_without_authentication() -> Iterator[None]:
    """A use case that a test calls itself is asked for as at an open door. The threads of sagas have no caller here either."""
    with acting_as(LOCAL):
        yield
