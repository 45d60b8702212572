"""What only goes forward."""

from sqlalchemy.orm import Session

from svckit.errors import Refusal
from svckit.saga import Run


def cannot_fail(_session: Session, run: Run, refusal: Refusal) -> None:
    """The store refuses no deletion."""
    raise AssertionError(f"{run.kind} was refused: {refusal.message}")


def carried_out(_session: Session, _run: Run, _refusal: Refusal, _step: str) -> None:
    """When it is abandoned: what was to be deleted has been by then (HeldHere.let_go)."""
