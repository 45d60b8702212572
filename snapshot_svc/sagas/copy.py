"""Copy to another region: snapshot_svc there lists the copy, disk_svc here sends the members to disk_svc there, and then
the copy is AVAILABLE.

    begin → start → copy | → finish

`begin` has 30 s; from there on it takes as long as it takes. Starting disk_svc has no undo, so it is tried until it is
known to be refused, or accepted: the client's answer. What disk_svc has accepted it carries to an end by itself, all
members or none: when none, there is only the listed copy to withdraw; when all, nothing stands in the way any more.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from snapshot_svc.clients import Disks, OtherRegions
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import More, Run, SagaDefinition, Step

_LOOK_AGAIN_SECONDS = 0.5


def definition(disks: Disks, regions: OtherRegions, deadline_seconds: float) -> SagaDefinition:
    def answer(_session: Session, run: Run) -> instance_snapshot_service_pb2.CopyInstanceSnapshotResponse:
        return instance_snapshot_service_pb2.CopyInstanceSnapshotResponse(
            copy_instance_snapshot_id=run.input["copy_instance_snapshot_id"], operation_id=run.id
        )

    def copy(run: Run) -> Mapping[str, Any] | More:
        progress, ended = disks.copied(run)
        if ended:
            return {"progress": asdict(progress)}
        return More(data={}, progress=progress, pause_seconds=_LOOK_AGAIN_SECONDS)

    def failed(_session: Session, _run: Run, _refusal: Refusal) -> None:
        """The instance snapshot was never held, and the copy is no row of this region."""

    return SagaDefinition(
        kind="copy_instance_snapshot",
        steps=(
            Step("begin", do=regions.begin_import, undo=regions.withdraw_import, lifts_deadline=True),
            Step("start", do=disks.start_copy, answer=answer),
            Step("copy", do=copy, pivot=True),
            Step("finish", do=regions.finish_import),
        ),
        failed=failed,
        deadline_seconds=deadline_seconds,
    )
