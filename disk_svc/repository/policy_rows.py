"""Named queries on the tables of automatic snapshot policies, and on what these have taken."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import AutoSnapshotPolicy, DiskSnapshot, PolicyDisk
from disk_svc.states import SnapshotState
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of

_POLICIES = table_of(AutoSnapshotPolicy)
_DISKS = table_of(PolicyDisk)


def add(session: Session, *, disk_ids: Collection[str], **values: Any) -> None:
    now = utc_now()
    session.execute(sa.insert(_POLICIES), {"create_time": now, "update_time": now, **values})
    _add_disks(session, values["id"], disk_ids)


def find(
    session: Session, *, account_id: str, region: str, policy_id: str, lock: bool = False
) -> AutoSnapshotPolicy | None:
    query = sa.select(AutoSnapshotPolicy).where(
        AutoSnapshotPolicy.id == policy_id,
        AutoSnapshotPolicy.account_id == account_id,
        AutoSnapshotPolicy.region == region,
    )
    return session.scalar(query.with_for_update() if lock else query)


def list_policies(
    session: Session, page: paging.Page, *, account_id: str, region: str, disk_id: str
) -> tuple[Sequence[AutoSnapshotPolicy], str]:
    query = sa.select(AutoSnapshotPolicy).where(
        AutoSnapshotPolicy.account_id == account_id, AutoSnapshotPolicy.region == region
    )
    if disk_id:
        query = query.where(AutoSnapshotPolicy.disks.any(PolicyDisk.disk_id == disk_id))
    return paging.fetch(session, query, AutoSnapshotPolicy.id, page)


def change(session: Session, policy_id: str, **values: Any) -> None:
    session.execute(
        sa.update(_POLICIES).where(_POLICIES.c.id == policy_id).values(update_time=utc_now(), **values)
    )


def set_disks(session: Session, policy_id: str, disk_ids: Collection[str]) -> None:
    """What is known of the disks that stay is kept."""
    of_policy = _DISKS.c.policy_id == policy_id
    session.execute(sa.delete(_DISKS).where(of_policy, _DISKS.c.disk_id.not_in(disk_ids)))
    staying = set(session.scalars(sa.select(PolicyDisk.disk_id).where(of_policy)))
    _add_disks(session, policy_id, set(disk_ids) - staying)


def remove(session: Session, policy_id: str) -> None:
    session.execute(sa.delete(_POLICIES).where(_POLICIES.c.id == policy_id))


def due(session: Session, *, region: str, now: datetime, limit: int) -> Sequence[AutoSnapshotPolicy]:
    """Policies whose next slot has come, the longest overdue first."""
    query = (
        sa.select(AutoSnapshotPolicy)
        .where(AutoSnapshotPolicy.next_slot_time <= now, AutoSnapshotPolicy.region == region)
        .order_by(AutoSnapshotPolicy.next_slot_time)
        .limit(limit)
    )
    return session.scalars(query).all()


def move_on(session: Session, policy_id: str, *, seen: datetime, to: datetime) -> bool:
    """Take the slot that a policy is at; False when somebody else has."""
    done = session.execute(
        sa.update(_POLICIES)
        .where(_POLICIES.c.id == policy_id, _POLICIES.c.next_slot_time == seen)
        .values(next_slot_time=to)
    )
    return rows_changed(done) == 1


def record_result(
    session: Session,
    policy_id: str,
    disk_id: str,
    *,
    slot_time: datetime,
    operation_id: str,
    snapshot_id: str,
    error: bytes | None,
    pruned_count: int,
) -> None:
    """Say what came of a slot on a disk: nothing where the policy is gone or has let go of the disk, or where a later slot
    has ended before.
    """
    session.execute(
        sa.update(_DISKS)
        .where(
            _DISKS.c.policy_id == policy_id,
            _DISKS.c.disk_id == disk_id,
            sa.or_(_DISKS.c.slot_time.is_(None), _DISKS.c.slot_time <= slot_time),
        )
        .values(
            slot_time=slot_time,
            operation_id=operation_id,
            snapshot_id=snapshot_id,
            error=error,
            pruned_count=pruned_count,
            end_time=utc_now(),
        )
    )


def snapshots_taken(session: Session, *, policy_id: str, disk_id: str) -> Sequence[DiskSnapshot]:
    """What a policy has taken of a disk and is at rest, oldest first, locked."""
    query = (
        sa.select(DiskSnapshot)
        .where(
            DiskSnapshot.policy_id == policy_id,
            DiskSnapshot.disk_id == disk_id,
            DiskSnapshot.state == SnapshotState.AVAILABLE,
        )
        .order_by(DiskSnapshot.id)
        .with_for_update()
    )
    return session.scalars(query).all()


def _add_disks(session: Session, policy_id: str, disk_ids: Collection[str]) -> None:
    if not disk_ids:
        return
    nothing_yet = {
        "slot_time": None,
        "operation_id": "",
        "snapshot_id": "",
        "error": None,
        "pruned_count": 0,
        "end_time": None,
    }
    session.execute(
        sa.insert(_DISKS),
        [{"policy_id": policy_id, "disk_id": disk_id, **nothing_yet} for disk_id in sorted(disk_ids)],
    )
