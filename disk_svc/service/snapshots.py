"""Snapshots of single disks: a consistency point of one disk, and the deletion of a snapshot that stands alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from disk_svc.errors import (
    DOMAIN,
    ExpiryNotOwn,
    MemberOfInstanceSnapshot,
    SnapshotInState,
    SnapshotInUse,
    SnapshotNotFound,
)
from disk_svc.models import DiskSnapshot
from disk_svc.repository import resource_rows, snapshot_rows
from disk_svc.service.disks import Disks
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.states import DELETABLE, Kind, SnapshotState
from svckit.caller import current_caller
from svckit.clock import Clock, utc_now
from svckit.errors import Refusal, refuse_all
from svckit.mutations import SagaStart
from svckit.validation import must_be_ahead


class Snapshots:
    """Use cases on disk snapshots."""

    def __init__(self, realm: Realm, disks: Disks, points: Points, clock: Clock) -> None:
        self._realm = realm
        self._clock = clock
        self._disks = disks
        self._points = points

    def get(
        self, session: Session, snapshot_id: str, *, account_id: str | None = None, lock: bool = False
    ) -> DiskSnapshot:
        snapshot = snapshot_rows.find_snapshot(
            session,
            account_id=account_id or current_caller().account_id,
            region=self._realm.region,
            snapshot_id=snapshot_id,
            lock=lock,
        )
        if snapshot is None:
            raise SnapshotNotFound(snapshot_id)
        return snapshot

    def create(
        self,
        session: Session,
        operation_id: str,
        disk_id: str,
        *,
        name: str,
        description: str,
        labels: Mapping[str, str],
        expire_time: datetime | None,
    ) -> SagaStart:
        must_be_ahead("expire_time", expire_time, self._clock())
        disk = self._disks.get(session, disk_id, lock=True)
        stamp = utc_now().strftime("%Y%m%dT%H%M%SZ")
        key = f"{operation_id}/cut"
        [snapshot_id] = self._points.prepare(
            session,
            key,
            operation_id,
            [disk],
            Kind.MANUAL,
            name=name or f"{disk.name[:48]}-{stamp}",
            description=description,
            labels=labels,
            instance_snapshot_id="",
            expire_time=expire_time,
        )
        return SagaStart("create_disk_snapshot", snapshot_id, {"disk_id": disk_id})

    def update(self, session: Session, snapshot_id: str, changes: Mapping[str, Any]) -> DiskSnapshot:
        """What it is called and labelled: allowed in every state, of a member too, because nothing depends on it. When it
        expires: not of what another resource deletes.
        """
        if "expire_time" in changes:
            snapshot = self.get(session, snapshot_id, lock=True)
            if snapshot.instance_snapshot_id or snapshot.kind == Kind.AUTOMATIC:
                raise ExpiryNotOwn(snapshot)
            must_be_ahead("snapshot.expire_time", changes["expire_time"], self._clock())
        if not resource_rows.describe(
            session,
            DiskSnapshot,
            account_id=current_caller().account_id,
            region=self._realm.region,
            resource_id=snapshot_id,
            changes=changes,
        ):
            raise SnapshotNotFound(snapshot_id)
        return self.get(session, snapshot_id)

    def delete(self, session: Session, operation_id: str, snapshot_id: str) -> SagaStart:
        """spec.md: "to maintain the integrity of full-system data backups, disk snapshots cannot be deleted
        independently."
        """
        snapshot = self.get(session, snapshot_id, lock=True)
        refusals: list[Refusal] = []
        if snapshot.instance_snapshot_id:
            refusals.append(MemberOfInstanceSnapshot(snapshot))
        if snapshot.state not in DELETABLE:
            refusals.append(SnapshotInState(snapshot, " or ".join(DELETABLE)))
        if snapshot_rows.sources_in_use(session, [snapshot_id]):
            refusals.append(SnapshotInUse(snapshot_id))
        refuse_all(refusals, DOMAIN)
        snapshot_rows.change_snapshots(
            session, [snapshot_id], allowed=DELETABLE, state=SnapshotState.DELETING, operation_id=operation_id
        )
        return SagaStart("delete_disk_snapshot", snapshot_id, {})
