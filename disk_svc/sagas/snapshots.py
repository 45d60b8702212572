"""Snapshots of single disks: taken, deleted."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc import convert
from disk_svc.blockstore import Cut
from disk_svc.errors import refusal_for, refusing
from disk_svc.repository import disk_rows, hold_rows, snapshot_rows
from disk_svc.sagas.forward import cannot_fail, carried_out
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.service.snapshots import Snapshots
from disk_svc.states import SnapshotState, Task
from stillpoint.disk.v1 import disk_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step


def definitions(realm: Realm, points: Points, snapshots: Snapshots) -> list[SagaDefinition]:
    return [_create_disk_snapshot(realm, points, snapshots), _delete_disk_snapshot(realm)]


def _create_disk_snapshot(realm: Realm, points: Points, snapshots: Snapshots) -> SagaDefinition:
    def cut(run: Run) -> Mapping[str, Any]:
        with refusing(run.key("cut")):
            cut_time = realm.store.cut(run.key("cut"), [Cut(run.input["disk_id"], run.resource_id)])
        return {"cut_time": cut_time.isoformat()}

    def undo_cut(run: Run) -> None:
        realm.store.withdraw_cut(run.key("cut"))

    def record_cut(session: Session, run: Run) -> None:
        hold_rows.mark_cut(session, run.key("cut"), convert.moment(run.data["cut_time"]))

    def answer(session: Session, run: Run) -> disk_snapshot_service_pb2.CreateDiskSnapshotResponse:
        snapshot = snapshots.get(session, run.resource_id, account_id=run.account_id)
        return disk_snapshot_service_pb2.CreateDiskSnapshotResponse(
            snapshot=convert.snapshot(snapshot), operation_id=run.id
        )

    def seal(run: Run) -> None:
        error = realm.store.seal([run.resource_id])[run.resource_id]
        if error is not None:
            raise refusal_for(error, run.key("seal"))

    def finish(session: Session, run: Run) -> None:
        points.finish(session, run.key("cut"))

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        """Before its moment it leaves nothing; after it, a snapshot in ERROR that takes no slot."""
        disk_rows.clear_tasks(session, run.id, Task.SNAPSHOTTING)
        hold_rows.remove_point(session, run.key("cut"))
        if "cut_time" in run.data:
            snapshot_rows.change_snapshots(
                session,
                [run.resource_id],
                allowed=[SnapshotState.CREATING],
                state=SnapshotState.ERROR,
                operation_id="",
            )
        else:
            snapshot_rows.remove_snapshots(session, [run.resource_id])

    return SagaDefinition(
        kind="create_disk_snapshot",
        steps=(
            Step("cut", do=cut, undo=undo_cut, record=record_cut, answer=answer),
            Step("seal", do=seal, record=finish, pivot=True),
        ),
        failed=failed,
    )


def _delete_disk_snapshot(realm: Realm) -> SagaDefinition:
    def delete(run: Run) -> None:
        realm.store.delete_snapshots([run.resource_id])

    def record(session: Session, run: Run) -> None:
        snapshot_rows.remove_snapshots(session, [run.resource_id])

    def answer(_session: Session, run: Run) -> disk_snapshot_service_pb2.DeleteDiskSnapshotResponse:
        return disk_snapshot_service_pb2.DeleteDiskSnapshotResponse(operation_id=run.id)

    return SagaDefinition(
        kind="delete_disk_snapshot",
        steps=(Step("delete", do=delete, record=record, answer=answer),),
        failed=cannot_fail,
        abandoned=carried_out,
    )
