"""Snapshots copied to another region, all of a set or none.

    begin → transfer → finish |

The bar is the pivot.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc.clients import Importers
from disk_svc.service.copies import COPY_KIND, Copies
from disk_svc.service.transfer import Transfer
from stillpoint.disk.v1 import disk_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step


def definition(
    copies: Copies, importers: Importers, transfer: Transfer, deadline_seconds: float
) -> SagaDefinition:
    """The participant is the disk_svc of another region. Until that has taken it on there is a deadline; from then on it
    lasts as long as there are bytes.
    """

    def begin(run: Run) -> Mapping[str, Any]:
        return {"bases": importers.begin(run)}

    def undo(run: Run) -> None:
        # First what is kept here: the other region may be away for long.
        copies.release(run)
        importers.withdraw(run)

    def answer(_session: Session, run: Run) -> disk_snapshot_service_pb2.CopyDiskSnapshotResponse:
        """Of a copy of an instance snapshot nobody reads it."""
        return disk_snapshot_service_pb2.CopyDiskSnapshotResponse(
            copy_snapshot_id=run.input["snapshots"][0]["copy_snapshot_id"], operation_id=run.id
        )

    def end(session: Session, run: Run) -> None:
        copies.end(session, run.id)

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        copies.end(session, run.id)

    return SagaDefinition(
        kind=COPY_KIND,
        steps=(
            Step(
                "begin",
                do=begin,
                undo=undo,
                record=copies.keep_bases,
                answer=answer,
                lifts_deadline=True,
            ),
            Step("transfer", do=transfer.slice),
            Step("finish", do=importers.finish, record=end, pivot=True),
        ),
        failed=failed,
        deadline_seconds=deadline_seconds,
    )
