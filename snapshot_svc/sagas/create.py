"""Create: lease the instance, fix the moment, seal each disk's snapshot; then, and only then, it exists.

    lease → cut → seal | → finish → release
    locate → lease → cut → …                   when a disk was named: of the instance that it is on

spec.md: "When creating a snapshot for a disk, you can choose whether to create an Instance Snapshot for the BCC instance
containing the disk. You can also directly initiate Instance Snapshot creation for a specific Baidu Cloud Compute instance."

The client has its answer when `cut` is recorded: the moment is fixed. When sealing one disk fails after that, the undo of
`cut` deletes every disk snapshot, and the instance snapshot rests in ERROR with the reason, without members and without
slots. A refusal before the moment leaves nothing.

It is marked AVAILABLE by the commit that ends `release`, not before: whoever sees it AVAILABLE can roll back to it at
once, without meeting its own creation's lease.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc import convert, repository
from snapshot_svc.clients import Disks, Instances
from snapshot_svc.errors import DOMAIN
from snapshot_svc.service import SnapshotService
from snapshot_svc.states import State
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from svckit.clock import utc_now
from svckit.errors import DependencyUnavailable, Refusal
from svckit.saga import Run, SagaDefinition, Step
from svckit.saga.refusals import refuse_with_disks

_LONGEST_INSTANCE_NAME = 48  # leaves room for the time in 65 characters


def lease_instance(
    instances: Instances, disks: Disks, run: Run, *, validate_only: bool = False
) -> Mapping[str, Any]:
    """Returns `name`, the snapshot's. Refuses with everything that stands against it, on the disks too."""
    try:
        instance_name = instances.lease_for_snapshot(run, validate_only=validate_only)
    except Refusal as refusal:
        if any(violation.type == "INSTANCE_NOT_FOUND" for violation in refusal.preconditions):
            raise  # nothing is on it
        refuse_with_disks(refusal, disks.check_point, run, domain=DOMAIN)
        raise
    stamp = utc_now().strftime("%Y%m%dT%H%M%SZ")
    return {"name": run.input["name"] or f"{instance_name[:_LONGEST_INSTANCE_NAME]}-{stamp}"}


def _record_available(session: Session, run: Run) -> None:
    repository.change(session, run.resource_id, run.id, state=State.AVAILABLE, operation_id="")


def _failed(session: Session, run: Run, refusal: Refusal) -> None:
    if "cut_time" not in run.data:
        repository.remove(session, run.resource_id)
        return
    repository.remove_members(session, run.resource_id)
    repository.rest_broken(session, run.resource_id, run.id, State.ERROR, refusal.message)


def _abandoned(session: Session, run: Run, refusal: Refusal, step: str) -> None:
    """Past the pivot its members may be there, so it goes on naming them: they go when it is deleted. With only the lease
    left to give back it is whole.
    """
    if step == "release":
        _record_available(session, run)
    elif step == "finish":
        repository.rest_broken(session, run.resource_id, run.id, State.ERROR, refusal.message)
    else:
        _failed(session, run, refusal)


def definitions(
    service: SnapshotService, instances: Instances, disks: Disks, deadline_seconds: float
) -> list[SagaDefinition]:
    """Of an instance, and of the one that a disk is on."""

    def record_located(session: Session, run: Run) -> None:
        repository.change(session, run.resource_id, run.id, instance_id=run.data["instance_id"])

    def lease(run: Run) -> Mapping[str, Any]:
        return lease_instance(instances, disks, run)

    def cut(run: Run) -> Mapping[str, Any]:
        point = disks.create_point(run)
        if run.deadline is not None and datetime.fromisoformat(point["cut_time"]) > run.deadline:
            # design.md §6, law 2: "A moment that comes late is not the moment asked for."
            raise DependencyUnavailable(run.id, "disk_svc fixed the moment after the deadline")
        return point

    def record_moment(session: Session, run: Run) -> None:
        repository.fix_moment(
            session,
            run.resource_id,
            run.id,
            name=run.data["name"],
            cut_time=datetime.fromisoformat(run.data["cut_time"]),
            members=run.data["members"],
        )

    def answer(session: Session, run: Run) -> instance_snapshot_service_pb2.CreateInstanceSnapshotResponse:
        snapshot = service.get(session, run.resource_id, run.account_id)
        return instance_snapshot_service_pb2.CreateInstanceSnapshotResponse(
            instance_snapshot=convert.instance_snapshot(snapshot), operation_id=run.id
        )

    steps = (
        Step("lease", do=lease, undo=instances.release),
        Step("cut", do=cut, undo=disks.withdraw_point, record=record_moment, answer=answer),
        Step("seal", do=disks.seal_point, pivot=True),
        Step("finish", do=disks.finish_point),
        Step("release", do=instances.release, record=_record_available),
    )
    locate = Step("locate", do=disks.locate, record=record_located)
    return [
        SagaDefinition(
            kind, kind_steps, failed=_failed, deadline_seconds=deadline_seconds, abandoned=_abandoned
        )
        for kind, kind_steps in (
            ("create_instance_snapshot", steps),
            ("create_instance_snapshot_from_disk", (locate, *steps)),
        )
    ]
