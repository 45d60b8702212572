"""Named queries on snapshot_svc's tables. Every change of state is one conditional UPDATE; its row count decides."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from snapshot_svc.models import InstanceSnapshot, Member
from snapshot_svc.states import CAN_BE_DELETED, State
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of
from svckit.narrowing import Narrowing

_SNAPSHOTS = table_of(InstanceSnapshot)
_MEMBERS = table_of(Member)


def add(session: Session, **values: Any) -> None:
    now = utc_now()
    session.execute(
        sa.insert(_SNAPSHOTS),
        {
            "state": State.CREATING,
            "state_reason": "",
            "cut_time": None,
            "expire_time": None,
            "source_region": "",
            "source_instance_snapshot_id": "",
            "create_time": now,
            "update_time": now,
            **values,
        },
    )


def find(
    session: Session, *, account_id: str, region: str, instance_snapshot_id: str, lock: bool = False
) -> InstanceSnapshot | None:
    """One that has had its moment: before that it is not there yet."""
    query = sa.select(InstanceSnapshot).where(
        InstanceSnapshot.id == instance_snapshot_id,
        InstanceSnapshot.account_id == account_id,
        InstanceSnapshot.region == region,
        InstanceSnapshot.cut_time.is_not(None),
    )
    return session.scalar(query.with_for_update() if lock else query)


def list_snapshots(
    session: Session,
    page: paging.Page,
    *,
    account_id: str,
    region: str,
    instance_id: str,
    disk_id: str,
    state: str,
    narrowing: Narrowing,
) -> tuple[Sequence[InstanceSnapshot], str]:
    query = sa.select(InstanceSnapshot).where(
        InstanceSnapshot.account_id == account_id,
        InstanceSnapshot.region == region,
        InstanceSnapshot.cut_time.is_not(None),
    )
    if instance_id:
        query = query.where(InstanceSnapshot.instance_id == instance_id)
    if disk_id:
        of_disk = sa.select(Member.instance_snapshot_id).where(Member.disk_id == disk_id)
        query = query.where(InstanceSnapshot.id.in_(of_disk))
    if state:
        query = query.where(InstanceSnapshot.state == state)
    return paging.fetch(session, narrowing.apply(query, InstanceSnapshot), InstanceSnapshot.id, page)


def describe(
    session: Session, *, account_id: str, region: str, instance_snapshot_id: str, changes: Mapping[str, Any]
) -> bool:
    """Change what a snapshot is called and labelled, in whatever state; False when it is not there, or not yet."""
    done = session.execute(
        sa.update(_SNAPSHOTS)
        .where(
            _SNAPSHOTS.c.id == instance_snapshot_id,
            _SNAPSHOTS.c.account_id == account_id,
            _SNAPSHOTS.c.region == region,
            _SNAPSHOTS.c.cut_time.is_not(None),
        )
        .values(update_time=utc_now(), **changes)
    )
    return rows_changed(done) == 1


def expired(session: Session, *, region: str, now: datetime, limit: int) -> Sequence[InstanceSnapshot]:
    """Those whose time has come and that may be deleted, the longest overdue first."""
    query = (
        sa.select(InstanceSnapshot)
        .where(
            InstanceSnapshot.expire_time <= now,
            InstanceSnapshot.region == region,
            InstanceSnapshot.state.in_(CAN_BE_DELETED),
            InstanceSnapshot.operation_id == "",
        )
        .order_by(InstanceSnapshot.expire_time)
        .limit(limit)
    )
    return session.scalars(query).all()


def take(
    session: Session, instance_snapshot_id: str, operation_id: str, *, allowed: Collection[State]
) -> bool:
    """Let an operation work on a snapshot that is in one of the allowed states and that no other works on."""
    done = session.execute(
        sa.update(_SNAPSHOTS)
        .where(
            _SNAPSHOTS.c.id == instance_snapshot_id,
            _SNAPSHOTS.c.state.in_(allowed),
            _SNAPSHOTS.c.operation_id == "",
        )
        .values(operation_id=operation_id, update_time=utc_now())
    )
    return rows_changed(done) == 1


def change(session: Session, instance_snapshot_id: str, operation_id: str, /, **values: Any) -> None:
    """Change a snapshot on behalf of the operation that works on it."""
    done = session.execute(
        sa.update(_SNAPSHOTS)
        .where(_SNAPSHOTS.c.id == instance_snapshot_id, _SNAPSHOTS.c.operation_id == operation_id)
        .values(update_time=utc_now(), **values)
    )
    assert rows_changed(done) == 1  # nobody else changes what an operation holds


def rest_broken(
    session: Session, instance_snapshot_id: str, operation_id: str, state: State, why: str
) -> None:
    """End what the operation that works on a snapshot has not done whole."""
    change(session, instance_snapshot_id, operation_id, state=state, state_reason=why, operation_id="")


def fix_moment(
    session: Session,
    instance_snapshot_id: str,
    operation_id: str,
    *,
    name: str,
    cut_time: datetime,
    members: Sequence[Mapping[str, Any]],
) -> None:
    change(session, instance_snapshot_id, operation_id, name=name, cut_time=cut_time)
    add_members(session, instance_snapshot_id, members)


def finish_import(session: Session, instance_snapshot_id: str) -> None:
    """What was received is AVAILABLE; nothing happens when it has been for some time."""
    session.execute(
        sa.update(_SNAPSHOTS)
        .where(_SNAPSHOTS.c.id == instance_snapshot_id, _SNAPSHOTS.c.state == State.CREATING)
        .values(state=State.AVAILABLE, operation_id="", update_time=utc_now())
    )


def received_for(session: Session, operation_id: str, *, region: str) -> Sequence[InstanceSnapshot]:
    """What an operation of another region is sending."""
    query = sa.select(InstanceSnapshot).where(
        InstanceSnapshot.operation_id == operation_id,
        InstanceSnapshot.source_region != "",
        InstanceSnapshot.state == State.CREATING,
        InstanceSnapshot.region == region,
    )
    return session.scalars(query).all()


def give_received_up(session: Session, instance_snapshot_id: str, why: str) -> None:
    session.execute(
        sa.update(_SNAPSHOTS)
        .where(_SNAPSHOTS.c.id == instance_snapshot_id, _SNAPSHOTS.c.state == State.CREATING)
        .values(state=State.ERROR, state_reason=why, operation_id="", update_time=utc_now())
    )


def add_members(session: Session, instance_snapshot_id: str, members: Sequence[Mapping[str, Any]]) -> None:
    session.execute(
        sa.insert(_MEMBERS),
        [
            {"instance_snapshot_id": instance_snapshot_id, "position": position, **member}
            for position, member in enumerate(members)
        ],
    )


def remove_members(session: Session, instance_snapshot_id: str) -> None:
    session.execute(sa.delete(_MEMBERS).where(_MEMBERS.c.instance_snapshot_id == instance_snapshot_id))


def remove_received(session: Session, instance_snapshot_id: str) -> None:
    """One that is still being received, with its members."""
    session.execute(
        sa.delete(_SNAPSHOTS).where(
            _SNAPSHOTS.c.id == instance_snapshot_id,
            _SNAPSHOTS.c.source_region != "",
            _SNAPSHOTS.c.state == State.CREATING,
        )
    )


def remove(session: Session, instance_snapshot_id: str) -> None:
    remove_members(session, instance_snapshot_id)
    session.execute(sa.delete(_SNAPSHOTS).where(_SNAPSHOTS.c.id == instance_snapshot_id))
