"""The sagas of disk_svc: small ones, with the block store as their participant, or another region's disk_svc. Rows are changed by the transaction that
accepts each (first) and by the commits that end its steps (last); the steps themselves are about bytes.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc import convert, repository
from disk_svc.blockstore import Cut, Restore
from disk_svc.clients import Importers
from disk_svc.errors import refusal_for, refusing
from disk_svc.service.copies import COPY_KIND, Copies
from disk_svc.service.disks import Disks
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Rollbacks
from disk_svc.service.snapshots import Snapshots
from disk_svc.service.transfer import Transfer
from disk_svc.states import SnapshotState, Task
from stillpoint.disk.v1 import disk_service_pb2, disk_snapshot_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step


def definitions(
    realm: Realm, disks: Disks, points: Points, snapshots: Snapshots, rollbacks: Rollbacks
) -> list[SagaDefinition]:
    return [
        _create_disk(realm, disks),
        _resize_disk(realm, disks),
        _roll_back_disk(realm, disks, rollbacks),
        _delete_disk(realm),
        _create_disk_snapshot(realm, points, snapshots),
        _delete_disk_snapshot(realm),
    ]


def _create_disk(realm: Realm, disks: Disks) -> SagaDefinition:
    def create(run: Run) -> None:
        with realm.database.read() as session:
            disk = disks.get(session, run.resource_id, account_id=run.account_id)
        with refusing(run.key("create")):
            disks.create_bytes(disk)

    def undo(run: Run) -> None:
        realm.store.delete_volume(run.resource_id)

    def record(session: Session, run: Run) -> None:
        repository.clear_tasks(session, run.id, Task.CREATING)

    def answer(session: Session, run: Run) -> disk_service_pb2.CreateDiskResponse:
        disk = disks.get(session, run.resource_id, account_id=run.account_id)
        return disk_service_pb2.CreateDiskResponse(
            disk=convert.disk(disk, {}, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        repository.remove_disks(session, [run.resource_id])

    return SagaDefinition(
        kind="create_disk",
        steps=(Step("create", do=create, undo=undo, record=record, answer=answer),),
        failed=failed,
    )


def _resize_disk(realm: Realm, disks: Disks) -> SagaDefinition:
    """Forward only: a volume never shrinks, and somebody may have written to the new part already. So there is neither an
    undo nor a deadline, and what is not known is tried until it is. The store refuses only before it has changed
    anything, and never a size that the volume has got by an earlier try: after a refusal the row is right as it is.
    """

    def resize(run: Run) -> None:
        with refusing():
            realm.store.resize_volume(run.resource_id, run.input["size_bytes"])

    def record(session: Session, run: Run) -> None:
        repository.end_resize(session, run.id, run.input["size_bytes"])

    def answer(session: Session, run: Run) -> disk_service_pb2.ResizeDiskResponse:
        disk = disks.get(session, run.resource_id, account_id=run.account_id)
        slots_taken = repository.slots_taken(session, [disk.id])
        return disk_service_pb2.ResizeDiskResponse(
            disk=convert.disk(disk, slots_taken, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        repository.clear_tasks(session, run.id, Task.RESIZING)

    return SagaDefinition(
        kind="resize_disk",
        steps=(Step("resize", do=resize, record=record, answer=answer),),
        failed=failed,
    )


def _roll_back_disk(realm: Realm, disks: Disks, rollbacks: Rollbacks) -> SagaDefinition:
    """No deadline: what is not known may have taken effect, and is tried until it is known. The store refuses only what
    has not taken effect by an earlier try: then the disk is as it was.
    """

    def restore(run: Run) -> None:
        # First the writers: what they were answered while the store is tried again would be lost.
        realm.store.fence([run.resource_id])
        with refusing(run.key("restore")):
            realm.store.restore(run.key("restore"), [Restore(run.resource_id, run.input["snapshot_id"])])

    def undo(run: Run) -> None:
        """It was refused, so there is nothing to give back; a try that comes late is refused too."""
        realm.store.withdraw_cut(run.key("restore"))

    def record(session: Session, run: Run) -> None:
        rollbacks.end(session, run.id)

    def answer(session: Session, run: Run) -> disk_service_pb2.RollbackDiskResponse:
        disk = disks.get(session, run.resource_id, account_id=run.account_id)
        slots_taken = repository.slots_taken(session, [disk.id])
        return disk_service_pb2.RollbackDiskResponse(
            disk=convert.disk(disk, slots_taken, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        rollbacks.end(session, run.id)

    return SagaDefinition(
        kind="roll_back_disk",
        steps=(Step("restore", do=restore, undo=undo, record=record, answer=answer),),
        failed=failed,
    )


def _delete_disk(realm: Realm) -> SagaDefinition:
    def answer(_session: Session, run: Run) -> disk_service_pb2.DeleteDiskResponse:
        return disk_service_pb2.DeleteDiskResponse(operation_id=run.id)

    def delete(run: Run) -> None:
        realm.store.fence([run.resource_id])
        realm.store.delete_volume(run.resource_id)

    def record(session: Session, run: Run) -> None:
        repository.remove_disks(session, [run.resource_id])

    return SagaDefinition(
        kind="delete_disk",
        steps=(Step("delete", do=delete, record=record, answer=answer),),
        failed=_cannot_fail,
    )


def _create_disk_snapshot(realm: Realm, points: Points, snapshots: Snapshots) -> SagaDefinition:
    def cut(run: Run) -> Mapping[str, Any]:
        with refusing(run.key("cut")):
            cut_time = realm.store.cut(run.key("cut"), [Cut(run.input["disk_id"], run.resource_id)])
        return {"cut_time": cut_time.isoformat()}

    def undo_cut(run: Run) -> None:
        realm.store.withdraw_cut(run.key("cut"))

    def record_cut(session: Session, run: Run) -> None:
        repository.mark_cut(session, run.key("cut"), convert.moment(run.data["cut_time"]))

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
        repository.clear_tasks(session, run.id, Task.SNAPSHOTTING)
        repository.remove_point(session, run.key("cut"))
        if "cut_time" in run.data:
            repository.change_snapshots(
                session,
                [run.resource_id],
                allowed=[SnapshotState.CREATING],
                state=SnapshotState.ERROR,
                operation_id="",
            )
        else:
            repository.remove_snapshots(session, [run.resource_id])

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
        repository.remove_snapshots(session, [run.resource_id])

    def answer(_session: Session, run: Run) -> disk_snapshot_service_pb2.DeleteDiskSnapshotResponse:
        return disk_snapshot_service_pb2.DeleteDiskSnapshotResponse(operation_id=run.id)

    return SagaDefinition(
        kind="delete_disk_snapshot",
        steps=(Step("delete", do=delete, record=record, answer=answer),),
        failed=_cannot_fail,
    )


def copy_disk_snapshots(
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


def _cannot_fail(_session: Session, run: Run, refusal: Refusal) -> None:
    """The store refuses no deletion."""
    raise AssertionError(f"{run.kind} was refused: {refusal.message}")
