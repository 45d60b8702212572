"""What Alembic runs: in the transaction that its caller holds."""

from typing import Any, Literal

from alembic import context

from svckit.database import UtcDateTime

connection = context.config.attributes["connection"]
metadata = context.config.attributes["metadata"]


def render(kind: str, item: object, _autogen: Any) -> str | Literal[False]:
    """In a revision, our own type is called by its name."""
    return "UtcDateTime()" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=connection,
    target_metadata=metadata,
    render_item=render,
    # SQLite changes a column by making the table anew.
    render_as_batch=True,
)
context.run_migrations()
