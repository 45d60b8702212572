"""What operations of another region hold here: instance snapshots that are being received."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from snapshot_svc import repository
from snapshot_svc.imports import Imports
from svckit import barrier
from svckit.abandonment import Hold
from svckit.database import Database


class Received:
    """svckit.abandonment.Holds. What this region's own operations work on gets its state when they end."""

    def __init__(self, imports: Imports, database: Database, region: str) -> None:
        self._imports = imports
        self._database = database
        self._region = region

    def held_for(self, session: Session, operation_id: str) -> Sequence[Hold]:
        received = repository.received_for(session, operation_id, region=self._region)
        return [Hold("instance snapshot", snapshot.id, snapshot.account_id) for snapshot in received]

    def forestall(self, session: Session, operation_id: str) -> None:
        barrier.forestall(session, _key(operation_id))

    def let_go(self, operation_id: str) -> None:
        with self._database.write() as session:
            for snapshot in repository.received_for(session, operation_id, region=self._region):
                self._imports.give_up(session, _key(operation_id), snapshot.id)


def _key(operation_id: str) -> str:
    return f"{operation_id}/begin"
