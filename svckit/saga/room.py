"""How many sagas a service takes on.

The edge bounds the requests that are held, which is not enough: a client that gives its request up leaves the saga behind,
and asks again. So what waits for a worker of this process is bounded too; and all that is not at rest, which piles up while
a service is away that each of them needs.
"""

import math
import time
from collections.abc import Callable

from svckit.database import Database
from svckit.errors import Overloaded
from svckit.saga import journal

_COUNT_EVERY_SECONDS = 1.0


class Room:
    """`held` says how many this process drives or keeps for a worker, of at most `admitted`; `unfinished` is the most that
    may not have come to rest, in all replicas.
    """

    def __init__(
        self, database: Database, region: str, held: Callable[[], int], *, admitted: int, unfinished: int
    ) -> None:
        self._database = database
        self._region = region
        self._held = held
        self._admitted = admitted
        self._most_unfinished = unfinished
        self._all_taken = False
        self._counted = -math.inf

    @property
    def is_left(self) -> bool:
        return not self._all_taken and self._held() < self._admitted

    def must_be_left(self) -> None:
        """Raises Overloaded while sagas come faster than they are done."""
        if not self.is_left:
            raise Overloaded

    def count(self) -> None:
        """What is unfinished, in the rows, now and then."""
        if time.monotonic() < self._counted + _COUNT_EVERY_SECONDS:
            return
        with self._database.read() as session:
            counted = journal.count_up_to(session, self._most_unfinished, region=self._region)
        self._all_taken = counted >= self._most_unfinished
        self._counted = time.monotonic()
