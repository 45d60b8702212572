"""Roll back: lease the instance, reserve every disk, or those that were named; then apply to all of them in one
transaction of the block store.

    lease → reserve | → apply → release

spec.md: "Instance Snapshot rollback involves restoring the System Disk and all Data Disk snapshots associated with the
Instance Snapshot."

Everything that can refuse has refused before the pivot. Applying ends without having changed a disk only when bytes are
lost; then the snapshot is ERROR_ROLLBACK with the reason, and rolling all of it back again carries on; going back with
some members only leaves it so. It is never "undone" with another snapshot.
"""

from collections.abc import Mapping
from typing import Any

import grpc
from sqlalchemy.orm import Session

from snapshot_svc import convert, repository
from snapshot_svc.clients import Disks, Instances
from snapshot_svc.errors import DOMAIN
from snapshot_svc.service import SnapshotService
from snapshot_svc.states import State
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step
from svckit.saga.refusals import refuse_with_disks


def lease_instance(instances: Instances, disks: Disks, run: Run, *, validate_only: bool = False) -> None:
    """Refuses with everything that stands against it, on the disks too."""
    try:
        instances.lease_for_rollback(run, validate_only=validate_only)
    except Refusal as refusal:
        refuse_with_disks(refusal, disks.check_rollback, run, domain=DOMAIN)
        raise


def _record_end(session: Session, run: Run) -> None:
    lost = run.data.get("lost", "")
    repository.change(
        session,
        run.resource_id,
        run.id,
        state=State.ERROR_ROLLBACK if lost else run.input["state"],
        state_reason=lost or run.input["state_reason"],
        operation_id="",
    )


def _failed(session: Session, run: Run, _refusal: Refusal) -> None:
    repository.change(session, run.resource_id, run.id, operation_id="")


def _abandoned(session: Session, run: Run, refusal: Refusal, step: str) -> None:
    """Whether the disks have gone back, all or none, is not known here while they are asked to. With only the lease left to
    give back it is.
    """
    if step == "release":
        _record_end(session, run)
    elif step == "apply":
        repository.rest_broken(session, run.resource_id, run.id, State.ERROR_ROLLBACK, refusal.message)
    else:
        _failed(session, run, refusal)


def definition(
    service: SnapshotService, instances: Instances, disks: Disks, deadline_seconds: float
) -> SagaDefinition:
    def lease(run: Run) -> None:
        lease_instance(instances, disks, run)

    def record_rolling_back(session: Session, run: Run) -> None:
        repository.change(session, run.resource_id, run.id, state=State.ROLLING_BACK, state_reason="")

    def answer(session: Session, run: Run) -> instance_snapshot_service_pb2.RollbackInstanceSnapshotResponse:
        snapshot = service.get(session, run.resource_id, run.account_id)
        return instance_snapshot_service_pb2.RollbackInstanceSnapshotResponse(
            instance_snapshot=convert.instance_snapshot(snapshot),
            operation_id=run.id,
            untouched_disk_ids=run.data["untouched_disk_ids"],
        )

    def apply(run: Run) -> Mapping[str, Any]:
        try:
            disks.apply_rollback(run)
        except Refusal as refusal:
            if refusal.code != grpc.StatusCode.DATA_LOSS:
                raise
            return {"lost": refusal.message}  # no disk was changed, and trying again cannot help
        return {}

    def release(run: Run) -> None:
        if "lost" in run.data:
            disks.withdraw_rollback(run)
        instances.release_after_rollback(run, lost="lost" in run.data)

    return SagaDefinition(
        kind="rollback_instance_snapshot",
        steps=(
            Step("lease", do=lease, undo=instances.release),
            Step(
                "reserve",
                do=disks.reserve_rollback,
                undo=disks.withdraw_rollback,
                record=record_rolling_back,
                answer=answer,
                pivot=True,
            ),
            Step("apply", do=apply),
            Step("release", do=release, record=_record_end),
        ),
        failed=_failed,
        deadline_seconds=deadline_seconds,
        abandoned=_abandoned,
    )
