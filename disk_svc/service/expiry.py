"""Deletes disk snapshots whose time has come, each as if its owner had asked."""

from functools import partial

from disk_svc.models import DiskSnapshot
from disk_svc.repository import snapshot_rows
from disk_svc.service.realm import Realm
from disk_svc.service.snapshots import Snapshots
from svckit.caller import Caller
from svckit.clock import Clock
from svckit.mutations import Mutations
from svckit.recurring import each_alone

_ACTOR = "expiry"
_MOST_IN_A_ROUND = 500


class Expiry:
    """Of one region's disk snapshots."""

    def __init__(self, realm: Realm, snapshots: Snapshots, mutations: Mutations, clock: Clock) -> None:
        self._realm = realm
        self._snapshots = snapshots
        self._mutations = mutations
        self._clock = clock

    def round(self) -> None:
        with self._realm.database.read() as session:
            due = snapshot_rows.expired_snapshots(
                session, region=self._realm.region, now=self._clock(), limit=_MOST_IN_A_ROUND
            )
        each_alone(due, self._delete)

    def _delete(self, due: DiskSnapshot) -> None:
        with self._mutations.unasked(Caller(due.account_id, _ACTOR)) as (session, begin):
            # Read again and locked: it may have been given more time since it was found.
            snapshot = self._snapshots.get(session, due.id, lock=True)
            if snapshot.expire_time is not None and snapshot.expire_time <= self._clock():
                begin(partial(self._snapshots.delete, snapshot_id=snapshot.id))
