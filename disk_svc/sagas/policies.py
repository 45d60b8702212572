"""The saga that takes a disk's snapshot at a slot of an automatic snapshot policy.

    prune → cut → seal |

The bar is the pivot. What came of it is in the policy's result for the disk, by the very commit that ends the saga. When
it is undone nothing is left of the new snapshot; what was pruned is gone.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc import convert
from disk_svc.repository import hold_rows, policy_rows
from disk_svc.service.automatic_snapshots import KIND, AutomaticSnapshots
from disk_svc.service.points import Points
from svckit import barrier
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step

_DEADLINE_SECONDS = 1800.0
"""Less than the hour between two slots: a run is over before the next begins."""


def definition(automatic: AutomaticSnapshots, points: Points) -> SagaDefinition:
    def prune(run: Run) -> Mapping[str, Any]:
        pruned_count = automatic.prune(
            run.key("prune"),
            run.id,
            account_id=run.account_id,
            disk_id=run.resource_id,
            policy_id=run.input["policy_id"],
        )
        return {"pruned_count": pruned_count}

    def end_pruning(run: Run) -> None:
        automatic.end_pruning(run.key("prune"))

    def cut(run: Run) -> Mapping[str, Any]:
        snapshot_id, cut_time = automatic.take(
            run.key("cut"),
            run.id,
            account_id=run.account_id,
            disk_id=run.resource_id,
            policy_id=run.input["policy_id"],
            name=run.input["name"],
        )
        return {"snapshot_id": snapshot_id, "cut_time": cut_time.isoformat()}

    def withdraw(run: Run) -> None:
        points.withdraw(run.key("cut"))

    def record_cut(session: Session, run: Run) -> None:
        hold_rows.mark_cut(session, run.key("cut"), convert.moment(run.data["cut_time"]))

    def seal(run: Run) -> None:
        for result in points.seal(run.key("cut")):
            if result.refusal is not None:
                raise result.refusal

    def finish(session: Session, run: Run) -> None:
        points.finish(session, run.key("cut"))
        _record(
            session,
            run,
            snapshot_id=run.data["snapshot_id"],
            pruned_count=run.data["pruned_count"],
            error=None,
        )

    def failed(session: Session, run: Run, refusal: Refusal) -> None:
        _record(
            session,
            run,
            snapshot_id="",
            pruned_count=len(barrier.kept_result(session, run.key("prune"))),
            error=refusal.to_status().SerializeToString(),
        )

    return SagaDefinition(
        kind=KIND,
        steps=(
            Step("prune", do=prune, undo=end_pruning),
            Step("cut", do=cut, undo=withdraw, record=record_cut),
            Step("seal", do=seal, record=finish, pivot=True),
        ),
        failed=failed,
        deadline_seconds=_DEADLINE_SECONDS,
    )


def _record(session: Session, run: Run, *, snapshot_id: str, pruned_count: int, error: bytes | None) -> None:
    policy_rows.record_result(
        session,
        run.input["policy_id"],
        run.resource_id,
        slot_time=convert.moment(run.input["slot_time"]),
        operation_id=run.id,
        snapshot_id=snapshot_id,
        pruned_count=pruned_count,
        error=error,
    )
