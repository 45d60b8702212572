"""What a service does by itself, again and again: forget, take the snapshots of policies, delete what has expired.

Every replica does it. What must happen once is settled by the rows, not by who looks first.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from svckit.database import DatabaseUnusable
from svckit.errors import Refusal
from svckit.saga.notices import wait

_log = structlog.get_logger()

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Recurring:
    """`work` runs in a thread, in rounds; from the end of one to the beginning of the next are `pause_seconds`."""

    name: str
    work: Callable[[], object]
    pause_seconds: float


async def repeat(task: Recurring, stop: asyncio.Event) -> None:
    """Ends when `stop` is set and the round under way has ended: nothing it works with may be closed before."""
    while not stop.is_set():
        try:
            await asyncio.to_thread(task.work)
        except DatabaseUnusable as why:
            _log.warning("a round failed: the database is away, or full", task=task.name, error=str(why))
        except Exception:  # noqa: BLE001 - the next round tries again
            _log.exception("a round failed; the next one tries again", task=task.name)
        await wait(stop, task.pause_seconds)


def each_alone(items: Iterable[Item], work: Callable[[Item], object]) -> None:
    """One that is refused, or fails, keeps no other from its turn, and has its own again in the next round."""
    for item in items:
        try:
            work(item)
        except Refusal as refusal:
            _log.info("not now", reason=refusal.reason, refusal=refusal.message)
        except DatabaseUnusable:
            raise  # from the others too
        except Exception:  # noqa: BLE001 - as said
            _log.exception("one of a round failed; the next round tries it again")
