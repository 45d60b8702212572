"""The tables of snapshot_svc."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from snapshot_svc.states import State
from svckit.database import UtcDateTime


class SnapshotTable(DeclarativeBase):
    """Base of this service's tables."""


class Member(SnapshotTable):
    """One disk of an instance snapshot, as it was at the moment."""

    __tablename__ = "members"
    __table_args__ = (sa.Index("members_by_disk", "disk_id"),)

    instance_snapshot_id: Mapped[str] = mapped_column(
        sa.ForeignKey("instance_snapshots.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    """0 is the system disk."""
    disk_id: Mapped[str]
    disk_name: Mapped[str]
    is_system_disk: Mapped[bool]
    snapshot_id: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    device: Mapped[str]


class InstanceSnapshot(SnapshotTable):
    """An instance snapshot. It is listed from its moment on; before that its creation may still be refused."""

    __tablename__ = "instance_snapshots"
    __table_args__ = (
        sa.Index("instance_snapshots_by_account", "account_id", "id"),
        sa.Index("instance_snapshots_by_instance", "account_id", "instance_id", "id"),
        # Only of those that do, so that looking for what is due costs what is due.
        sa.Index(
            "instance_snapshots_that_expire",
            "expire_time",
            sqlite_where=sa.text("expire_time IS NOT NULL"),
            postgresql_where=sa.text("expire_time IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    account_id: Mapped[str]
    region: Mapped[str]
    instance_id: Mapped[str]
    source_region: Mapped[str]
    """The region it was copied from; empty for one that was taken here."""
    source_instance_snapshot_id: Mapped[str]
    state: Mapped[State] = mapped_column(sa.String)
    state_reason: Mapped[str]
    operation_id: Mapped[str]
    """The operation that works on it, of the other region while it is being received; empty when none does."""
    cut_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
    members: Mapped[list[Member]] = relationship(order_by=Member.position, lazy="selectin")
