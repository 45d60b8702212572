"""Things and their parts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "things",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("size", sa.String(), nullable=True),
    )
    op.create_table(
        "parts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("thing_id", sa.String(), sa.ForeignKey("things.id", ondelete="CASCADE"), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("parts")
    op.drop_table("things")
