"""The lease on an instance, at a moment that two operations hit only by chance."""

from contextvars import Context
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from compute_svc import repository
from compute_svc.errors import InstanceBusy
from compute_svc.migrations import SCHEMA
from compute_svc.models import Instance
from compute_svc.service import ComputeService
from compute_svc.states import InstanceState
from svckit.database import Database, table_of
from tests.support.databases import Databases

_INSTANCES = table_of(Instance)


def _prepare(url: str) -> None:
    database = Database(url, connections=1)
    SCHEMA.migrate(database)
    database.dispose()


def _overtaken(session: Session) -> None:
    """Before the session's next UPDATE of an instance, another operation takes every lease."""
    connection, taken = session.connection(), list[str]()

    def overtake(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE instances") and not taken:
            taken.append("op-s-first")
            connection.execute(sa.update(_INSTANCES).values(lease_operation_id="op-s-first"))

    sa.event.listen(connection, "before_cursor_execute", overtake)


def test_who_comes_second_to_a_lease_hears_who_was_first_in_whatever_account(databases: Databases):
    """A saga's step has no caller: it is the saga's account that the instance is looked up in."""
    service = ComputeService("here")
    with databases.fresh(_prepare) as url:
        database = Database(url, connections=1)
        with database.write() as session:
            repository.add_instance(
                session,
                id="i-1",
                name="web",
                description="",
                labels={},
                account_id="team-a",
                region="here",
                state=InstanceState.RUNNING,
                lease_operation_id="",
                system_disk_id="disk-1",
            )

        def lease() -> None:
            with database.write() as session:
                _overtaken(session)
                service.lease_instance(
                    session,
                    "op-c-second/lease",
                    "op-c-second",
                    "i-1",
                    account_id="team-a",
                    allowed=[InstanceState.RUNNING],
                    requires_good_standing=False,
                )

        with pytest.raises(InstanceBusy) as refusal:
            Context().run(lease)
        database.dispose()
    assert refusal.value.metadata["operation_id"] == "op-s-first"
