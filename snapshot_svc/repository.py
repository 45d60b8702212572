"""Named queries on snapshot_svc's tables. Every change of state is one conditional UPDATE; its row count decides."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from snapshot_svc.models import InstanceSnapshot, Member
from snapshot_svc.states import State
from svckit import paging
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of

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
            "source_region": "",
            "source_instance_snapshot_id": "",
            "create_time": now,
            "update_time": now,
            **values,
        },
    )


def find(
    session: Session, *, account_id: str, region: str, instance_snapshot_id: str
) -> InstanceSnapshot | None:
    """One that has had its moment: before that it is not there yet."""
    return session.scalar(
        sa.select(InstanceSnapshot).where(
            InstanceSnapshot.id == instance_snapshot_id,
            InstanceSnapshot.account_id == account_id,
            InstanceSnapshot.region == region,
            InstanceSnapshot.cut_time.is_not(None),
        )
    )


def list_snapshots(
    session: Session, page: paging.Page, *, account_id: str, region: str, instance_id: str, state: str
) -> tuple[Sequence[InstanceSnapshot], str]:
    query = sa.select(InstanceSnapshot).where(
        InstanceSnapshot.account_id == account_id,
        InstanceSnapshot.region == region,
        InstanceSnapshot.cut_time.is_not(None),
    )
    if instance_id:
        query = query.where(InstanceSnapshot.instance_id == instance_id)
    if state:
        query = query.where(InstanceSnapshot.state == state)
    return paging.fetch(session, query, InstanceSnapshot.id, page)


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


def remove(session: Session, instance_snapshot_id: str) -> None:
    remove_members(session, instance_snapshot_id)
    session.execute(sa.delete(_SNAPSHOTS).where(_SNAPSHOTS.c.id == instance_snapshot_id))
