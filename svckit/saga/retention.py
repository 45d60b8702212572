"""Forgets what nobody can ask for any more: idempotency rows and participants' keys, tombstones among them.

design.md §6, law 10: "Idempotency rows and tombstones are kept 30 days (setting), longer than any saga."
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from svckit.barrier import ParticipantKey
from svckit.clock import utc_now
from svckit.database import Database, rows_changed, table_of
from svckit.recurring import Recurring
from svckit.saga.requests import AcceptedRequest

_KEPT = timedelta(days=30)
_PAUSE_SECONDS = 3600.0


def purging(database: Database, also: Callable[[datetime], object]) -> Recurring:
    """`also` is told the moment before which everything may be forgotten."""

    def work() -> None:
        before = utc_now() - _KEPT
        purge(database, before)
        also(before)

    return Recurring("purging", work, _PAUSE_SECONDS)


def purge(database: Database, before: datetime) -> int:
    """Delete what is older; returns how many rows that were."""
    requests, keys = table_of(AcceptedRequest), table_of(ParticipantKey)
    with database.write() as session:
        forgotten = rows_changed(session.execute(sa.delete(requests).where(requests.c.create_time < before)))
        forgotten += rows_changed(session.execute(sa.delete(keys).where(keys.c.time < before)))
    return forgotten
