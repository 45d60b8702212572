"""Who asks, for the length of a request: without authentication always LOCAL. What a service does by itself it does as a
caller of its own, for the account whose row it works on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that a request acts for, and the subject that asked."""

    account_id: str
    subject: str


LOCAL = Caller(account_id="local", subject="local")
"""Without authentication there is one account, and services bind loopback only."""

_current: ContextVar[Caller] = ContextVar("caller", default=LOCAL)


def current_caller() -> Caller:
    return _current.get()


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
