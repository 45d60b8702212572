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
        batch_op.create_index("events_by_account", ["account_id", "sequence"], unique=False)
        batch_op.create_index("events_by_operation", ["operation_id", "sequence"], unique=False)
        batch_op.create_index("events_by_resource", ["resource_id", "sequence"], unique=False)

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
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "method", "request_id"),
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
        "consistency_points",
        sa.Column("key", sa.String(), nullable=False),
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
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("disk_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("instance_snapshot_id", sa.String(), nullable=False),
        sa.Column("point_key", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("cut_time", UtcDateTime(), nullable=True),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("disk_snapshots", schema=None) as batch_op:
        batch_op.create_index("snapshots_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("snapshots_by_disk", ["disk_id", "kind", "state"], unique=False)
        batch_op.create_index("snapshots_by_instance_snapshot", ["instance_snapshot_id"], unique=False)
        batch_op.create_index("snapshots_by_operation", ["operation_id"], unique=False)
        batch_op.create_index("snapshots_by_point", ["point_key"], unique=False)
        batch_op.create_index("snapshots_of_disk_in_order", ["disk_id", "id"], unique=False)

    op.create_table(
        "disks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("attachment", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("task_operation_id", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_snapshot_id", sa.String(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.CheckConstraint("(attachment = 'DETACHED') = (instance_id = '')", name="attached_to_an_instance"),
        sa.CheckConstraint("(task = '') = (task_operation_id = '')", name="a_task_has_an_operation"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("disks", schema=None) as batch_op:
        batch_op.create_index("disks_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index("disks_by_instance", ["instance_id"], unique=False)
        batch_op.create_index("disks_by_source", ["source_snapshot_id", "task"], unique=False)
        batch_op.create_index("disks_by_task", ["task_operation_id"], unique=False)

    op.create_table(
        "reservations",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def downgrade() -> None:
    op.drop_table("reservations")
    with op.batch_alter_table("disks", schema=None) as batch_op:
        batch_op.drop_index("disks_by_task")
        batch_op.drop_index("disks_by_source")
        batch_op.drop_index("disks_by_instance")
        batch_op.drop_index("disks_by_account")

    op.drop_table("disks")
    with op.batch_alter_table("disk_snapshots", schema=None) as batch_op:
        batch_op.drop_index("snapshots_of_disk_in_order")
        batch_op.drop_index("snapshots_by_point")
        batch_op.drop_index("snapshots_by_operation")
        batch_op.drop_index("snapshots_by_instance_snapshot")
        batch_op.drop_index("snapshots_by_disk")
        batch_op.drop_index("snapshots_by_account")

    op.drop_table("disk_snapshots")
    op.drop_table("consistency_points")
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
        batch_op.drop_index("events_by_resource")
        batch_op.drop_index("events_by_operation")
        batch_op.drop_index("events_by_account")

    op.drop_table("events")
