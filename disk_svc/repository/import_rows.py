"""Named queries about copies between regions: what is received, and what a copy of a snapshot may stand on."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import DiskSnapshot, Import
from disk_svc.states import ImportState, SnapshotState
from svckit.clock import utc_now
from svckit.database import table_of

_IMPORTS = table_of(Import)


# Here, what another region sends


def add_import(session: Session, values: Mapping[str, Any]) -> None:
    session.execute(sa.insert(_IMPORTS), {"state": ImportState.PREPARED, "create_time": utc_now(), **values})


def imports_of(session: Session, key: str) -> Sequence[Import]:
    query = sa.select(Import).where(Import.key == key).order_by(Import.snapshot_id)
    return session.scalars(query).all()


def keys_of(session: Session, operation_id: str) -> Sequence[str]:
    """Of the imports that an operation of another region has begun."""
    return session.scalars(
        sa.select(Import.key).where(Import.operation_id == operation_id).distinct().order_by(Import.key)
    ).all()


def find_import(session: Session, key: str, snapshot_id: str) -> Import | None:
    return session.scalar(sa.select(Import).where(Import.key == key, Import.snapshot_id == snapshot_id))


def mark_receiving(session: Session, key: str) -> None:
    session.execute(sa.update(_IMPORTS).where(_IMPORTS.c.key == key).values(state=ImportState.RECEIVING))


def remove_imports(session: Session, key: str) -> None:
    session.execute(sa.delete(_IMPORTS).where(_IMPORTS.c.key == key))


def copies_here(
    session: Session,
    source_snapshot_ids: Collection[str],
    *,
    account_id: str,
    region: str,
    source_region: str,
    largest_bytes: int,
) -> dict[str, DiskSnapshot]:
    """Copies of these snapshots that a volume of this size can begin with, by what they are copies of, locked: none is
    deleted between this look and the row that marks it as in use.
    """
    query = (
        sa.select(DiskSnapshot)
        .where(
            DiskSnapshot.source_snapshot_id.in_(source_snapshot_ids),
            DiskSnapshot.source_region == source_region,
            DiskSnapshot.account_id == account_id,
            DiskSnapshot.region == region,
            DiskSnapshot.state == SnapshotState.AVAILABLE,
            DiskSnapshot.size_bytes <= largest_bytes,
        )
        .order_by(DiskSnapshot.id)
        .with_for_update()
    )
    return {snapshot.source_snapshot_id: snapshot for snapshot in session.scalars(query)}


# Here, what is sent to another region


def relatives(session: Session, snapshot: DiskSnapshot, limit: int) -> list[str]:
    """What a copy may stand on in the other region, the likest first: an earlier copy of this very snapshot, then of other
    AVAILABLE snapshots of its disk, those before it, newest first, and those after it.
    """
    others = sa.select(DiskSnapshot.id).where(
        DiskSnapshot.disk_id == snapshot.disk_id,
        DiskSnapshot.disk_id != "",
        DiskSnapshot.state == SnapshotState.AVAILABLE,
    )
    before = others.where(DiskSnapshot.id < snapshot.id).order_by(DiskSnapshot.id.desc()).limit(limit)
    found = list(session.scalars(before))
    after = others.where(DiskSnapshot.id > snapshot.id).order_by(DiskSnapshot.id).limit(limit - len(found))
    return [snapshot.id, *found, *session.scalars(after)]
