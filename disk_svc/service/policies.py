"""Automatic snapshot policies: made, changed, deleted. What they do at their slots is in scheduler.py."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc.errors import DOMAIN, DiskNotFound, PolicyNotFound
from disk_svc.models import AutoSnapshotPolicy
from disk_svc.repository import disk_rows, policy_rows
from disk_svc.service.realm import Realm
from disk_svc.service.slots import Schedule
from svckit.caller import current_caller
from svckit.clock import Clock
from svckit.errors import refuse_all


def schedule_of(policy: AutoSnapshotPolicy) -> Schedule:
    return Schedule(policy.weekdays, policy.hours, policy.time_zone)


class Policies:
    """Use cases on policies. Settings are columns, and `disk_ids`."""

    def __init__(self, realm: Realm, clock: Clock) -> None:
        self._realm = realm
        self._clock = clock

    def get(self, session: Session, policy_id: str, *, lock: bool = False) -> AutoSnapshotPolicy:
        policy = policy_rows.find(
            session,
            account_id=current_caller().account_id,
            region=self._realm.region,
            policy_id=policy_id,
            lock=lock,
        )
        if policy is None:
            raise PolicyNotFound(policy_id)
        return policy

    def create(self, session: Session, policy_id: str, settings: Mapping[str, Any]) -> AutoSnapshotPolicy:
        self._refuse_unknown(session, settings["disk_ids"])
        schedule = Schedule(settings["weekdays"], settings["hours"], settings["time_zone"])
        policy_rows.add(
            session,
            id=policy_id,
            account_id=current_caller().account_id,
            region=self._realm.region,
            next_slot_time=schedule.first_after(self._clock()),
            **settings,
        )
        return self.get(session, policy_id)

    def update(self, session: Session, policy_id: str, settings: Mapping[str, Any]) -> AutoSnapshotPolicy:
        """Change some of the settings."""
        before = self.get(session, policy_id, lock=True)
        columns = dict(settings)
        disk_ids = columns.pop("disk_ids", None)
        if disk_ids is not None:
            # A disk that was deleted stays in its policies until it is taken out: it is no reason to refuse another change.
            self._refuse_unknown(session, set(disk_ids) - {disk.disk_id for disk in before.disks})
            policy_rows.set_disks(session, policy_id, disk_ids)
        schedule = Schedule(
            columns.get("weekdays", before.weekdays),
            columns.get("hours", before.hours),
            columns.get("time_zone", before.time_zone),
        )
        if schedule != schedule_of(before):
            columns["next_slot_time"] = schedule.first_after(self._clock())
        policy_rows.change(session, policy_id, **columns)
        return self.get(session, policy_id)

    def delete(self, session: Session, policy_id: str) -> None:
        self.get(session, policy_id, lock=True)
        policy_rows.remove(session, policy_id)

    def _refuse_unknown(self, session: Session, disk_ids: Collection[str]) -> None:
        known = disk_rows.disks_by_id(
            session,
            account_id=current_caller().account_id,
            region=self._realm.region,
            disk_ids=disk_ids,
            lock=False,
        )
        refuse_all([DiskNotFound(disk_id) for disk_id in sorted(disk_ids) if disk_id not in known], DOMAIN)
