"""Who asks, for the length of a request. Without authentication that is always LOCAL, and nothing sets another."""

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
