"""Named queries on disk_svc's tables. Rows that a rule looks at are locked first, in the order of their ids; changes are
conditional all the same.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import ConsistencyPoint, Disk, DiskSnapshot, Import, Reservation
from disk_svc.states import (
    DELETABLE,
    HOLDS_SLOT,
    Attachment,
    ImportState,
    Kind,
    PointState,
    Purpose,
    SnapshotState,
    Task,
)
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of
from svckit.narrowing import Narrowing

_DISKS = table_of(Disk)
_SNAPSHOTS = table_of(DiskSnapshot)
_POINTS = table_of(ConsistencyPoint)
_RESERVATIONS = table_of(Reservation)
_IMPORTS = table_of(Import)

# Disks and snapshots alike


def describe(
    session: Session,
    resource: type[Disk] | type[DiskSnapshot],
    *,
    account_id: str,
    region: str,
    resource_id: str,
    changes: Mapping[str, Any],
) -> bool:
    """Change what a disk or a snapshot is called and labelled, in whatever state; False when it is not there."""
    done = session.execute(
        sa.update(table_of(resource))
        .where(resource.id == resource_id, resource.account_id == account_id, resource.region == region)
        .values(update_time=utc_now(), **changes)
    )
    return rows_changed(done) == 1


# Disks


def add_disks(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    now = utc_now()
    session.execute(sa.insert(_DISKS), [{"create_time": now, "update_time": now, **row} for row in rows])


def find_disk(
    session: Session, *, account_id: str, region: str, disk_id: str, lock: bool = False
) -> Disk | None:
    query = sa.select(Disk).where(Disk.id == disk_id, Disk.account_id == account_id, Disk.region == region)
    return session.scalar(query.with_for_update() if lock else query)


def disks_by_id(
    session: Session, *, account_id: str, region: str, disk_ids: Collection[str], lock: bool
) -> dict[str, Disk]:
    query = (
        sa.select(Disk)
        .where(Disk.id.in_(disk_ids), Disk.account_id == account_id, Disk.region == region)
        .order_by(Disk.id)
    )
    return {disk.id: disk for disk in session.scalars(query.with_for_update() if lock else query)}


def disks_of_instance(
    session: Session, *, account_id: str, region: str, instance_id: str, lock: bool
) -> Sequence[Disk]:
    query = (
        sa.select(Disk)
        .where(Disk.instance_id == instance_id, Disk.account_id == account_id, Disk.region == region)
        .order_by(Disk.id)
    )
    return session.scalars(query.with_for_update() if lock else query).all()


def disks_with_task(session: Session, operation_id: str, task: Task) -> Sequence[Disk]:
    query = sa.select(Disk).where(Disk.task_operation_id == operation_id, Disk.task == task).order_by(Disk.id)
    return session.scalars(query).all()


def list_disks(
    session: Session,
    page: paging.Page,
    *,
    account_id: str,
    region: str,
    instance_id: str,
    state: str,
    role: str,
    source_snapshot_id: str,
    narrowing: Narrowing,
) -> tuple[Sequence[Disk], str]:
    query = sa.select(Disk).where(Disk.account_id == account_id, Disk.region == region)
    if instance_id:
        query = query.where(Disk.instance_id == instance_id)
    if state in Attachment.__members__:
        query = query.where(Disk.task == Task.NONE, Disk.attachment == state)
    elif state:
        query = query.where(Disk.task == state)
    if role:
        query = query.where(Disk.role == role)
    if source_snapshot_id:
        query = query.where(Disk.source_snapshot_id == source_snapshot_id)
    return paging.fetch(session, narrowing.apply(query, Disk), Disk.id, page)


def set_task(session: Session, disk_ids: Collection[str], task: Task, operation_id: str) -> bool:
    """Give every one of the disks a task; False, and the transaction must be rolled back, when one has a task."""
    done = session.execute(
        sa.update(_DISKS)
        .where(_DISKS.c.id.in_(disk_ids), _DISKS.c.task == Task.NONE)
        .values(task=task, task_operation_id=operation_id, update_time=utc_now())
    )
    return rows_changed(done) == len(disk_ids)


def clear_tasks(session: Session, operation_id: str, task: Task) -> None:
    """End an operation's task on whichever disks have it."""
    session.execute(
        sa.update(_DISKS)
        .where(_DISKS.c.task_operation_id == operation_id, _DISKS.c.task == task)
        .values(task=Task.NONE, task_operation_id="", update_time=utc_now())
    )


def end_resize(session: Session, operation_id: str, size_bytes: int) -> None:
    """Give the disk that an operation resized its new size, and end the task."""
    session.execute(
        sa.update(_DISKS)
        .where(_DISKS.c.task_operation_id == operation_id, _DISKS.c.task == Task.RESIZING)
        .values(size_bytes=size_bytes, task=Task.NONE, task_operation_id="", update_time=utc_now())
    )


def move_idle_disk(
    session: Session,
    disk_id: str,
    *,
    here: tuple[Attachment, str],
    there: tuple[Attachment, str],
    device: str,
) -> bool:
    """Attach or detach a disk that is where it is thought to be and has no task. Places are an attachment and the
    instance's id; `device` is the disk's there, none where it is detached.
    """
    attachment, instance_id = there
    done = session.execute(
        sa.update(_DISKS)
        .where(
            _DISKS.c.id == disk_id,
            _DISKS.c.attachment == here[0],
            _DISKS.c.instance_id == here[1],
            _DISKS.c.task == Task.NONE,
        )
        .values(attachment=attachment, instance_id=instance_id, device=device, update_time=utc_now())
    )
    return rows_changed(done) == 1


def detached_among(session: Session, disk_ids: Collection[str]) -> Sequence[str]:
    """Which of the disks are on no instance. A repeated detach fences these only: a disk that has been attached again since
    has writers that are none of its business.
    """
    query = sa.select(Disk.id).where(Disk.id.in_(disk_ids), Disk.attachment == Attachment.DETACHED)
    return session.scalars(query).all()


def detach_disks(session: Session, disk_ids: Collection[str]) -> None:
    session.execute(
        sa.update(_DISKS)
        .where(_DISKS.c.id.in_(disk_ids), _DISKS.c.attachment == Attachment.MOUNTED)
        .values(attachment=Attachment.DETACHED, instance_id="", device="", update_time=utc_now())
    )


def remove_disks(session: Session, disk_ids: Collection[str]) -> None:
    session.execute(sa.delete(_DISKS).where(_DISKS.c.id.in_(disk_ids)))


# Snapshots


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


# Consistency points


def add_point(session: Session, key: str, operation_id: str, *, region: str) -> None:
    values = {
        "key": key,
        "region": region,
        "operation_id": operation_id,
        "state": PointState.PREPARED,
        "cut_time": None,
        "create_time": utc_now(),
    }
    session.execute(sa.insert(_POINTS), values)


def find_point(session: Session, key: str) -> ConsistencyPoint | None:
    return session.scalar(sa.select(ConsistencyPoint).where(ConsistencyPoint.key == key))


def mark_cut(session: Session, key: str, cut_time: Any) -> bool:
    """The point is CUT and its snapshots have their moment; False when the point was withdrawn meanwhile."""
    done = session.execute(
        sa.update(_POINTS).where(_POINTS.c.key == key).values(state=PointState.CUT, cut_time=cut_time)
    )
    session.execute(sa.update(_SNAPSHOTS).where(_SNAPSHOTS.c.point_key == key).values(cut_time=cut_time))
    return rows_changed(done) == 1


def remove_point(session: Session, key: str) -> None:
    session.execute(sa.delete(_POINTS).where(_POINTS.c.key == key))


# Reservations


def add_reservation(
    session: Session,
    key: str,
    operation_id: str,
    purpose: Purpose,
    targets: Sequence[Mapping[str, str]],
    *,
    region: str,
) -> None:
    values = {
        "key": key,
        "region": region,
        "operation_id": operation_id,
        "purpose": purpose,
        "targets": [dict(target) for target in targets],
        "create_time": utc_now(),
    }
    session.execute(sa.insert(_RESERVATIONS), values)


def find_reservation(session: Session, key: str) -> Reservation | None:
    return session.scalar(sa.select(Reservation).where(Reservation.key == key))


def narrow_reservation(session: Session, key: str, targets: Sequence[Mapping[str, str]]) -> None:
    """Let go of what is not among these."""
    session.execute(
        sa.update(_RESERVATIONS)
        .where(_RESERVATIONS.c.key == key)
        .values(targets=[dict(target) for target in targets])
    )


def remove_reservation(session: Session, key: str) -> None:
    session.execute(sa.delete(_RESERVATIONS).where(_RESERVATIONS.c.key == key))


# Holds, for doctor


def list_holds(session: Session, page: paging.Page, *, region: str) -> tuple[Sequence[sa.Row[Any]], str]:
    """Everything that an operation holds, as rows of sort_key, kind, resource_id, operation_id, since and
    operation_region.
    """
    here = sa.literal(region)
    # A copy that is being received is made by an operation of the region that it comes from.
    maker = sa.case(
        (
            sa.and_(_SNAPSHOTS.c.state == SnapshotState.CREATING, _SNAPSHOTS.c.source_region != ""),
            _SNAPSHOTS.c.source_region,
        ),
        else_=here,
    )
    kinds = sa.union_all(
        sa.select(
            sa.literal("task").label("kind"),
            _DISKS.c.id.label("resource_id"),
            _DISKS.c.task_operation_id.label("operation_id"),
            _DISKS.c.update_time.label("since"),
            here.label("operation_region"),
        ).where(_DISKS.c.task_operation_id != "", _DISKS.c.region == region),
        sa.select(
            sa.literal("snapshot"),
            _SNAPSHOTS.c.id,
            _SNAPSHOTS.c.operation_id,
            _SNAPSHOTS.c.update_time,
            maker,
        ).where(_SNAPSHOTS.c.operation_id != "", _SNAPSHOTS.c.region == region),
        sa.select(
            sa.literal("point"), _POINTS.c.key, _POINTS.c.operation_id, _POINTS.c.create_time, here
        ).where(_POINTS.c.region == region),
        sa.select(
            _RESERVATIONS.c.purpose + " reservation",
            _RESERVATIONS.c.key,
            _RESERVATIONS.c.operation_id,
            _RESERVATIONS.c.create_time,
            here,
        ).where(_RESERVATIONS.c.region == region),
        sa.select(
            sa.literal("import"),
            _IMPORTS.c.snapshot_id,
            _IMPORTS.c.operation_id,
            _IMPORTS.c.create_time,
            _IMPORTS.c.source_region,
        ).where(_IMPORTS.c.region == region),
    ).subquery()
    sort_key = kinds.c.kind + "/" + kinds.c.resource_id
    query = sa.select(sort_key.label("sort_key"), kinds).order_by(sort_key.desc()).limit(page.size + 1)
    if page.after is not None:
        query = query.where(sort_key < str(page.after))
    rows = session.execute(query).all()
    if len(rows) <= page.size:
        return rows, ""
    return rows[: page.size], page.token_after(rows[page.size - 1].sort_key)


# Walks, for comparing with the store


def disks_after(session: Session, disk_id: str, limit: int) -> Sequence[Disk]:
    return session.scalars(sa.select(Disk).where(Disk.id > disk_id).order_by(Disk.id).limit(limit)).all()


def snapshots_after(session: Session, snapshot_id: str, limit: int) -> Sequence[DiskSnapshot]:
    query = (
        sa.select(DiskSnapshot).where(DiskSnapshot.id > snapshot_id).order_by(DiskSnapshot.id).limit(limit)
    )
    return session.scalars(query).all()


def known_ids(session: Session, object_ids: Collection[str]) -> set[str]:
    """Which of these ids a disk or a snapshot has, or a volume that receives one."""
    disks = sa.select(Disk.id).where(Disk.id.in_(object_ids))
    snapshots = sa.select(DiskSnapshot.id).where(DiskSnapshot.id.in_(object_ids))
    receiving = sa.select(Import.volume_id).where(Import.volume_id.in_(object_ids))
    return {*session.scalars(disks), *session.scalars(snapshots), *session.scalars(receiving)}
