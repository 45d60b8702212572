"""Disk snapshots. Rows that a rule looks at are locked first, in the order of their ids; changes are conditional all the same."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import Disk, DiskSnapshot, Import, Reservation
from disk_svc.states import (
    DELETABLE,
    HOLDS_SLOT,
    ImportState,
    Kind,
    Purpose,
    SnapshotState,
    Task,
)
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of
from svckit.narrowing import Narrowing

_SNAPSHOTS = table_of(DiskSnapshot)


def add_snapshots(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    now = utc_now()
    session.execute(
        sa.insert(_SNAPSHOTS),
        [
            {
                "state": SnapshotState.CREATING,
                "policy_id": "",
                "cut_time": None,
                "expire_time": None,
                "create_time": now,
                "update_time": now,
                "source_region": "",
                "source_snapshot_id": "",
                **row,
            }
            for row in rows
        ],
    )


def find_snapshot(
    session: Session, *, account_id: str, region: str, snapshot_id: str, lock: bool = False
) -> DiskSnapshot | None:
    query = sa.select(DiskSnapshot).where(
        DiskSnapshot.id == snapshot_id, DiskSnapshot.account_id == account_id, DiskSnapshot.region == region
    )
    return session.scalar(query.with_for_update() if lock else query)


def snapshots_by_id(
    session: Session, snapshot_ids: Collection[str], *, account_id: str, region: str, lock: bool = False
) -> dict[str, DiskSnapshot]:
    query = (
        sa.select(DiskSnapshot)
        .where(
            DiskSnapshot.id.in_(snapshot_ids),
            DiskSnapshot.account_id == account_id,
            DiskSnapshot.region == region,
        )
        .order_by(DiskSnapshot.id)
    )
    return {snapshot.id: snapshot for snapshot in session.scalars(query.with_for_update() if lock else query)}


def snapshots_of_point(session: Session, key: str) -> Sequence[DiskSnapshot]:
    query = sa.select(DiskSnapshot).where(DiskSnapshot.point_key == key).order_by(DiskSnapshot.id)
    return session.scalars(query).all()


def members_of(
    session: Session, *, account_id: str, region: str, instance_snapshot_id: str
) -> Sequence[DiskSnapshot]:
    """The members of an instance snapshot, locked."""
    query = (
        sa.select(DiskSnapshot)
        .where(
            DiskSnapshot.instance_snapshot_id == instance_snapshot_id,
            DiskSnapshot.account_id == account_id,
            DiskSnapshot.region == region,
        )
        .order_by(DiskSnapshot.id)
        .with_for_update()
    )
    return session.scalars(query).all()


def doomed_by(session: Session, operation_id: str) -> Sequence[str]:
    """What an operation has marked to be deleted."""
    query = sa.select(DiskSnapshot.id).where(
        DiskSnapshot.operation_id == operation_id, DiskSnapshot.state == SnapshotState.DELETING
    )
    return session.scalars(query.order_by(DiskSnapshot.id)).all()


def list_snapshots(
    session: Session,
    page: paging.Page,
    *,
    account_id: str,
    region: str,
    disk_id: str,
    instance_snapshot_id: str,
    state: str,
    kind: str,
    narrowing: Narrowing,
) -> tuple[Sequence[DiskSnapshot], str]:
    query = sa.select(DiskSnapshot).where(
        DiskSnapshot.account_id == account_id, DiskSnapshot.region == region
    )
    if disk_id:
        query = query.where(DiskSnapshot.disk_id == disk_id)
    if instance_snapshot_id:
        query = query.where(DiskSnapshot.instance_snapshot_id == instance_snapshot_id)
    if state:
        query = query.where(DiskSnapshot.state == state)
    if kind:
        query = query.where(DiskSnapshot.kind == kind)
    return paging.fetch(session, narrowing.apply(query, DiskSnapshot), DiskSnapshot.id, page)


def expired_snapshots(session: Session, *, region: str, now: datetime, limit: int) -> Sequence[DiskSnapshot]:
    """Those whose time has come and that may be deleted, the longest overdue first."""
    query = (
        sa.select(DiskSnapshot)
        .where(
            DiskSnapshot.expire_time <= now, DiskSnapshot.region == region, DiskSnapshot.state.in_(DELETABLE)
        )
        .order_by(DiskSnapshot.expire_time)
        .limit(limit)
    )
    return session.scalars(query).all()


def slots_taken(session: Session, disk_ids: Collection[str]) -> dict[tuple[str, Kind], int]:
    """How many snapshots of each kind each disk has: the rows are the slots, there is no counter to go wrong."""
    query = (
        sa.select(DiskSnapshot.disk_id, DiskSnapshot.kind, sa.func.count())
        .where(DiskSnapshot.disk_id.in_(disk_ids), DiskSnapshot.state.in_(HOLDS_SLOT))
        .group_by(DiskSnapshot.disk_id, DiskSnapshot.kind)
    )
    return {(disk_id, Kind(kind)): count for disk_id, kind, count in session.execute(query)}


def disks_by_slots_taken(session: Session, *, region: str) -> dict[Kind, Counter[int]]:
    """Of each kind, how many disks there are with so many snapshots of it, for all of the region's disks that have any.
    Walks an index of all snapshots, and reads no row of theirs.
    """
    taken = (
        sa.select(DiskSnapshot.disk_id, DiskSnapshot.kind, sa.func.count().label("slots"))
        .where(DiskSnapshot.disk_id != "", DiskSnapshot.state.in_(HOLDS_SLOT))
        .group_by(DiskSnapshot.disk_id, DiskSnapshot.kind)
        .subquery()
    )
    query = (
        sa.select(taken.c.kind, taken.c.slots, sa.func.count())
        .join(Disk, Disk.id == taken.c.disk_id)
        .where(Disk.region == region)
        .group_by(taken.c.kind, taken.c.slots)
    )
    disks: dict[Kind, Counter[int]] = {kind: Counter() for kind in Kind}
    for kind, slots, count in session.execute(query):
        disks[Kind(kind)][slots] = count
    return disks


def sources_in_use(session: Session, snapshot_ids: Collection[str]) -> set[str]:
    """Which of the snapshots something is being made from right now, a disk or a copy, or rolled back to."""
    being_made = sa.select(Disk.source_snapshot_id).where(
        Disk.source_snapshot_id.in_(snapshot_ids), Disk.task == Task.CREATING
    )
    being_received = sa.select(Import.base_snapshot_id).where(
        Import.base_snapshot_id.in_(snapshot_ids), Import.state == ImportState.PREPARED
    )
    # As many as there are rollbacks and copies under way: few.
    under_way = sa.select(Reservation.targets).where(
        Reservation.purpose.in_([Purpose.ROLLBACK, Purpose.COPY])
    )
    reserved = {target["snapshot_id"] for targets in session.scalars(under_way) for target in targets}
    made = {*session.scalars(being_made), *session.scalars(being_received)}
    return made | reserved.intersection(snapshot_ids)


def change_snapshots(
    session: Session, snapshot_ids: Collection[str], *, allowed: Collection[SnapshotState], **values: Any
) -> bool:
    """Change snapshots that are in one of the allowed states; False, and the transaction must be rolled back, when one
    of them is not.
    """
    done = session.execute(
        sa.update(_SNAPSHOTS)
        .where(_SNAPSHOTS.c.id.in_(snapshot_ids), _SNAPSHOTS.c.state.in_(allowed))
        .values(update_time=utc_now(), **values)
    )
    return rows_changed(done) == len(snapshot_ids)


def remove_snapshots(session: Session, snapshot_ids: Collection[str]) -> None:
    session.execute(sa.delete(_SNAPSHOTS).where(_SNAPSHOTS.c.id.in_(snapshot_ids)))


def snapshots_after(session: Session, snapshot_id: str, limit: int, *, region: str) -> Sequence[DiskSnapshot]:
    query = (
        sa.select(DiskSnapshot)
        .where(DiskSnapshot.id > snapshot_id, DiskSnapshot.region == region)
        .order_by(DiskSnapshot.id)
        .limit(limit)
    )
    return session.scalars(query).all()
