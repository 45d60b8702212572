"""Disks: made, resized, deleted, attached, detached.

Rows first, bytes second, rows last: a row with a task names the bytes before they exist, and until the store has taken
them over for reclaim. What a call finds half done, after a crash, it finishes under the same key.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from sqlalchemy.orm import Session

from disk_svc.blockstore import Refused
from disk_svc.errors import (
    DOMAIN,
    DiskBusy,
    DiskInState,
    DiskNotFound,
    SizeNotLarger,
    SizeTooSmall,
    SnapshotInState,
    SnapshotNotFound,
    refusing,
)
from disk_svc.models import Disk
from disk_svc.repository import disk_rows, resource_rows, snapshot_rows
from disk_svc.service.devices import SYSTEM_DEVICE, data_devices
from disk_svc.service.realm import Realm, is_on
from disk_svc.states import Attachment, Role, SnapshotState, Task
from svckit import barrier
from svckit.caller import current_caller
from svckit.errors import Refusal, refuse_all
from svckit.ids import new_id
from svckit.mutations import SagaStart

Place = tuple[Attachment, str]
"""Where a disk is: its attachment, and its instance's id."""

_NOWHERE: Place = (Attachment.DETACHED, "")


@dataclass(frozen=True, slots=True)
class InstanceDisk:
    """A disk to make, for an instance or alone; `size_bytes` 0 means the size of `source_snapshot_id`. `request_field` is
    what asks for it, where a request asks for several.
    """

    disk_id: str
    name: str
    role: Role
    size_bytes: int
    source_snapshot_id: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    request_field: str = ""


class Disks:
    """Use cases on disks."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def get(
        self, session: Session, disk_id: str, *, account_id: str | None = None, lock: bool = False
    ) -> Disk:
        disk = disk_rows.find_disk(
            session,
            account_id=account_id or current_caller().account_id,
            region=self._realm.region,
            disk_id=disk_id,
            lock=lock,
        )
        if disk is None:
            raise DiskNotFound(disk_id)
        return disk

    def locate(self, session: Session, account_id: str, disk_id: str) -> str:
        """The instance that a disk is on."""
        disk = self.get(session, disk_id, account_id=account_id)
        if not disk.instance_id:
            refuse_all(
                [*([DiskBusy(disk)] if disk.task else []), DiskInState(disk, "on an instance")], DOMAIN
            )
        return disk.instance_id

    # By themselves

    def create(
        self,
        session: Session,
        operation_id: str,
        *,
        name: str,
        description: str,
        labels: Mapping[str, str],
        size_bytes: int,
        source_snapshot_id: str,
    ) -> SagaStart:
        account_id = current_caller().account_id
        disk = InstanceDisk(
            new_id("disk"), name, Role.DATA, size_bytes, source_snapshot_id, description, labels
        )
        self._add(session, operation_id, account_id, [disk], instance_id="")
        return SagaStart("create_disk", disk.disk_id, {})

    def update(self, session: Session, disk_id: str, changes: Mapping[str, Any]) -> Disk:
        """What it is called and labelled: allowed in every state, because nothing depends on it."""
        if not resource_rows.describe(
            session,
            Disk,
            account_id=current_caller().account_id,
            region=self._realm.region,
            resource_id=disk_id,
            changes=changes,
        ):
            raise DiskNotFound(disk_id)
        return self.get(session, disk_id)

    def resize(self, session: Session, operation_id: str, disk_id: str, size_bytes: int) -> SagaStart:
        """spec.md: "disks in statuses such as "Snapshot in Progress" or "Resize Expansion in Progress" cannot initiate
        Instance Snapshot creation": the task sees to that, and to the opposite.
        """
        disk = self.get(session, disk_id, lock=True)
        refusals: list[Refusal] = []
        if disk.task:
            refusals.append(DiskBusy(disk))
        if size_bytes <= disk.size_bytes:
            refusals.append(SizeNotLarger(disk, size_bytes))
        refuse_all(refusals, DOMAIN)
        disk_rows.set_task(session, [disk_id], Task.RESIZING, operation_id)
        return SagaStart("resize_disk", disk_id, {"size_bytes": size_bytes})

    def carry_resize_out(self, disk: Disk, size_bytes: int) -> None:
        """What cannot be taken back, of a disk that is RESIZING. A size that the store refuses leaves it as it is."""
        with suppress(Refused):
            self._realm.store.resize_volume(disk.id, size_bytes)
        with self._realm.database.write() as session:
            disk_rows.end_resize(session, disk.task_operation_id, self._realm.store.size_bytes(disk.id))

    def delete(self, session: Session, operation_id: str, disk_id: str) -> SagaStart:
        disk = self.get(session, disk_id, lock=True)
        refusals: list[Refusal] = []
        if disk.task:
            refusals.append(DiskBusy(disk))
        if disk.attachment != Attachment.DETACHED:
            refusals.append(DiskInState(disk, "DETACHED"))
        refuse_all(refusals, DOMAIN)
        disk_rows.set_task(session, [disk_id], Task.DELETING, operation_id)
        return SagaStart("delete_disk", disk_id, {})

    # For an instance, as a participant

    def create_for_instance(
        self, key: str, operation_id: str, account_id: str, instance_id: str, disks: Sequence[InstanceDisk]
    ) -> None:
        with self._realm.database.write() as session:
            if barrier.enter(session, key):
                self._add(session, operation_id, account_id, disks, instance_id=instance_id)
            creating = disk_rows.disks_with_task(session, operation_id, Task.CREATING)
        with refusing(key):
            for disk in creating:
                self.create_bytes(disk)
        with self._realm.database.write() as session:
            disk_rows.clear_tasks(session, operation_id, Task.CREATING)

    def withdraw_for_instance(self, key: str, disk_ids: Sequence[str]) -> None:
        with self._realm.database.write() as session:
            barrier.withdraw(session, key)
        for disk_id in disk_ids:
            self._realm.store.delete_volume(disk_id)
        with self._realm.database.write() as session:
            disk_rows.remove_disks(session, disk_ids)

    def check_release(self, account_id: str, instance_id: str) -> None:
        """As `release_from_instance`, and changes nothing."""
        with self._realm.database.read() as session:
            self._idle_disks(session, account_id, instance_id, lock=False)

    def release_from_instance(
        self, key: str, operation_id: str, account_id: str, instance_id: str
    ) -> list[str]:
        """Delete the system disk and detach the data disks of an instance, or none; returns which were detached."""
        with barrier.refusal_is_final(self._realm.database, key), self._realm.database.write() as session:
            if barrier.enter(session, key):
                disks = self._idle_disks(session, account_id, instance_id, lock=True)
                system = [disk.id for disk in disks if disk.role == Role.SYSTEM]
                disk_rows.set_task(session, system, Task.DELETING, operation_id)
                data = [disk.id for disk in disks if disk.role == Role.DATA]
                disk_rows.detach_disks(session, data)
                barrier.keep_result(session, key, data)
        return self.end_release(key, operation_id)

    def end_release(self, key: str, operation_id: str) -> list[str]:
        """What is left to do for the bytes, once the rows of `release_from_instance` say so."""
        with self._realm.database.read() as session:
            detached = barrier.kept_result(session, key)
            unattached = disk_rows.detached_among(session, detached)
            doomed = [disk.id for disk in disk_rows.disks_with_task(session, operation_id, Task.DELETING)]
        self._realm.store.fence(unattached)
        for disk_id in doomed:
            self._realm.store.delete_volume(disk_id)
        with self._realm.database.write() as session:
            disk_rows.remove_disks(session, doomed)
        return detached

    def _idle_disks(
        self, session: Session, account_id: str, instance_id: str, *, lock: bool
    ) -> Sequence[Disk]:
        """The disks of an instance, none of which has a task."""
        disks = disk_rows.disks_of_instance(
            session, account_id=account_id, region=self._realm.region, instance_id=instance_id, lock=lock
        )
        refuse_all([DiskBusy(disk) for disk in disks if disk.task], DOMAIN)
        return disks

    def check_attach(self, account_id: str, disk_id: str) -> None:
        """As `attach`, and changes nothing."""
        with self._realm.database.read() as session:
            _refuse_unless_idle(self.get(session, disk_id, account_id=account_id), here=_NOWHERE)

    def attach(self, key: str, account_id: str, instance_id: str, disk_id: str) -> None:
        with barrier.refusal_is_final(self._realm.database, key), self._realm.database.write() as session:
            if barrier.enter(session, key):
                disk = self.get(session, disk_id, account_id=account_id, lock=True)
                # The instance is leased, so that no other disk is attached to it meanwhile; were there one all the
                # same, the unique index would let one of them have the device, and the other be tried again.
                beside = disk_rows.disks_of_instance(
                    session,
                    account_id=account_id,
                    region=self._realm.region,
                    instance_id=instance_id,
                    lock=False,
                )
                self._move_idle(
                    session,
                    disk,
                    here=_NOWHERE,
                    there=(Attachment.MOUNTED, instance_id),
                    device=next(data_devices(taken={each.device for each in beside})),
                )

    def check_detach(self, account_id: str, instance_id: str, disk_id: str) -> None:
        """As `detach`, and changes nothing."""
        with self._realm.database.read() as session:
            disk = self.get(session, disk_id, account_id=account_id)
            _refuse_unless_idle(disk, here=(Attachment.MOUNTED, instance_id))

    def detach(self, key: str, account_id: str, instance_id: str, disk_id: str) -> None:
        with barrier.refusal_is_final(self._realm.database, key), self._realm.database.write() as session:
            if barrier.enter(session, key):
                self._move_idle(
                    session,
                    self.get(session, disk_id, account_id=account_id, lock=True),
                    here=(Attachment.MOUNTED, instance_id),
                    there=_NOWHERE,
                    device="",
                )
                barrier.keep_result(session, key, [disk_id])
        self.end_detach(key)

    def end_detach(self, key: str) -> None:
        """What is left to do for the bytes, once the row of `detach` says so."""
        with self._realm.database.read() as session:
            detached = disk_rows.detached_among(session, barrier.kept_result(session, key))
        self._realm.store.fence(detached)

    def _move_idle(
        self,
        session: Session,
        disk: Disk,
        *,
        here: Place,
        there: Place,
        device: str,
    ) -> None:
        _refuse_unless_idle(disk, here)
        moved = disk_rows.move_idle_disk(session, disk.id, here=here, there=there, device=device)
        assert moved  # the row is locked and was just looked at

    # Rows and bytes of a new disk

    def _add(
        self,
        session: Session,
        operation_id: str,
        account_id: str,
        disks: Sequence[InstanceDisk],
        *,
        instance_id: str,
    ) -> None:
        sizes = self._sizes_of(session, account_id, disks)
        attachments = {
            Role.SYSTEM: Attachment.RUNNING,
            Role.DATA: Attachment.MOUNTED if instance_id else Attachment.DETACHED,
        }
        free = data_devices() if instance_id else repeat("")
        disk_rows.add_disks(
            session,
            [
                {
                    "id": disk.disk_id,
                    "name": disk.name,
                    "description": disk.description,
                    "labels": disk.labels,
                    "account_id": account_id,
                    "region": self._realm.region,
                    "role": disk.role,
                    "attachment": attachments[disk.role],
                    "instance_id": instance_id,
                    "device": SYSTEM_DEVICE if disk.role == Role.SYSTEM else next(free),
                    "task": Task.CREATING,
                    "task_operation_id": operation_id,
                    "size_bytes": size_bytes,
                    "source_snapshot_id": disk.source_snapshot_id,
                }
                for disk, size_bytes in zip(disks, sizes, strict=True)
            ],
        )

    def _sizes_of(self, session: Session, account_id: str, disks: Sequence[InstanceDisk]) -> list[int]:
        """The new disks' sizes, or a refusal with what is wrong with the source of each."""
        sizes: list[int] = []
        refusals: list[Refusal] = []
        for disk in disks:
            try:
                sizes.append(self._size_of(session, account_id, disk))
            except Refusal as refusal:
                refusals.append(refusal.about(disk.request_field) if disk.request_field else refusal)
        refuse_all(refusals, DOMAIN)
        return sizes

    def _size_of(self, session: Session, account_id: str, disk: InstanceDisk) -> int:
        """The new disk's size. Locks the source, so that it is not deleted between this look and the row that marks it
        as in use. Whether that is a member is not asked.

        spec.md: "You can still perform corresponding operations on the disk Snapshot, such as creating a new CDS disk".
        """
        if not disk.source_snapshot_id:
            return disk.size_bytes
        snapshot = snapshot_rows.find_snapshot(
            session,
            account_id=account_id,
            region=self._realm.region,
            snapshot_id=disk.source_snapshot_id,
            lock=True,
        )
        if snapshot is None:
            raise SnapshotNotFound(disk.source_snapshot_id)
        if snapshot.state != SnapshotState.AVAILABLE:
            raise SnapshotInState(snapshot, SnapshotState.AVAILABLE)
        if disk.size_bytes and disk.size_bytes < snapshot.size_bytes:
            raise SizeTooSmall(snapshot, disk.size_bytes)
        return disk.size_bytes or snapshot.size_bytes

    def create_bytes(self, disk: Disk) -> None:
        self._realm.store.create_volume(disk.id, disk.size_bytes, disk.source_snapshot_id or None)


def _refuse_unless_idle(disk: Disk, here: Place) -> None:
    attachment, instance_id = here
    refusals: list[Refusal] = []
    if disk.task:
        refusals.append(DiskBusy(disk))
    if disk.attachment != attachment or (instance_id and not is_on(disk, instance_id)):
        where = f" on instance {instance_id}" if instance_id else ""
        refusals.append(DiskInState(disk, f"{attachment}{where}"))
    refuse_all(refusals, DOMAIN)
