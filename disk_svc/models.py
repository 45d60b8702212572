"""The tables of disk_svc. A disk and its snapshots refer to each other by id only: either may go first."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from disk_svc.states import Attachment, ImportState, Kind, PointState, Purpose, Role, SnapshotState, Task
from svckit.database import UtcDateTime


class DiskTable(DeclarativeBase):
    """Base of this service's tables."""


class Disk(DiskTable):
    """A disk. `task` is empty, and `task_operation_id` too, when no operation works on it."""

    __tablename__ = "disks"
    __table_args__ = (
        sa.Index("disks_by_account", "account_id", "id"),
        sa.Index("disks_by_instance", "account_id", "instance_id", "id"),
        sa.Index("disks_by_task", "task_operation_id"),
        sa.Index("disks_by_source", "source_snapshot_id", "task"),
        sa.Index("disks_of_source_in_order", "account_id", "source_snapshot_id", "id"),
        sa.CheckConstraint("(task = '') = (task_operation_id = '')", name="a_task_has_an_operation"),
        sa.CheckConstraint("(attachment = 'DETACHED') = (instance_id = '')", name="attached_to_an_instance"),
        sa.CheckConstraint("(device = '') = (instance_id = '')", name="attached_as_a_device"),
        sa.Index(
            "one_disk_per_device",
            "instance_id",
            "device",
            unique=True,
            sqlite_where=sa.text("instance_id <> ''"),
            postgresql_where=sa.text("instance_id <> ''"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    account_id: Mapped[str]
    region: Mapped[str]
    role: Mapped[Role] = mapped_column(sa.String)
    attachment: Mapped[Attachment] = mapped_column(sa.String)
    instance_id: Mapped[str]
    device: Mapped[str]
    """As which its instance sees it; empty for a detached disk."""
    task: Mapped[Task] = mapped_column(sa.String)
    task_operation_id: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    source_snapshot_id: Mapped[str]
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def state(self) -> str:
        return self.task or self.attachment


class DiskSnapshot(DiskTable):
    """A snapshot of a disk. In CREATING, AVAILABLE and DELETING the row is the quota's slot. A copy from another region has
    no disk, and so no slot; `operation_id` is that region's while it is CREATING.
    """

    __tablename__ = "disk_snapshots"
    __table_args__ = (
        sa.Index("snapshots_by_account", "account_id", "id"),
        sa.Index("snapshots_by_disk", "disk_id", "kind", "state"),
        sa.Index("snapshots_of_disk_in_order", "account_id", "disk_id", "id"),
        sa.Index("snapshots_by_instance_snapshot", "account_id", "instance_snapshot_id", "id"),
        sa.Index("snapshots_by_point", "point_key"),
        sa.Index("snapshots_by_operation", "operation_id"),
        sa.Index("snapshots_by_policy", "policy_id", "disk_id"),
        # Only of those that do, so that looking for what is due costs what is due.
        sa.Index(
            "snapshots_that_expire",
            "expire_time",
            sqlite_where=sa.text("expire_time IS NOT NULL"),
            postgresql_where=sa.text("expire_time IS NOT NULL"),
        ),
        sa.Index("snapshots_by_source", "source_snapshot_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    account_id: Mapped[str]
    region: Mapped[str]
    disk_id: Mapped[str]
    state: Mapped[SnapshotState] = mapped_column(sa.String)
    kind: Mapped[Kind] = mapped_column(sa.String)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    instance_snapshot_id: Mapped[str]
    point_key: Mapped[str]
    operation_id: Mapped[str]
    policy_id: Mapped[str]
    """The policy that made it, and may be gone; empty for a manual one."""
    cut_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
    source_region: Mapped[str]
    source_snapshot_id: Mapped[str]


class ConsistencyPoint(DiskTable):
    """A point that has not been finished or withdrawn: one moment for one disk or for all disks of an instance."""

    __tablename__ = "consistency_points"

    key: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str]
    operation_id: Mapped[str]
    state: Mapped[PointState] = mapped_column(sa.String)
    cut_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class Reservation(DiskTable):
    """What an operation has reserved, all or none, and not yet applied or withdrawn."""

    __tablename__ = "reservations"

    key: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str]
    operation_id: Mapped[str]
    purpose: Mapped[Purpose] = mapped_column(sa.String)
    targets: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    """`disk_id` and `snapshot_id` of each."""
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)


class PolicyDisk(DiskTable):
    """A disk of a policy, and what came of the policy's latest slot on it. Without `slot_time`, nothing yet."""

    __tablename__ = "auto_snapshot_policy_disks"
    __table_args__ = (sa.Index("policies_by_disk", "disk_id"),)

    policy_id: Mapped[str] = mapped_column(
        sa.ForeignKey("auto_snapshot_policies.id", ondelete="CASCADE"), primary_key=True
    )
    disk_id: Mapped[str] = mapped_column(primary_key=True)
    slot_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    operation_id: Mapped[str]
    snapshot_id: Mapped[str]
    error: Mapped[bytes | None]
    """The google.rpc.Status of what turned it back."""
    pruned_count: Mapped[int]
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AutoSnapshotPolicy(DiskTable):
    """An automatic snapshot policy. Whoever moves `next_slot_time` on has taken that slot, and nobody else has."""

    __tablename__ = "auto_snapshot_policies"
    __table_args__ = (
        sa.Index("policies_by_account", "account_id", "id"),
        sa.Index("policies_by_next_slot", "next_slot_time"),
        sa.CheckConstraint("retention_days IS NULL OR retention_count IS NULL", name="one_retention"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    weekdays: Mapped[list[int]] = mapped_column(sa.JSON)
    """1 is Monday."""
    hours: Mapped[list[int]] = mapped_column(sa.JSON)
    time_zone: Mapped[str]
    retention_days: Mapped[int | None]
    retention_count: Mapped[int | None]
    next_slot_time: Mapped[datetime] = mapped_column(UtcDateTime)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
    disks: Mapped[list[PolicyDisk]] = relationship(order_by=PolicyDisk.disk_id, lazy="selectin")


class Import(DiskTable):
    """A snapshot that another region copies to this one, until all of its import are finished or withdrawn. Its bytes are
    in a volume that no disk has.
    """

    __tablename__ = "imports"
    __table_args__ = (
        sa.Index("imports_by_key", "key"),
        sa.Index("imports_by_volume", "volume_id"),
        sa.Index("imports_by_base", "base_snapshot_id", "state"),
    )

    snapshot_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str]
    region: Mapped[str]
    operation_id: Mapped[str]
    source_region: Mapped[str]
    volume_id: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    base_snapshot_id: Mapped[str]
    """The copy whose content the volume begins with; empty for none."""
    base_source_snapshot_id: Mapped[str]
    """What that is a copy of."""
    state: Mapped[ImportState] = mapped_column(sa.String)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
