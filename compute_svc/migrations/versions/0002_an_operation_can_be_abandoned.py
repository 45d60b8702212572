"""An operation can be abandoned: that is a third way for a saga to be at rest."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _may_rest_in(*states: str) -> None:
    condition = f"(state IN ({', '.join(repr(state) for state in states)})) = (due_at IS NULL)"
    with op.batch_alter_table("sagas") as sagas:
        sagas.drop_constraint("due_until_at_rest", type_="check")
        sagas.create_check_constraint("due_until_at_rest", sa.text(condition))


def upgrade() -> None:
    _may_rest_in("SUCCEEDED", "FAILED", "ABANDONED")


def downgrade() -> None:
    # What the older version makes of one: it has ended without having done what it was asked for.
    op.execute("UPDATE sagas SET state = 'FAILED' WHERE state = 'ABANDONED'")
    _may_rest_in("SUCCEEDED", "FAILED")
