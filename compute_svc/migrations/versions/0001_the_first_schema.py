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
        "accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("lease_operation_id", sa.String(), nullable=False),
        sa.Column("lease_since", UtcDateTime(), nullable=True),
        sa.Column("rollback_incomplete", sa.Boolean(), nullable=False),
        sa.Column("system_disk_id", sa.String(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.create_index("instances_by_account", ["account_id", "id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_instances_lease_operation_id"), ["lease_operation_id"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instances_lease_operation_id"))
        batch_op.drop_index("instances_by_account")

    op.drop_table("instances")
    op.drop_table("accounts")
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
