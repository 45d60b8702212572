"""What operations hold here: leases on instances."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from compute_svc import repository
from compute_svc.service import ComputeService
from svckit import barrier
from svckit.abandonment import Hold
from svckit.database import Database


class Leases:
    """svckit.abandonment.Holds. Every saga calls the step that leases `lease`; creating an instance has none, and holds the
    instance from the transaction that accepts it.
    """

    def __init__(self, service: ComputeService, database: Database, region: str) -> None:
        self._service = service
        self._database = database
        self._region = region

    def held_for(self, session: Session, operation_id: str) -> Sequence[Hold]:
        leased = repository.leased_by(session, operation_id, region=self._region)
        return [Hold("lease", instance.id, instance.account_id) for instance in leased]

    def forestall(self, session: Session, operation_id: str) -> None:
        barrier.forestall(session, _key(operation_id))

    def let_go(self, operation_id: str) -> None:
        """An instance stays in its state, which is for its own saga's end to change. That of a rollback may be started: its disks have all gone back or none has, which
        disk_svc sees to when it is asked.
        """
        with self._database.write() as session:
            for instance in repository.leased_by(session, operation_id, region=self._region):
                self._service.release_instance(session, _key(operation_id), operation_id, instance.id)


def _key(operation_id: str) -> str:
    return f"{operation_id}/lease"
