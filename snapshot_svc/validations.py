"""`validate_only`: what the first steps of a saga would ask, asked in their order and refused in their words, as calls that
change nothing. There is no row, no operation and no event; the next moment may answer otherwise.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from snapshot_svc.clients import Disks, Instances, instance_of
from snapshot_svc.models import InstanceSnapshot, Member
from snapshot_svc.sagas import create, rollback
from snapshot_svc.service import SnapshotService, rollback_arguments
from svckit.caller import current_caller
from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.database import Database
from svckit.errors import DependencyUnavailable
from svckit.ids import new_id
from svckit.saga import Run

# For both services together. Unlike a saga, a validation holds one of the few threads while it waits.
_PATIENCE_SECONDS = 5.0

Answer = TypeVar("Answer")


class Validations:
    """Of the sagas that create and roll back."""

    def __init__(
        self, service: SnapshotService, database: Database, instances: Instances, disks: Disks, region: str
    ) -> None:
        self._service = service
        self._database = database
        self._instances = instances
        self._disks = disks
        self._region = region

    def create(
        self,
        *,
        instance_id: str,
        disk_id: str,
        name: str,
        description: str,
        labels: Mapping[str, str],
        expire_time: datetime | None,
    ) -> InstanceSnapshot:
        """The snapshot that there would be, as a row that is in no table."""
        self._service.check_expiry(expire_time)

        def ask(run: Run) -> InstanceSnapshot:
            if disk_id:
                run = replace(run, data=self._disks.locate(run))
            found = create.lease_instance(self._instances, self._disks, run, validate_only=True)
            return InstanceSnapshot(
                name=found["name"],
                description=description,
                labels=labels,
                account_id=run.account_id,
                region=self._region,
                instance_id=instance_of(run),
                expire_time=expire_time,
                members=[Member(**member) for member in self._disks.check_point(run)],
            )

        arguments = {"instance_id": instance_id, "disk_id": disk_id, "name": name}
        return self._ask(ask, "create_instance_snapshot", arguments)

    def roll_back(
        self, instance_snapshot_id: str, disk_ids: Collection[str]
    ) -> tuple[InstanceSnapshot, list[str]]:
        """The snapshot as it is, and the disks that would be left alone."""
        with self._database.read() as session:
            snapshot = self._service.check_roll_back(session, instance_snapshot_id)
        arguments = rollback_arguments(snapshot, disk_ids)

        def ask(run: Run) -> list[str]:
            rollback.lease_instance(self._instances, self._disks, run, validate_only=True)
            untouched: list[str] = self._disks.check_rollback(run)["untouched_disk_ids"]
            return untouched

        return snapshot, self._ask(ask, "rollback_instance_snapshot", arguments)

    def _ask(self, ask: Callable[[Run], Answer], kind: str, arguments: Mapping[str, Any]) -> Answer:
        # The id of an operation that is not: participants neither keep nor look up the key of what they only validate.
        run = Run(
            id=new_id("op-s"),
            kind=kind,
            account_id=current_caller().account_id,
            resource_id="",
            input=arguments,
            data={},
            deadline=utc_now() + timedelta(seconds=_PATIENCE_SECONDS),
        )
        try:
            return ask(run)
        except Unanswered as error:
            raise DependencyUnavailable(
                "", f"nothing was changed, and nothing is certain: {error}"
            ) from error
