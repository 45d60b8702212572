"""A thing has a size and a colour: SQLite makes the table anew for it, on which parts depend."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("things") as things:
        things.alter_column("size", existing_type=sa.String(), nullable=False)
        things.add_column(sa.Column("colour", sa.String(), nullable=False, server_default="grey"))


def downgrade() -> None:
    with op.batch_alter_table("things") as things:
        things.drop_column("colour")
        things.alter_column("size", existing_type=sa.String(), nullable=True)
