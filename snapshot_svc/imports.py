"""Receiving an instance snapshot from another region: rows only, its bytes go from disk_svc to disk_svc.

The other region leads, in a saga of its own, and every call may come again. `key` is the one of its BeginImport step: an
import that was undone stays undone, whatever comes late (svckit.barrier).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc import repository
from svckit import barrier


class Imports:
    """Use cases on what one region receives."""

    def __init__(self, region: str) -> None:
        self._region = region

    def begin(
        self, session: Session, key: str, *, values: Mapping[str, Any], members: Sequence[Mapping[str, Any]]
    ) -> None:
        """It is listed as CREATING, with the members that are to come."""
        if barrier.enter(session, key):
            repository.add(session, region=self._region, **values)
            repository.add_members(session, values["id"], members)

    def finish(self, session: Session, key: str, instance_snapshot_id: str) -> None:
        """All its members are AVAILABLE by now."""
        barrier.refuse_withdrawn(session, key)
        repository.finish_import(session, instance_snapshot_id)

    def withdraw(self, session: Session, key: str, instance_snapshot_id: str) -> None:
        """What was finished is not undone. The key may have been forgotten: a copy may take longer than keys are kept."""
        barrier.withdraw(session, key)
        repository.remove_received(session, instance_snapshot_id)

    def give_up(self, session: Session, key: str, instance_snapshot_id: str) -> None:
        """Nobody sends it any more, nor withdraws it. It does not go: members that have arrived whole name it, and go when it
        is deleted.
        """
        barrier.withdraw(session, key)
        repository.give_received_up(
            session,
            instance_snapshot_id,
            "the operation of the other region that copied it was abandoned here",
        )
