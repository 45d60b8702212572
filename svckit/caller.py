"""Who asks, for the length of a request: without authentication always LOCAL. What a service does by itself it does as a
caller of its own, for the account whose row it works on. A saga's steps have no caller: they name the saga's account.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from svckit.auth.roles import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that a request acts for, the subject that asked, and what that may do."""

    account_id: str
    subject: str
    roles: frozenset[Role] = frozenset()

    def may(self, role: Role) -> bool:
        return role in self.roles or (role is Role.USER and Role.ADMIN in self.roles)


LOCAL = Caller(account_id="local", subject="local", roles=frozenset(Role))
"""Without authentication there is one account, services bind loopback only, and whoever reaches them may do anything."""

# Without a default: what has lost whose it is must fail, not act as somebody.
_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Within a request, or a block that acts as somebody; elsewhere, a saga's steps for one, there is none: LookupError."""
    return _current.get()


def caller_if_any() -> Caller | None:
    return _current.get(None)


def begin_request_of(caller: Caller) -> None:
    """For the edge of a server, where each request is a task with a context of its own that ends with it."""
    _current.set(caller)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
