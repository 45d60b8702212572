"""Named queries on compute_svc's tables. Every change of state is one conditional UPDATE; its row count decides."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from compute_svc.models import Account, Instance
from compute_svc.states import STARTABLE, InstanceState, Standing
from svckit import paging
from svckit.clock import utc_now
from svckit.database import insert_unless_exists, rows_changed, table_of
from svckit.narrowing import Narrowing

_INSTANCES = table_of(Instance)
_ACCOUNTS = table_of(Account)


def add_instance(session: Session, **values: Any) -> None:
    now = utc_now()
    session.execute(
        sa.insert(_INSTANCES),
        {"lease_since": now, "rollback_incomplete": False, "create_time": now, "update_time": now, **values},
    )


def find_instance(session: Session, *, account_id: str, region: str, instance_id: str) -> Instance | None:
    return session.scalar(
        sa.select(Instance).where(
            Instance.id == instance_id, Instance.account_id == account_id, Instance.region == region
        )
    )


def list_instances(
    session: Session,
    page: paging.Page,
    *,
    account_id: str,
    region: str,
    state: str,
    narrowing: Narrowing,
) -> tuple[Sequence[Instance], str]:
    query = sa.select(Instance).where(Instance.account_id == account_id, Instance.region == region)
    if state:
        query = query.where(Instance.state == state)
    return paging.fetch(session, narrowing.apply(query, Instance), Instance.id, page)


def describe_instance(
    session: Session, *, account_id: str, region: str, instance_id: str, changes: Mapping[str, Any]
) -> bool:
    """Change what an instance is called and labelled, in whatever state; False when it is not there."""
    done = session.execute(
        sa.update(_INSTANCES)
        .where(
            _INSTANCES.c.id == instance_id,
            _INSTANCES.c.account_id == account_id,
            _INSTANCES.c.region == region,
        )
        .values(update_time=utc_now(), **changes)
    )
    return rows_changed(done) == 1


def change_free_instance(
    session: Session, instance_id: str, *, allowed: Collection[InstanceState], **values: Any
) -> bool:
    """Change an instance that is in one of the allowed states and that no operation holds."""
    done = session.execute(
        sa.update(_INSTANCES)
        .where(
            _INSTANCES.c.id == instance_id,
            _INSTANCES.c.state.in_(allowed),
            _INSTANCES.c.lease_operation_id == "",
        )
        .values(update_time=utc_now(), **values)
    )
    return rows_changed(done) == 1


def start_free_instance(session: Session, instance_id: str) -> bool:
    """Start an instance that is stopped, that no operation holds, and whose last rollback of all disks ended whole."""
    done = session.execute(
        sa.update(_INSTANCES)
        .where(
            _INSTANCES.c.id == instance_id,
            _INSTANCES.c.state.in_(STARTABLE),
            _INSTANCES.c.lease_operation_id == "",
            _INSTANCES.c.rollback_incomplete.is_(sa.false()),
        )
        .values(state=InstanceState.RUNNING, update_time=utc_now())
    )
    return rows_changed(done) == 1


def lease_free_instance(
    session: Session,
    instance_id: str,
    operation_id: str,
    *,
    allowed: Collection[InstanceState],
    **values: Any,
) -> bool:
    """Give an operation the lease on an instance that is in one of the allowed states and that no other holds."""
    return change_free_instance(
        session,
        instance_id,
        allowed=allowed,
        lease_operation_id=operation_id,
        lease_since=utc_now(),
        **values,
    )


def change_leased_instance(session: Session, instance_id: str, operation_id: str, **values: Any) -> None:
    """Change an instance that an operation holds; nothing happens when it does not hold it."""
    session.execute(
        sa.update(_INSTANCES)
        .where(_INSTANCES.c.id == instance_id, _INSTANCES.c.lease_operation_id == operation_id)
        .values(update_time=utc_now(), **values)
    )


def release_lease(session: Session, instance_id: str, operation_id: str, **values: Any) -> None:
    """End an operation's lease and change the instance with it."""
    change_leased_instance(
        session, instance_id, operation_id, lease_operation_id="", lease_since=None, **values
    )


def give_instance_up(session: Session, instance_id: str) -> None:
    """One that was being made or deleted rests in ERROR; one at rest stays as it is."""
    session.execute(
        sa.update(_INSTANCES)
        .where(
            _INSTANCES.c.id == instance_id,
            _INSTANCES.c.state.in_([InstanceState.CREATING, InstanceState.DELETING]),
        )
        .values(state=InstanceState.ERROR, update_time=utc_now())
    )


def remove_instance(session: Session, instance_id: str) -> None:
    session.execute(sa.delete(_INSTANCES).where(_INSTANCES.c.id == instance_id))


def list_leased(session: Session, page: paging.Page, *, region: str) -> tuple[Sequence[Instance], str]:
    query = sa.select(Instance).where(Instance.lease_operation_id != "", Instance.region == region)
    return paging.fetch(session, query, Instance.id, page)


def leased_by(session: Session, operation_id: str, *, region: str) -> Sequence[Instance]:
    query = sa.select(Instance).where(Instance.lease_operation_id == operation_id, Instance.region == region)
    return session.scalars(query.order_by(Instance.id)).all()


def standing_of(session: Session, account_id: str) -> Standing:
    return session.scalar(sa.select(Account.standing).where(Account.id == account_id)) or Standing.GOOD


def set_standing(session: Session, account_id: str, standing: Standing) -> None:
    values = {"id": account_id, "standing": standing, "update_time": utc_now()}
    if not insert_unless_exists(session, _ACCOUNTS, values):
        session.execute(sa.update(_ACCOUNTS).where(_ACCOUNTS.c.id == account_id).values(**values))
