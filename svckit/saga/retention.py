"""Forgets what nobody can ask for any more: idempotency rows and participants' keys, tombstones among them.

design.md §6, law 10: "Idempotency rows and tombstones are kept 30 days (setting), longer than any saga."
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from svckit.barrier import ParticipantKey
from svckit.clock import utc_now
from svckit.database import Database, rows_changed, table_of
from svckit.saga.requests import AcceptedRequest

_KEPT = timedelta(days=30)
_PAUSE_SECONDS = 3600.0

_log = structlog.get_logger()


async def purge_forever(database: Database, also: Callable[[datetime], object]) -> None:
    """`also` is told the moment before which everything may be forgotten."""
    while True:
        try:
            before = utc_now() - _KEPT
            await asyncio.to_thread(purge, database, before)
            await asyncio.to_thread(also, before)
        except Exception:  # noqa: BLE001 - the next round tries again
            _log.exception("purging failed; the next round tries again")
        await asyncio.sleep(_PAUSE_SECONDS)


def purge(database: Database, before: datetime) -> int:
    """Delete what is older; returns how many rows that were."""
    requests, keys = table_of(AcceptedRequest), table_of(ParticipantKey)
    with database.write() as session:
        forgotten = rows_changed(session.execute(sa.delete(requests).where(requests.c.create_time < before)))
        forgotten += rows_changed(session.execute(sa.delete(keys).where(keys.c.time < before)))
    return forgotten
