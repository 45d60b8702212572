"""Deletes instance snapshots whose time has come, each whole, as if its owner had asked.

That a member is in use only disk_svc can tell, so each try is an operation. One that is turned back is tried again with
growing pauses: a member that is copied to another region for hours shall not fill the log.
"""

import time
from functools import partial

from snapshot_svc import repository
from snapshot_svc.models import InstanceSnapshot
from snapshot_svc.service import SnapshotService
from svckit.caller import Caller
from svckit.clock import Clock
from svckit.database import Database
from svckit.mutations import Mutations
from svckit.recurring import each_alone

_ACTOR = "expiry"
_MOST_IN_A_ROUND = 500
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 300.0


class Expiry:
    """Of one region's instance snapshots."""

    def __init__(
        self, service: SnapshotService, mutations: Mutations, database: Database, region: str, clock: Clock
    ) -> None:
        self._service = service
        self._mutations = mutations
        self._database = database
        self._region = region
        self._clock = clock
        self._tried: dict[str, tuple[float, float]] = {}
        """When each was tried last, and the pause after that; for as long as there may be another try."""

    def round(self) -> None:
        with self._database.read() as session:
            due = repository.expired(session, region=self._region, now=self._clock(), limit=_MOST_IN_A_ROUND)
        forgotten = time.monotonic() - 2 * _LONGEST_PAUSE_SECONDS
        self._tried = {each: tried for each, tried in self._tried.items() if tried[0] > forgotten}
        each_alone([each for each in due if self._is_turn_of(each.id)], self._delete)

    def _is_turn_of(self, instance_snapshot_id: str) -> bool:
        tried, pause = self._tried.get(instance_snapshot_id, (0.0, _FIRST_PAUSE_SECONDS / 2))
        if time.monotonic() < tried + pause:
            return False
        self._tried[instance_snapshot_id] = (time.monotonic(), min(2 * pause, _LONGEST_PAUSE_SECONDS))
        return True

    def _delete(self, due: InstanceSnapshot) -> None:
        with self._mutations.unasked(Caller(due.account_id, _ACTOR)) as (session, begin):
            # Read again and locked: it may have been given more time since it was found.
            snapshot = self._service.get(session, due.id, lock=True)
            if snapshot.expire_time is not None and snapshot.expire_time <= self._clock():
                begin(partial(self._service.delete, instance_snapshot_id=snapshot.id))
