"""What operations hold: consistency points and reservations, and a list of all of it, for doctor."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import ConsistencyPoint, Disk, DiskSnapshot, Import, Reservation
from disk_svc.states import (
    PointState,
    Purpose,
    SnapshotState,
)
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of

_DISKS = table_of(Disk)
_SNAPSHOTS = table_of(DiskSnapshot)
_POINTS = table_of(ConsistencyPoint)
_RESERVATIONS = table_of(Reservation)
_IMPORTS = table_of(Import)


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


def points_of(session: Session, operation_id: str) -> Sequence[ConsistencyPoint]:
    query = sa.select(ConsistencyPoint).where(ConsistencyPoint.operation_id == operation_id)
    return session.scalars(query.order_by(ConsistencyPoint.key)).all()


def mark_cut(session: Session, key: str, cut_time: Any) -> bool:
    """The point is CUT and its snapshots have their moment; False when the point was withdrawn meanwhile."""
    done = session.execute(
        sa.update(_POINTS).where(_still_stands(key)).values(state=PointState.CUT, cut_time=cut_time)
    )
    session.execute(sa.update(_SNAPSHOTS).where(_SNAPSHOTS.c.point_key == key).values(cut_time=cut_time))
    return rows_changed(done) == 1


def mark_withdrawn(session: Session, key: str) -> bool:
    """The point is being undone; False when it is finished, or was never there."""
    done = session.execute(sa.update(_POINTS).where(_POINTS.c.key == key).values(state=PointState.WITHDRAWN))
    return rows_changed(done) == 1


def finish_point(session: Session, key: str) -> bool:
    """Remove a point whose snapshots stay; False when it is being undone, or is not there any more."""
    return rows_changed(session.execute(sa.delete(_POINTS).where(_still_stands(key)))) == 1


def _still_stands(key: str) -> sa.ColumnElement[bool]:
    return sa.and_(_POINTS.c.key == key, _POINTS.c.state != PointState.WITHDRAWN)


def remove_point(session: Session, key: str) -> None:
    session.execute(sa.delete(_POINTS).where(_POINTS.c.key == key))


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


def reservations_of(session: Session, operation_id: str) -> Sequence[Reservation]:
    query = sa.select(Reservation).where(Reservation.operation_id == operation_id)
    return session.scalars(query.order_by(Reservation.key)).all()


def narrow_reservation(session: Session, key: str, targets: Sequence[Mapping[str, str]]) -> None:
    """Let go of what is not among these."""
    session.execute(
        sa.update(_RESERVATIONS)
        .where(_RESERVATIONS.c.key == key)
        .values(targets=[dict(target) for target in targets])
    )


def begin_deletion(session: Session, key: str) -> bool:
    """From the commit on, what is reserved for deletion is deleted; False when the reservation is not there any more."""
    done = session.execute(
        sa.update(_RESERVATIONS)
        .where(
            _RESERVATIONS.c.key == key,
            _RESERVATIONS.c.purpose.in_([Purpose.DELETION, Purpose.BEGUN_DELETION]),
        )
        .values(purpose=Purpose.BEGUN_DELETION)
    )
    return rows_changed(done) == 1


def take_deletion_back(session: Session, key: str) -> bool:
    """Remove the reservation of a deletion that has not begun."""
    done = session.execute(
        sa.delete(_RESERVATIONS).where(
            _RESERVATIONS.c.key == key, _RESERVATIONS.c.purpose == Purpose.DELETION
        )
    )
    return rows_changed(done) == 1


def remove_reservation(session: Session, key: str) -> None:
    session.execute(sa.delete(_RESERVATIONS).where(_RESERVATIONS.c.key == key))


def list_holds(session: Session, page: paging.Page, *, region: str) -> tuple[Sequence[sa.Row[Any]], str]:
    """Everything that an operation holds, as rows of sort_key, kind, resource_id, operation_id, since, operation_region and
    account_id.
    """
    kinds = _holds(region)
    sort_key = kinds.c.kind + "/" + kinds.c.resource_id
    query = sa.select(sort_key.label("sort_key"), kinds).order_by(sort_key.desc()).limit(page.size + 1)
    if page.after is not None:
        query = query.where(sort_key < str(page.after))
    rows = session.execute(query).all()
    if len(rows) <= page.size:
        return rows, ""
    return rows[: page.size], page.token_after(rows[page.size - 1].sort_key)


def holds_of(session: Session, operation_id: str, *, region: str) -> Sequence[sa.Row[Any]]:
    """The same of one operation."""
    kinds = _holds(region)
    query = sa.select(kinds).where(kinds.c.operation_id == operation_id)
    return session.execute(query.order_by(kinds.c.kind.desc(), kinds.c.resource_id)).all()


def _holds(region: str) -> sa.Subquery:
    """Points and reservations, whose account is empty here, do not stand alone: a task or a snapshot stands beside each."""
    here, nobody = sa.literal(region), sa.literal("")
    # A copy that is being received is made by an operation of the region that it comes from.
    maker = sa.case(
        (
            sa.and_(_SNAPSHOTS.c.state == SnapshotState.CREATING, _SNAPSHOTS.c.source_region != ""),
            _SNAPSHOTS.c.source_region,
        ),
        else_=here,
    )
    return sa.union_all(
        sa.select(
            sa.literal("task").label("kind"),
            _DISKS.c.id.label("resource_id"),
            _DISKS.c.task_operation_id.label("operation_id"),
            _DISKS.c.update_time.label("since"),
            here.label("operation_region"),
            _DISKS.c.account_id.label("account_id"),
        ).where(_DISKS.c.task_operation_id != "", _DISKS.c.region == region),
        sa.select(
            sa.literal("snapshot"),
            _SNAPSHOTS.c.id,
            _SNAPSHOTS.c.operation_id,
            _SNAPSHOTS.c.update_time,
            maker,
            _SNAPSHOTS.c.account_id,
        ).where(_SNAPSHOTS.c.operation_id != "", _SNAPSHOTS.c.region == region),
        sa.select(
            sa.literal("point"), _POINTS.c.key, _POINTS.c.operation_id, _POINTS.c.create_time, here, nobody
        ).where(_POINTS.c.region == region),
        sa.select(
            _RESERVATIONS.c.purpose + " reservation",
            _RESERVATIONS.c.key,
            _RESERVATIONS.c.operation_id,
            _RESERVATIONS.c.create_time,
            here,
            nobody,
        ).where(_RESERVATIONS.c.region == region),
        sa.select(
            sa.literal("import"),
            _IMPORTS.c.snapshot_id,
            _IMPORTS.c.operation_id,
            _IMPORTS.c.create_time,
            _IMPORTS.c.source_region,
            nobody,
        ).where(_IMPORTS.c.region == region),
    ).subquery()
