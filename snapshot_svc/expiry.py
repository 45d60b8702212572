"""Deletes instance snapshots whose time has come, each whole, as if its owner had asked."""

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

    def round(self) -> None:
        with self._database.read() as session:
            due = repository.expired(session, region=self._region, now=self._clock(), limit=_MOST_IN_A_ROUND)
        each_alone(due, self._delete)

    def _delete(self, due: InstanceSnapshot) -> None:
        with self._mutations.unasked(Caller(due.account_id, _ACTOR)) as (session, begin):
            # Read again and locked: it may have been given more time since it was found.
            snapshot = self._service.get(session, due.id, lock=True)
            if snapshot.expire_time is not None and snapshot.expire_time <= self._clock():
                begin(partial(self._service.delete, instance_snapshot_id=snapshot.id))
