"""Idempotency: one row per `request_id` that was accepted, in the transaction that accepted it.

design.md §7: "the same again returns the first answer with one effect; with other arguments ALREADY_EXISTS /
REQUEST_ID_REUSED. […] A refusal at admission […] is not remembered."
"""

import hashlib
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.orm import Mapped, Session, mapped_column

from svckit.clock import utc_now
from svckit.database import UtcDateTime, insert_unless_exists, table_of
from svckit.errors import RequestIdReused
from svckit.tables import SharedTable


class AcceptedRequest(SharedTable):
    """A request that had its effect, and where its answer is: with its saga, or here."""

    __tablename__ = "requests"
    __table_args__ = (sa.Index("requests_by_operation", "operation_id"),)

    account_id: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    operation_id: Mapped[str]
    """Empty for a mutation that is not a saga."""
    answer: Mapped[bytes | None]
    """The serialized response of a mutation that is not a saga."""
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


_REQUESTS = table_of(AcceptedRequest)


def remember(
    session: Session, *, account_id: str, region: str, request: Message, operation_id: str
) -> AcceptedRequest | None:
    """Note that `request` is being accepted; returns the earlier row when it was accepted before, and None when this is
    the first time. Raises RequestIdReused for other arguments. Two at once on two replicas: the second waits for the
    first to commit, and gets its row.
    """
    request_id: str = getattr(request, "request_id").lower()  # noqa: B009 - every mutation's request has the field
    if not request_id:
        return None
    fingerprint = _fingerprint(request)
    identity = {
        "account_id": account_id,
        "region": region,
        "method": type(request).__name__,
        "request_id": request_id,
    }
    values: dict[str, Any] = {
        **identity,
        "fingerprint": fingerprint,
        "operation_id": operation_id,
        "answer": None,
        "create_time": utc_now(),
    }
    # In a loop, because a saga that was turned back may forget the row between our two statements.
    while not insert_unless_exists(session, _REQUESTS, values):
        earlier = session.scalar(sa.select(AcceptedRequest).filter_by(**identity))
        if earlier is None:
            continue
        if earlier.fingerprint != fingerprint:
            raise RequestIdReused(request_id)
        return earlier
    return None


def keep_answer(session: Session, *, account_id: str, region: str, request: Message, answer: bytes) -> None:
    """Keep the answer of a mutation that is not a saga."""
    request_id: str = getattr(request, "request_id").lower()  # noqa: B009 - as above
    session.execute(
        sa.update(_REQUESTS)
        .where(
            _REQUESTS.c.account_id == account_id,
            _REQUESTS.c.region == region,
            _REQUESTS.c.method == type(request).__name__,
            _REQUESTS.c.request_id == request_id,
        )
        .values(answer=answer)
    )


def forget(session: Session, operation_id: str) -> None:
    session.execute(sa.delete(_REQUESTS).where(_REQUESTS.c.operation_id == operation_id))


def _fingerprint(request: Message) -> str:
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("request_id")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()
