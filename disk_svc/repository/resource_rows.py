"""Queries that are the same for disks and for their snapshots."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from disk_svc.models import Disk, DiskSnapshot, Import
from svckit.clock import utc_now
from svckit.database import rows_changed, table_of


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


def known_ids(session: Session, object_ids: Collection[str]) -> set[str]:
    """Which of these ids a disk or a snapshot has, or a volume that receives one."""
    disks = sa.select(Disk.id).where(Disk.id.in_(object_ids))
    snapshots = sa.select(DiskSnapshot.id).where(DiskSnapshot.id.in_(object_ids))
    receiving = sa.select(Import.volume_id).where(Import.volume_id.in_(object_ids))
    return {*session.scalars(disks), *session.scalars(snapshots), *session.scalars(receiving)}
