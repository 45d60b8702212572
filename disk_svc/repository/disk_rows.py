"""Disks. Rows that a rule looks at are locked first, in the order of their ids; changes are conditional all the same."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import Disk
from disk_svc.states import (
    Attachment,
    Task,
)
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of
from svckit.narrowing import Narrowing

_DISKS = table_of(Disk)


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


def disks_after(session: Session, disk_id: str, limit: int, *, region: str) -> Sequence[Disk]:
    query = sa.select(Disk).where(Disk.id > disk_id, Disk.region == region).order_by(Disk.id).limit(limit)
    return session.scalars(query).all()
