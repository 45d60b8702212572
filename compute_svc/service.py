"""The use cases of compute_svc. Each runs in a transaction that its caller holds, and refuses by raising."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from compute_svc import repository
from compute_svc.errors import (
    DOMAIN,
    AccountInDebt,
    AccountNotFound,
    InstanceBusy,
    InstanceInState,
    InstanceNotFound,
    RollbackIncomplete,
)
from compute_svc.models import Instance
from compute_svc.states import (
    STARTABLE,
    STOPPABLE,
    InstanceState,
    Standing,
)
from svckit import barrier
from svckit.auth.roles import Role
from svckit.caller import current_caller
from svckit.errors import Refusal, refuse_all
from svckit.ids import new_id
from svckit.mutations import SagaStart

_LONGEST_NAME = 65


@dataclass(frozen=True, slots=True)
class NewDisk:
    """A disk to make with its instance; `size_bytes` 0 means the size of `source_snapshot_id`."""

    name: str
    size_bytes: int
    source_snapshot_id: str


class ComputeService:
    """Instances and accounts of one region."""

    def __init__(self, region: str) -> None:
        self._region = region

    # Instances

    def get_instance(self, session: Session, instance_id: str, account_id: str | None = None) -> Instance:
        instance = repository.find_instance(
            session,
            account_id=account_id or current_caller().account_id,
            region=self._region,
            instance_id=instance_id,
        )
        if instance is None:
            raise InstanceNotFound(instance_id)
        return instance

    def create_instance(
        self,
        session: Session,
        operation_id: str,
        *,
        name: str,
        description: str,
        labels: Mapping[str, str],
        system_disk: NewDisk,
        data_disks: Sequence[NewDisk],
    ) -> SagaStart:
        instance_id = new_id("i")
        disks = [
            {
                "disk_id": new_id("disk"),
                "name": disk.name or f"{name[: _LONGEST_NAME - 1 - len(label)]}-{label}",
                "role": role,
                "size_bytes": disk.size_bytes,
                "source_snapshot_id": disk.source_snapshot_id,
            }
            for disk, label, role in [
                (system_disk, "system", "SYSTEM"),
                *((disk, f"data-{number}", "DATA") for number, disk in enumerate(data_disks, 1)),
            ]
        ]
        repository.add_instance(
            session,
            id=instance_id,
            name=name,
            description=description,
            labels=labels,
            account_id=current_caller().account_id,
            region=self._region,
            state=InstanceState.CREATING,
            lease_operation_id=operation_id,
            system_disk_id=disks[0]["disk_id"],
        )
        return SagaStart("create_instance", instance_id, {"disks": disks})

    def update_instance(self, session: Session, instance_id: str, changes: Mapping[str, Any]) -> Instance:
        """What it is called and labelled: allowed in every state, because nothing depends on it."""
        if not repository.describe_instance(
            session,
            account_id=current_caller().account_id,
            region=self._region,
            instance_id=instance_id,
            changes=changes,
        ):
            raise InstanceNotFound(instance_id)
        return self.get_instance(session, instance_id)

    def start_instance(self, session: Session, instance_id: str) -> Instance:
        self.get_instance(session, instance_id)
        if not repository.start_free_instance(session, instance_id):
            raise self._why_not(session, instance_id, STARTABLE, rolled_back_whole=True)
        return self.get_instance(session, instance_id)

    def stop_instance(self, session: Session, instance_id: str, *, no_charge: bool) -> Instance:
        state = InstanceState.STOPPED_NO_CHARGE if no_charge else InstanceState.STOPPED
        self.get_instance(session, instance_id)
        if not repository.change_free_instance(session, instance_id, allowed=STOPPABLE, state=state):
            raise self._why_not(session, instance_id, STOPPABLE)
        return self.get_instance(session, instance_id)

    # What follows changes nothing here: the saga takes the lease, and asks the disks too when it cannot.

    def delete_instance(self, session: Session, instance_id: str) -> SagaStart:
        self.get_instance(session, instance_id)
        return SagaStart("delete_instance", instance_id, {})

    def attach_disk(self, session: Session, instance_id: str, disk_id: str) -> SagaStart:
        self.get_instance(session, instance_id)
        return SagaStart("attach_disk", instance_id, {"disk_id": disk_id})

    def detach_disk(self, session: Session, instance_id: str, disk_id: str) -> SagaStart:
        self.get_instance(session, instance_id)
        return SagaStart("detach_disk", instance_id, {"disk_id": disk_id})

    def roll_back_disk(self, session: Session, instance_id: str, disk_id: str, snapshot_id: str) -> SagaStart:
        """spec.md: "System Disk snapshots and Data Disk snapshots associated with an Instance Snapshot can be rolled back
        independently."
        """
        self.get_instance(session, instance_id)
        return SagaStart("rollback_disk", instance_id, {"disk_id": disk_id, "snapshot_id": snapshot_id})

    def _why_not(
        self,
        session: Session,
        instance_id: str,
        allowed: Collection[InstanceState],
        *,
        account_id: str | None = None,
        rolled_back_whole: bool = False,
    ) -> Refusal:
        """The refusal after a conditional UPDATE found no row: every reason that holds now."""
        instance = self.get_instance(session, instance_id, account_id)
        obstacles = _obstacles(instance, allowed)
        if rolled_back_whole and instance.rollback_incomplete:
            obstacles.append(RollbackIncomplete(instance_id))
        try:
            refuse_all(obstacles, DOMAIN)
        except Refusal as refusal:
            return refusal
        # It was in the way a moment ago and is not any more.
        return InstanceBusy(instance_id, instance.lease_operation_id or "that has just ended")

    # Accounts

    def standing_of(self, session: Session, account_id: str) -> Standing:
        """Of the caller's own account; of any for an admin."""
        caller = current_caller()
        if account_id != caller.account_id and not caller.may(Role.ADMIN):
            raise AccountNotFound(account_id)
        return repository.standing_of(session, account_id)

    # The lease, as a participant

    def check_lease(
        self,
        session: Session,
        instance_id: str,
        *,
        account_id: str,
        allowed: Collection[InstanceState],
        requires_good_standing: bool,
    ) -> Instance:
        """Refuse with everything that stands against a lease; change nothing.

        spec.md: "When your account is in debt status, Instance Snapshot creation is not permitted", and "If the Cloud Disk
        Server/Baidu Cloud Compute instance is not in these states (e.g., corresponding disk deleted, disk undergoing
        resize/expansion, account in debt), an Instance Snapshot rollback cannot be performed."
        """
        refusals: list[Refusal] = []
        if requires_good_standing and repository.standing_of(session, account_id) == Standing.IN_DEBT:
            refusals.append(AccountInDebt(account_id))
        try:
            instance = self.get_instance(session, instance_id, account_id)
        except InstanceNotFound as gone:
            refuse_all([*refusals, gone], DOMAIN)
            raise
        refuse_all([*refusals, *_obstacles(instance, allowed)], DOMAIN)
        return instance

    def lease_instance(
        self,
        session: Session,
        key: str,
        operation_id: str,
        instance_id: str,
        *,
        account_id: str,
        allowed: Collection[InstanceState],
        requires_good_standing: bool,
    ) -> Instance:
        """Take the lease. Idempotent by `key`; a lease never expires by time (design.md §6, law 10)."""
        if barrier.enter(session, key):
            self.check_lease(
                session,
                instance_id,
                account_id=account_id,
                allowed=allowed,
                requires_good_standing=requires_good_standing,
            )
            if not repository.lease_free_instance(session, instance_id, operation_id, allowed=allowed):
                raise self._why_not(session, instance_id, allowed, account_id=account_id)
        return self.get_instance(session, instance_id, account_id)

    def release_instance(
        self,
        session: Session,
        key: str,
        operation_id: str,
        instance_id: str,
        **changes: Any,
    ) -> None:
        """Give the lease back and change the instance with it, and refuse a lease with `key` that comes after this."""
        barrier.withdraw(session, key)
        repository.release_lease(session, instance_id, operation_id, **changes)


def _obstacles(instance: Instance, allowed: Collection[InstanceState]) -> list[Refusal]:
    refusals: list[Refusal] = []
    if instance.lease_operation_id:
        refusals.append(InstanceBusy(instance.id, instance.lease_operation_id))
    if instance.state not in allowed:
        refusals.append(InstanceInState(instance.id, instance.state, list(allowed)))
    return refusals
