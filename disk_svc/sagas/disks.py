"""Disks: made, resized, rolled back, deleted."""

from sqlalchemy.orm import Session

from disk_svc import convert
from disk_svc.blockstore import Restore
from disk_svc.errors import refusing
from disk_svc.repository import disk_rows, snapshot_rows
from disk_svc.sagas.forward import cannot_fail, carried_out
from disk_svc.service.disks import Disks
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Rollbacks
from disk_svc.states import Task
from stillpoint.disk.v1 import disk_service_pb2
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step


def definitions(realm: Realm, disks: Disks, rollbacks: Rollbacks) -> list[SagaDefinition]:
    return [
        _create_disk(realm, disks),
        _resize_disk(realm, disks),
        _roll_back_disk(realm, disks, rollbacks),
        _delete_disk(realm),
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
        disk_rows.clear_tasks(session, run.id, Task.CREATING)

    def answer(session: Session, run: Run) -> disk_service_pb2.CreateDiskResponse:
        disk = disks.get(session, run.resource_id, account_id=run.account_id)
        return disk_service_pb2.CreateDiskResponse(
            disk=convert.disk(disk, {}, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        disk_rows.remove_disks(session, [run.resource_id])

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
        disk_rows.end_resize(session, run.id, run.input["size_bytes"])

    def answer(session: Session, run: Run) -> disk_service_pb2.ResizeDiskResponse:
        disk = disks.get(session, run.resource_id, account_id=run.account_id)
        slots_taken = snapshot_rows.slots_taken(session, [disk.id])
        return disk_service_pb2.ResizeDiskResponse(
            disk=convert.disk(disk, slots_taken, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        disk_rows.clear_tasks(session, run.id, Task.RESIZING)

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
        slots_taken = snapshot_rows.slots_taken(session, [disk.id])
        return disk_service_pb2.RollbackDiskResponse(
            disk=convert.disk(disk, slots_taken, realm.quotas), operation_id=run.id
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        rollbacks.end(session, run.id)

    return SagaDefinition(
        kind="rollback_disk",
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
        disk_rows.remove_disks(session, [run.resource_id])

    return SagaDefinition(
        kind="delete_disk",
        steps=(Step("delete", do=delete, record=record, answer=answer),),
        failed=cannot_fail,
        abandoned=carried_out,
    )
