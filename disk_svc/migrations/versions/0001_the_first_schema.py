"""The first schema."""

import sqlalchemy as sa
from alembic import op

from svckit.database import UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("time", UtcDateTime(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("undo", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("events_by_account", ["account_id", "time", "sequence"], unique=False)
        batch_op.create_index("events_by_actor", ["account_id", "actor", "time", "sequence"], unique=False)
        batch_op.create_index("events_by_operation", ["operation_id", "sequence"], unique=False)
        batch_op.create_index("events_by_resource", ["resource_id", "time", "sequence"], unique=False)
        batch_op.create_index("events_by_type", ["account_id", "type", "time", "sequence"], unique=False)

    op.create_table(
        "participant_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("participant_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_participant_keys_time"), ["time"], unique=False)

    op.create_table(
        "requests",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "region", "method", "request_id"),
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_requests_create_time"), ["create_time"], unique=False)
        batch_op.create_index("requests_by_operation", ["operation_id"], unique=False)

    op.create_table(
        "sagas",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("past_pivot", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.Column("deadline", UtcDateTime(), nullable=True),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.Column("end_time", UtcDateTime(), nullable=True),
        sa.CheckConstraint("(state IN ('SUCCEEDED', 'FAILED')) = (due_at IS NULL)", name="due_until_at_rest"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("sagas", schema=None) as batch_op:
        batch_op.create_index("sagas_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("sagas_by_resource", ["resource_id", "id"], unique=False)
        batch_op.create_index(
            "sagas_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )

    op.create_table(
        "auto_snapshot_policies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("weekdays", sa.JSON(), nullable=False),
        sa.Column("hours", sa.JSON(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("retention_count", sa.Integer(), nullable=True),
        sa.Column("next_slot_time", UtcDateTime(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.CheckConstraint("retention_days IS NULL OR retention_count IS NULL", name="one_retention"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("auto_snapshot_policies", schema=None) as batch_op:
        batch_op.create_index("policies_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("policies_by_next_slot", ["next_slot_time"], unique=False)

    op.create_table(
        "consistency_points",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cut_time", UtcDateTime(), nullable=True),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "disk_snapshots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("disk_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("instance_snapshot_id", sa.String(), nullable=False),
        sa.Column("point_key", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("cut_time", UtcDateTime(), nullable=True),
        sa.Column("expire_time", UtcDateTime(), nullable=True),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.Column("source_region", sa.String(), nullable=False),
        sa.Column("source_snapshot_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("disk_snapshots", schema=None) as batch_op:
        batch_op.create_index("snapshots_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("snapshots_by_disk", ["disk_id", "kind", "state"], unique=False)
        batch_op.create_index(
            "snapshots_by_instance_snapshot", ["account_id", "instance_snapshot_id", "id"], unique=False
        )
        batch_op.create_index("snapshots_by_operation", ["operation_id"], unique=False)
        batch_op.create_index("snapshots_by_point", ["point_key"], unique=False)
        batch_op.create_index("snapshots_by_policy", ["policy_id", "disk_id"], unique=False)
        batch_op.create_index("snapshots_by_source", ["source_snapshot_id"], unique=False)
        batch_op.create_index("snapshots_of_disk_in_order", ["account_id", "disk_id", "id"], unique=False)
        batch_op.create_index(
            "snapshots_that_expire",
            ["expire_time"],
            unique=False,
            sqlite_where=sa.text("expire_time IS NOT NULL"),
            postgresql_where=sa.text("expire_time IS NOT NULL"),
        )

    op.create_table(
        "disks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("attachment", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("task_operation_id", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_snapshot_id", sa.String(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.CheckConstraint("(attachment = 'DETACHED') = (instance_id = '')", name="attached_to_an_instance"),
        sa.CheckConstraint("(device = '') = (instance_id = '')", name="attached_as_a_device"),
        sa.CheckConstraint("(task = '') = (task_operation_id = '')", name="a_task_has_an_operation"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("disks", schema=None) as batch_op:
        batch_op.create_index("disks_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("disks_by_instance", ["account_id", "instance_id", "id"], unique=False)
        batch_op.create_index("disks_by_source", ["source_snapshot_id", "task"], unique=False)
        batch_op.create_index("disks_by_task", ["task_operation_id"], unique=False)
        batch_op.create_index(
            "disks_of_source_in_order", ["account_id", "source_snapshot_id", "id"], unique=False
        )
        batch_op.create_index(
            "one_disk_per_device",
            ["instance_id", "device"],
            unique=True,
            sqlite_where=sa.text("instance_id <> ''"),
            postgresql_where=sa.text("instance_id <> ''"),
        )

    op.create_table(
        "imports",
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("source_region", sa.String(), nullable=False),
        sa.Column("volume_id", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("base_snapshot_id", sa.String(), nullable=False),
        sa.Column("base_source_snapshot_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id"),
    )
    with op.batch_alter_table("imports", schema=None) as batch_op:
        batch_op.create_index("imports_by_base", ["base_snapshot_id", "state"], unique=False)
        batch_op.create_index("imports_by_key", ["key"], unique=False)
        batch_op.create_index("imports_by_volume", ["volume_id"], unique=False)

    op.create_table(
        "reservations",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "auto_snapshot_policy_disks",
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("disk_id", sa.String(), nullable=False),
        sa.Column("slot_time", UtcDateTime(), nullable=True),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("pruned_count", sa.Integer(), nullable=False),
        sa.Column("end_time", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["policy_id"], ["auto_snapshot_policies.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("policy_id", "disk_id"),
    )
    with op.batch_alter_table("auto_snapshot_policy_disks", schema=None) as batch_op:
        batch_op.create_index("policies_by_disk", ["disk_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("auto_snapshot_policy_disks", schema=None) as batch_op:
        batch_op.drop_index("policies_by_disk")

    op.drop_table("auto_snapshot_policy_disks")
    op.drop_table("reservations")
    with op.batch_alter_table("imports", schema=None) as batch_op:
        batch_op.drop_index("imports_by_volume")
        batch_op.drop_index("imports_by_key")
        batch_op.drop_index("imports_by_base")

    op.drop_table("imports")
    with op.batch_alter_table("disks", schema=None) as batch_op:
        batch_op.drop_index(
            "one_disk_per_device",
            sqlite_where=sa.text("instance_id <> ''"),
            postgresql_where=sa.text("instance_id <> ''"),
        )
        batch_op.drop_index("disks_of_source_in_order")
        batch_op.drop_index("disks_by_task")
        batch_op.drop_index("disks_by_source")
        batch_op.drop_index("disks_by_instance")
        batch_op.drop_index("disks_by_account")

    op.drop_table("disks")
    with op.batch_alter_table("disk_snapshots", schema=None) as batch_op:
        batch_op.drop_index(
            "snapshots_that_expire",
            sqlite_where=sa.text("expire_time IS NOT NULL"),
            postgresql_where=sa.text("expire_time IS NOT NULL"),
        )
        batch_op.drop_index("snapshots_of_disk_in_order")
        batch_op.drop_index("snapshots_by_source")
        batch_op.drop_index("snapshots_by_policy")
        batch_op.drop_index("snapshots_by_point")
        batch_op.drop_index("snapshots_by_operation")
        batch_op.drop_index("snapshots_by_instance_snapshot")
        batch_op.drop_index("snapshots_by_disk")
        batch_op.drop_index("snapshots_by_account")

    op.drop_table("disk_snapshots")
    op.drop_table("consistency_points")
    with op.batch_alter_table("auto_snapshot_policies", schema=None) as batch_op:
        batch_op.drop_index("policies_by_next_slot")
        batch_op.drop_index("policies_by_account")

    op.drop_table("auto_snapshot_policies")
    with op.batch_alter_table("sagas", schema=None) as batch_op:
        batch_op.drop_index(
            "sagas_due",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.drop_index("sagas_by_resource")
        batch_op.drop_index("sagas_by_account")

    op.drop_table("sagas")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index("requests_by_operation")
        batch_op.drop_index(batch_op.f("ix_requests_create_time"))

    op.drop_table("requests")
    with op.batch_alter_table("participant_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_participant_keys_time"))

    op.drop_table("participant_keys")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("events_by_type")
        batch_op.drop_index("events_by_resource")
        batch_op.drop_index("events_by_operation")
        batch_op.drop_index("events_by_actor")
        batch_op.drop_index("events_by_account")

    op.drop_table("events")
