"""The participant's barrier: a step's call is safe to repeat, and its undo is safe against a call that comes late.

One row per key, written in the transaction that has the effect. `enter` says whether a call is the first with its key;
`withdraw` leaves a tombstone that refuses a call that arrives after its undo (design.md §6, law 5). When the two race,
the primary key decides: whoever inserts second waits for the first to commit and then sees what it did.
"""

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from svckit.clock import utc_now
from svckit.database import Database, UtcDateTime, insert_unless_exists, rows_changed, table_of
from svckit.errors import Refusal, StepWithdrawn
from svckit.tables import SharedTable


class KeyState(enum.StrEnum):
    DONE = "DONE"
    WITHDRAWN = "WITHDRAWN"


class ParticipantKey(SharedTable):
    """A step that took effect here, or must not any more. Kept longer than any saga lives."""

    __tablename__ = "participant_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[KeyState] = mapped_column(sa.String)
    result: Mapped[list[str]] = mapped_column(sa.JSON)
    """What the step must answer again when it is repeated."""
    time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


_KEYS = table_of(ParticipantKey)


def enter(session: Session, key: str) -> bool:
    """True when this is the first call with `key`, which then is DONE if the transaction commits; False when it was
    done before. Raises StepWithdrawn when it was undone.
    """
    if _insert(session, key, KeyState.DONE):
        return True
    state = session.scalar(sa.select(ParticipantKey.state).where(ParticipantKey.key == key))
    if state == KeyState.WITHDRAWN:
        raise StepWithdrawn(key)
    return False


@contextmanager
def refusal_is_final(database: Database, key: str) -> Iterator[None]:
    """For a step that has no undo: once it is refused, no call with its key may take effect any more.

    The saga takes the refusal for an end, while an earlier try, of which it has no answer, may still be on its way: it must
    not find the way free later. Where that try has taken effect by now, the step is done, and the refusal is dropped.
    """
    try:
        yield
    except StepWithdrawn:
        raise
    except Refusal:
        with database.write() as session:
            done = forestall(session, key)
        if not done:
            raise


def forestall(session: Session, key: str) -> bool:
    """Refuse the step from now on unless it has been done; True when it has been, and what it did is left as it is."""
    if _insert(session, key, KeyState.WITHDRAWN):
        return False
    state = session.scalar(sa.select(ParticipantKey.state).where(ParticipantKey.key == key))
    return state == KeyState.DONE


def refuse_withdrawn(session: Session, key: str) -> None:
    """Raises StepWithdrawn when the step with this key was undone."""
    withdrawn = sa.select(ParticipantKey.key).where(
        ParticipantKey.key == key, ParticipantKey.state == KeyState.WITHDRAWN
    )
    if session.scalar(withdrawn) is not None:
        raise StepWithdrawn(key)


def keep_result(session: Session, key: str, result: Sequence[str]) -> None:
    """Keep what a repetition of the step must answer, in the transaction that has the effect."""
    session.execute(sa.update(_KEYS).where(_KEYS.c.key == key).values(result=list(result)))


def kept_result(session: Session, key: str) -> list[str]:
    """Of a step that has been done; nothing of one that was withdrawn before."""
    return session.scalars(sa.select(ParticipantKey.result).where(ParticipantKey.key == key)).one()


def withdraw(session: Session, key: str) -> bool:
    """Leave the tombstone; True when the step had been done and its effect must be undone in this transaction."""
    if _insert(session, key, KeyState.WITHDRAWN):
        return False
    changed = session.execute(
        sa.update(_KEYS)
        .where(_KEYS.c.key == key, _KEYS.c.state == KeyState.DONE)
        .values(state=KeyState.WITHDRAWN, time=utc_now())
    )
    return rows_changed(changed) == 1


def _insert(session: Session, key: str, state: KeyState) -> bool:
    return insert_unless_exists(session, _KEYS, {"key": key, "state": state, "result": [], "time": utc_now()})
