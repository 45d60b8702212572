"""The tables of compute_svc."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from compute_svc.states import InstanceState, Standing
from svckit.database import UtcDateTime


class ComputeTable(DeclarativeBase):
    """Base of this service's tables."""


class Instance(ComputeTable):
    """An instance. `lease_operation_id` names the operation that holds it, and is empty when none does."""

    __tablename__ = "instances"
    __table_args__ = (sa.Index("instances_by_account", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    account_id: Mapped[str]
    region: Mapped[str]
    state: Mapped[InstanceState] = mapped_column(sa.String)
    lease_operation_id: Mapped[str] = mapped_column(index=True)
    lease_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    rollback_incomplete: Mapped[bool]
    """A rollback could not be done whole: starting is refused until one ends whole."""
    system_disk_id: Mapped[str]
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)


class Account(ComputeTable):
    """An account whose standing was ever set; any other is in good standing."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    standing: Mapped[Standing] = mapped_column(sa.String)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
