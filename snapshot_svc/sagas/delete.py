"""Delete: one call marks all members DELETING, or none; then they go together.

    reserve | → apply

spec.md: "Deleting an Instance Snapshot will simultaneously delete all associated System Disk Snapshots and Data Disk
Snapshots." It asks nothing of the account, the instance or its disks.
"""

from sqlalchemy.orm import Session

from snapshot_svc import repository
from snapshot_svc.clients import Disks
from snapshot_svc.states import State
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step


def definition(disks: Disks, deadline_seconds: float) -> SagaDefinition:
    def record_deleting(session: Session, run: Run) -> None:
        repository.change(session, run.resource_id, run.id, state=State.DELETING)

    def answer(_session: Session, run: Run) -> instance_snapshot_service_pb2.DeleteInstanceSnapshotResponse:
        return instance_snapshot_service_pb2.DeleteInstanceSnapshotResponse(operation_id=run.id)

    def record_gone(session: Session, run: Run) -> None:
        repository.remove(session, run.resource_id)

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        repository.change(session, run.resource_id, run.id, operation_id="")

    def abandoned(session: Session, run: Run, refusal: Refusal, step: str) -> None:
        """Past the pivot it cannot be used any more, and can be deleted again, with what members it still has."""
        if step == "apply":
            repository.rest_broken(session, run.resource_id, run.id, State.ERROR, refusal.message)
        else:
            failed(session, run, refusal)

    return SagaDefinition(
        kind="delete_instance_snapshot",
        steps=(
            Step(
                "reserve",
                do=disks.reserve_deletion,
                undo=disks.withdraw_deletion,
                record=record_deleting,
                answer=answer,
                pivot=True,
            ),
            Step("apply", do=disks.apply_deletion, record=record_gone),
        ),
        failed=failed,
        deadline_seconds=deadline_seconds,
        abandoned=abandoned,
    )
