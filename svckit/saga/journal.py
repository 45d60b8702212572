"""The saga's rows: one per saga, and the service's one append-only log of events. Nothing here decides; every write is
one conditional UPDATE fenced by the owner token of the latest claim, so a worker that lost its claim changes nothing.
"""

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from svckit import paging
from svckit.clock import utc_now
from svckit.database import UtcDateTime, rows_changed, table_of
from svckit.saga.definition import Run
from svckit.tables import SharedTable


class SagaState(enum.StrEnum):
    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


UNFINISHED = (SagaState.RUNNING, SagaState.COMPENSATING)


class Saga(SharedTable):
    """A saga. `due_at` is start timer, backoff and lease in one (design.md §6, law 7); absent when it is at rest."""

    __tablename__ = "sagas"
    __table_args__ = (
        # Small for ever: only sagas that have not come to rest are in it.
        sa.Index(
            "sagas_due",
            "due_at",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        ),
        sa.Index("sagas_by_account", "account_id", "id"),
        sa.Index("sagas_by_resource", "resource_id", "id"),
        # A saga that has ended is never taken up again, and one that has not is never forgotten.
        sa.CheckConstraint(
            "(state IN ('SUCCEEDED', 'FAILED', 'ABANDONED')) = (due_at IS NULL)", name="due_until_at_rest"
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    actor: Mapped[str]
    resource_id: Mapped[str]
    state: Mapped[SagaState] = mapped_column(sa.String)
    step: Mapped[int]
    """Index of the step that runs, or is being undone."""
    past_pivot: Mapped[bool]
    attempts: Mapped[int]
    """Tries of the current step that had no definite answer."""
    input: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    answer: Mapped[bytes | None]
    """The serialized response, from the commit of the answering step on."""
    error: Mapped[bytes | None]
    """The google.rpc.Status of the refusal that turned it back, or of its abandonment."""
    last_error: Mapped[str]
    """The latest unknown outcome, for whoever wonders why it is not done yet."""
    deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    owner: Mapped[str]
    """Token of the latest claim."""
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    update_time: Mapped[datetime] = mapped_column(UtcDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime)

    def run(self, data: Mapping[str, Any] | None = None) -> Run:
        merged = {**self.data, **(data or {})}
        return Run(self.id, self.kind, self.account_id, self.resource_id, self.input, merged, self.deadline)


class Event(SharedTable):
    """One line of the service's append-only log: a mutation, or a step of a saga (design.md §6, law 8)."""

    __tablename__ = "events"
    __table_args__ = (
        sa.Index("events_by_operation", "operation_id", "sequence"),
        sa.Index("events_by_resource", "resource_id", "time", "sequence"),
        sa.Index("events_by_account", "account_id", "time", "sequence"),
        sa.Index("events_by_type", "account_id", "type", "time", "sequence"),
        sa.Index("events_by_actor", "account_id", "actor", "time", "sequence"),
    )

    sequence: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    account_id: Mapped[str]
    region: Mapped[str]
    actor: Mapped[str]
    type: Mapped[str]
    """The mutation's or the saga's name."""
    step: Mapped[str]
    """Empty for a mutation."""
    undo: Mapped[bool]
    attempt: Mapped[int]
    resource_id: Mapped[str]
    operation_id: Mapped[str]
    detail: Mapped[str]


UNDO = "undo "
"""Before the step's name in the type of an event that says it was undone."""

_SAGAS = table_of(Saga)
_EVENTS = table_of(Event)
_IDS_AT_ONCE = 500


class Fenced(Exception):
    """Another worker has claimed the saga: whatever this one knows is out of date."""


def add_saga(session: Session, values: Mapping[str, Any]) -> None:
    session.execute(sa.insert(_SAGAS), values)


def add_event(
    session: Session,
    *,
    account_id: str,
    region: str,
    actor: str,
    type: str,  # noqa: A002 - the column's name
    resource_id: str,
    operation_id: str = "",
    step: str = "",
    undo: bool = False,
    attempt: int = 1,
    detail: str = "",
) -> None:
    session.execute(
        sa.insert(_EVENTS),
        {
            "time": utc_now(),
            "account_id": account_id,
            "region": region,
            "actor": actor,
            "type": type,
            "step": step,
            "undo": undo,
            "attempt": attempt,
            "resource_id": resource_id,
            "operation_id": operation_id,
            "detail": detail,
        },
    )


def update_claimed(session: Session, saga: Saga, values: Mapping[str, Any]) -> None:
    """Write to a saga under its claim; raises Fenced when the claim is another's by now."""
    done = session.execute(sa.update(_SAGAS).where(_is_held(saga.id, saga.owner)).values(**values))
    if rows_changed(done) != 1:
        raise Fenced(saga.id)


def claim_due(
    session: Session, *, region: str, owner: str, now: datetime, until: datetime, limit: int
) -> Sequence[Saga]:
    """Claim up to `limit` sagas that are due: start, retry and crash recovery are this one path.

    Two replicas never get the same one: PostgreSQL skips rows that another claim has locked, SQLite has one writer.
    """
    due = (
        sa.select(_SAGAS.c.id)
        .where(_SAGAS.c.due_at <= now, _SAGAS.c.region == region)
        .order_by(_SAGAS.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = session.scalars(
        sa.update(_SAGAS).where(_SAGAS.c.id.in_(due)).values(owner=owner, due_at=until).returning(_SAGAS.c.id)
    ).all()
    if not claimed:
        return []
    return session.scalars(sa.select(Saga).where(Saga.id.in_(claimed)).order_by(Saga.id)).all()


def renew(session: Session, *, claims: Sequence[tuple[str, str]], until: datetime) -> None:
    """Keep the claims, (saga id, owner token) each, of steps that run long."""
    for saga_id, owner in claims:
        session.execute(sa.update(_SAGAS).where(_is_held(saga_id, owner)).values(due_at=until))


def _is_held(saga_id: str, owner: str) -> sa.ColumnElement[bool]:
    """An empty token is nobody's claim. A renewal that read the token of a saga as its worker let go of it would
    otherwise match every saga at rest, make it due, and have it undone.
    """
    return sa.and_(_SAGAS.c.id == saga_id, _SAGAS.c.owner == owner, _SAGAS.c.owner != "")


def make_due(session: Session, saga_id: str, now: datetime) -> bool:
    """Make a saga that waits for its next try due now; False when it has come to rest. One that a worker holds is left
    to it: its claim is in the future because it is at work.
    """
    session.execute(
        sa.update(_SAGAS)
        .where(_SAGAS.c.id == saga_id, _SAGAS.c.owner == "", _SAGAS.c.due_at.is_not(None))
        .values(due_at=now)
    )
    unfinished = sa.select(Saga.id).where(Saga.id == saga_id, Saga.due_at.is_not(None))
    return session.scalar(unfinished) is not None


def take(session: Session, saga_id: str, *, region: str, owner: str, until: datetime) -> Saga | None:
    """Claim a saga whoever holds it: from now on its worker is fenced. None when it has come to rest."""
    taken = session.execute(
        sa.update(_SAGAS)
        .where(_SAGAS.c.id == saga_id, _SAGAS.c.region == region, _SAGAS.c.due_at.is_not(None))
        .values(owner=owner, due_at=until)
    )
    return find(session, saga_id, region=region) if rows_changed(taken) else None


def unfinished_of(session: Session, actor: str, *, region: str) -> Sequence[str]:
    """The sagas that this actor asked for and that have not come to rest."""
    query = sa.select(Saga.id).where(Saga.due_at.is_not(None), Saga.actor == actor, Saga.region == region)
    return session.scalars(query).all()


def next_due(session: Session, region: str) -> datetime | None:
    return session.scalar(
        sa.select(Saga.due_at)
        .where(Saga.due_at.is_not(None), Saga.region == region)
        .order_by(Saga.due_at)
        .limit(1)
    )


def count_unfinished(session: Session, region: str) -> Sequence[sa.Row[str, SagaState, int, datetime, int]]:
    """Rows of kind, state, unfinished, oldest and retrying: how many, since when the oldest, and how many of them have tried
    their step before. Costs what is unfinished, not what there is.
    """
    query = (
        sa.select(
            Saga.kind,
            Saga.state,
            sa.func.count().label("unfinished"),
            sa.func.min(Saga.create_time).label("oldest"),
            sa.func.count(sa.case((Saga.attempts > 0, 1))).label("retrying"),
        )
        .where(Saga.due_at.is_not(None), Saga.region == region)
        .group_by(Saga.kind, Saga.state)
    )
    return [*session.execute(query)]


def count_up_to(session: Session, most: int, *, region: str) -> int:
    """How many are unfinished; no more than `most` are counted."""
    some = sa.select(Saga.id).where(Saga.due_at.is_not(None), Saga.region == region).limit(most)
    return session.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0


def find(session: Session, saga_id: str, *, region: str) -> Saga | None:
    return session.scalar(sa.select(Saga).where(Saga.id == saga_id, Saga.region == region))


def update_times(session: Session, saga_ids: Sequence[str]) -> dict[str, datetime]:
    """When each of these sagas was written last; what is not there is left out."""
    found: dict[str, datetime] = {}
    # In pieces that every driver takes: each id is a parameter.
    for at in range(0, len(saga_ids), _IDS_AT_ONCE):
        query = sa.select(Saga.id, Saga.update_time).where(Saga.id.in_(saga_ids[at : at + _IDS_AT_ONCE]))
        found |= {row.id: row.update_time for row in session.execute(query)}
    return found


def list_events(
    session: Session,
    page: paging.Page,
    *,
    account_id: str,
    region: str,
    resource_id: str,
    operation_id: str,
    type: str,  # noqa: A002 - the column's name
    actor: str,
    time_from: datetime | None,
    time_before: datetime | None,
) -> tuple[Sequence[Event], str]:
    """Whichever index serves a filter, it is in the order of the page; only one operation's events, which are few, are
    sorted. An id is of one account: there the account is compared as an expression, because SQLite, which knows nothing
    of how many events an account has, would rather walk all of those than the few of the id.
    """
    account = Event.account_id + "" if resource_id or operation_id else Event.account_id
    query = sa.select(Event).where(account == account_id, Event.region == region)
    if resource_id:
        query = query.where(Event.resource_id == resource_id)
    if operation_id:
        query = query.where(Event.operation_id == operation_id)
    if type:
        name, slash, step = type.partition("/")
        query = query.where(Event.type == name)
        if slash:
            undone = step.removeprefix(UNDO)
            query = query.where(Event.step == undone, Event.undo == (undone != step))
    if actor:
        query = query.where(Event.actor == actor)
    if time_from:
        query = query.where(Event.time >= time_from)
    if time_before:
        query = query.where(Event.time < time_before)
    return paging.fetch_by_time(session, query, Event.time, Event.sequence, page)


def steps_of(session: Session, saga_id: str) -> Sequence[Event]:
    return session.scalars(
        sa.select(Event).where(Event.operation_id == saga_id).order_by(Event.sequence)
    ).all()
