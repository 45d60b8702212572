"""Takes the slots of automatic snapshot policies as they come.

A slot is run once, however many replicas look and wherever one dies: the transaction that moves the policy on from it
also accepts the sagas that take its snapshots. Of several slots that have come since anybody looked, only the latest is
run: a snapshot of yesterday cannot be taken today.
"""

from collections.abc import Mapping
from typing import Any

from disk_svc.models import AutoSnapshotPolicy
from disk_svc.repository import policy_rows
from disk_svc.service.automatic_snapshots import KIND
from disk_svc.service.policies import schedule_of
from disk_svc.service.realm import Realm
from svckit.caller import Caller
from svckit.clock import Clock
from svckit.mutations import Admission, Mutations, SagaStart
from svckit.recurring import each_alone
from svckit.saga import journal

_ACTOR = "policy"
_MOST_IN_A_ROUND = 100


class Scheduler:
    """Of one region's policies."""

    def __init__(self, realm: Realm, mutations: Mutations, clock: Clock) -> None:
        self._realm = realm
        self._mutations = mutations
        self._clock = clock

    def round(self) -> None:
        with self._realm.database.read() as session:
            due = policy_rows.due(
                session, region=self._realm.region, now=self._clock(), limit=_MOST_IN_A_ROUND
            )
        each_alone(due, self._run)

    def _run(self, due: AutoSnapshotPolicy) -> None:
        with self._mutations.unasked(Caller(due.account_id, _ACTOR)) as (session, begin):
            # Read again and locked: it may have been run, changed or deleted since it was found.
            policy = policy_rows.find(
                session, account_id=due.account_id, region=due.region, policy_id=due.id, lock=True
            )
            now = self._clock()
            if policy is None or policy.next_slot_time > now:
                return
            schedule = schedule_of(policy)
            # Not before the one it is at, which was computed with the rules of the time zone as they were then.
            slot = max(schedule.latest_until(now), policy.next_slot_time)
            upcoming = schedule.first_after(now)
            if not policy_rows.move_on(session, policy.id, seen=policy.next_slot_time, to=upcoming):
                return
            journal.add_event(
                session,
                account_id=policy.account_id,
                region=policy.region,
                actor=_ACTOR,
                type="run_auto_snapshot_policy",
                resource_id=policy.id,
                detail=f"the slot of {slot:%Y-%m-%dT%H:%MZ}, on {len(policy.disks)} disks",
            )
            arguments = {
                "policy_id": policy.id,
                "slot_time": slot.isoformat(),
                "name": f"{policy.name[:48]}-{slot:%Y%m%dT%H%M%SZ}",
            }
            for disk in policy.disks:
                begin(_taking_one_of(disk.disk_id, arguments))


def _taking_one_of(disk_id: str, arguments: Mapping[str, Any]) -> Admission:
    return lambda _session, _operation_id: SagaStart(KIND, disk_id, arguments)
