"""The rules of Stillpoint, in Python: what each request is answered with, and what there is after it, when nothing else is
in progress.

Ids and some names are the product's to choose, so they are taken from its answer. What is malformed is not asked for here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from stillpoint.compute.v1 import account_service_pb2 as accounts
from stillpoint.compute.v1 import instance_service_pb2 as instances
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import block_service_pb2 as blocks
from stillpoint.disk.v1 import disk_service_pb2 as disks
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshots
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1.operation_pb2 import OperationError, OperationViolation
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as wholes
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from tests.contract.cloud import ACCOUNT
from tests.model.answers import SOME_OPERATION, SOME_TIME, Bar, Refused
from tests.model.things import DATA_DEVICES, OURS, REGION, STOPPED, Things

CHANGEABLE = ("name", "description", "labels", "expire_time")


class Rules(Things):
    """`answer` gives a request's answer and does what it asks for, or raises Refused and changes nothing."""

    def __init__(self, *, slots: int) -> None:
        super().__init__(slots=slots)
        self.accepted: dict[tuple[str, str], tuple[Message, Any]] = {}
        """By request and `request_id`: the request, and its first answer."""

    def answer(self, asked: Any, shown: Any) -> Any:
        """`shown` is the product's answer, or an empty one where it refused."""
        rpc = type(asked).DESCRIPTOR.full_name.removesuffix("Request")
        request_id = "" if getattr(asked, "validate_only", False) else getattr(asked, "request_id", "")
        if (rpc, request_id) in self.accepted:
            first, answer = self.accepted[rpc, request_id]
            if first != asked:
                raise Refused(Bar("REQUEST_ID_REUSED"))
            return answer
        rule = "RollbackDiskOnInstance" if isinstance(asked, instances.RollbackDiskRequest) else rpc
        answer = getattr(self, rule.rpartition(".")[2])(asked, shown)
        for disk in self.disks.values():
            disk.manual_snapshots.used = sum(each.disk_id == disk.id for each in self.snapshots.values())
        if request_id:
            self.accepted[rpc, request_id] = (asked, answer)
        return answer

    # Instances

    def CreateInstance(self, asked: Any, shown: Any) -> Any:
        named = {f"data_disks[{number}]": disk for number, disk in enumerate(asked.data_disks)}
        wanted = {"system_disk": asked.system_disk, **named}
        bars = [bar for field, disk in wanted.items() for bar in self.bars_on_source(disk, field)]
        Refused.by_any(bars, asked="compute", fields=[f"{bar.subject}.size_bytes" for bar in bars])
        instance = Instance(
            id=shown.instance.id,
            name=asked.name,
            state=Instance.STATE_RUNNING,
            system_disk_id=shown.instance.system_disk_id,
            description=asked.description,
            labels=asked.labels,
            **OURS,
        )
        self.instances[instance.id] = instance
        disk_ids = [instance.system_disk_id, *shown.data_disk_ids]
        for number, (disk_id, disk) in enumerate(zip(disk_ids, wanted.values(), strict=False)):
            self.add_disk(
                disk_id,
                disk,
                name=disk.name or f"{asked.name}-{f'data-{number}' if number else 'system'}",
                role=Disk.ROLE_DATA if number else Disk.ROLE_SYSTEM,
                state=Disk.STATE_MOUNTED if number else Disk.STATE_RUNNING,
                instance_id=instance.id,
                device=DATA_DEVICES[number - 1] if number else "vda",
            )
        return instances.CreateInstanceResponse(
            instance=instance,
            operation_id=SOME_OPERATION,
            data_disk_ids=shown.data_disk_ids[: len(asked.data_disks)],
        )

    def StartInstance(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance_id)
        Refused.by_any(self.bars_on_instance(instance.id, STOPPED))
        instance.state = Instance.STATE_RUNNING
        return instances.StartInstanceResponse(instance=instance)

    def StopInstance(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance_id)
        Refused.by_any(self.bars_on_instance(instance.id, [Instance.STATE_RUNNING]))
        instance.state = Instance.STATE_STOPPED_NO_CHARGE if asked.no_charge else Instance.STATE_STOPPED
        return instances.StopInstanceResponse(instance=instance)

    def DeleteInstance(self, asked: Any, _shown: Any) -> Any:
        """With its system disk. Data disks are detached; snapshots stay, and stay listed."""
        instance = self.instance(asked.instance_id)
        Refused.by_any(self.bars_on_instance(instance.id, STOPPED))
        del self.instances[instance.id], self.disks[instance.system_disk_id]
        del self.bytes[instance.system_disk_id]
        detached = [disk.id for disk in self.disks_on(instance.id)]
        for disk_id in detached:
            self.detach(disk_id)
        return instances.DeleteInstanceResponse(
            operation_id=SOME_OPERATION, detached_disk_ids=sorted(detached)
        )

    def AttachDisk(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance_id)
        disk = self.disk(asked.disk_id)
        Refused.by_any([Bar.on(disk, "DISK_STATE")] if disk.instance_id else [])
        taken = {each.device for each in self.disks_on(instance.id)}
        disk.device = next(device for device in DATA_DEVICES if device not in taken)
        disk.instance_id, disk.state = instance.id, Disk.STATE_MOUNTED
        return instances.AttachDiskResponse(instance=instance, operation_id=SOME_OPERATION)

    def DetachDisk(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance_id)
        disk = self.disk(asked.disk_id)
        may_go = disk.instance_id == instance.id and disk.role == Disk.ROLE_DATA
        Refused.by_any([] if may_go else [Bar.on(disk, "DISK_STATE")])
        self.detach(disk.id)
        return instances.DetachDiskResponse(instance=instance, operation_id=SOME_OPERATION)

    def RollbackDiskOnInstance(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance_id)
        bars = [
            *self.bars_on_instance(instance.id, STOPPED),
            *self.bars_on_going_back(asked.disk_id, asked.snapshot_id, on=[instance.id]),
        ]
        Refused.by_any(bars, asked="compute")
        self.go_back(asked.disk_id, asked.snapshot_id)
        return instances.RollbackDiskResponse(instance=instance, operation_id=SOME_OPERATION)

    # Disks

    def CreateDisk(self, asked: Any, shown: Any) -> Any:
        Refused.by_any(self.bars_on_source(asked), fields=["size_bytes"])
        disk = self.add_disk(
            shown.disk.id,
            asked,
            name=asked.name,
            role=Disk.ROLE_DATA,
            state=Disk.STATE_DETACHED,
            description=asked.description,
            labels=asked.labels,
        )
        return disks.CreateDiskResponse(disk=disk, operation_id=SOME_OPERATION)

    def ResizeDisk(self, asked: Any, _shown: Any) -> Any:
        disk = self.disk(asked.disk_id)
        Refused.by_any([Bar.on(disk, "SIZE_NOT_LARGER")] if asked.size_bytes <= disk.size_bytes else [])
        disk.size_bytes = asked.size_bytes
        self.bytes[disk.id] = self.bytes[disk.id].ljust(disk.size_bytes, b"\0")
        return disks.ResizeDiskResponse(disk=disk, operation_id=SOME_OPERATION)

    def RollbackDisk(self, asked: Any, _shown: Any) -> Any:
        Refused.by_any(self.bars_on_going_back(asked.disk_id, asked.snapshot_id, on=[""]))
        self.go_back(asked.disk_id, asked.snapshot_id)
        return disks.RollbackDiskResponse(disk=self.disks[asked.disk_id], operation_id=SOME_OPERATION)

    def DeleteDisk(self, asked: Any, _shown: Any) -> Any:
        """Its snapshots stay."""
        disk = self.disk(asked.disk_id)
        Refused.by_any([Bar.on(disk, "DISK_STATE")] if disk.instance_id else [])
        del self.disks[disk.id], self.bytes[disk.id]
        return disks.DeleteDiskResponse(operation_id=SOME_OPERATION)

    # Bytes

    def WriteBlocks(self, asked: Any, _shown: Any) -> Any:
        content = self.bytes[self.disk(asked.disk_id).id]
        for extent in asked.extents:
            end = extent.offset_bytes + len(extent.data)
            if end > len(content):
                raise Refused(Bar("RANGE_BEYOND_END"))
            content = content[: extent.offset_bytes] + extent.data + content[end:]
        self.bytes[asked.disk_id] = content
        written = sum(len(extent.data) for extent in asked.extents)
        return blocks.WriteBlocksResponse(messages_durable=1, bytes_durable=written)

    def ReadBlocks(self, asked: Any, _shown: Any) -> Any:
        self.snapshot(asked.snapshot_id) if asked.snapshot_id else self.disk(asked.disk_id)
        content = self.bytes[asked.snapshot_id or asked.disk_id]
        end = asked.offset_bytes + asked.length_bytes if asked.length_bytes else len(content)
        if max(asked.offset_bytes, end) > len(content):
            raise Refused(Bar("RANGE_BEYOND_END"))
        return content[asked.offset_bytes : end]

    # Disk snapshots

    def CreateDiskSnapshot(self, asked: Any, shown: Any) -> Any:
        _refuse_past(asked, "expire_time")
        disk = self.disk(asked.disk_id)
        Refused.by_any(self.bars_on_slots([disk]))
        name = asked.name or _named_after(disk.name, shown.snapshot.name)
        snapshot = self.add_snapshot(
            shown.snapshot.id, disk, name=name, description=asked.description, labels=asked.labels
        )
        if asked.HasField("expire_time"):
            snapshot.expire_time.CopyFrom(asked.expire_time)
        return disk_snapshots.CreateDiskSnapshotResponse(
            snapshot=_in_progress(snapshot, DiskSnapshot.STATE_CREATING), operation_id=SOME_OPERATION
        )

    def DeleteDiskSnapshot(self, asked: Any, _shown: Any) -> Any:
        """Never one that belongs to an instance snapshot."""
        snapshot = self.snapshot(asked.snapshot_id)
        member = bool(snapshot.instance_snapshot_id)
        Refused.by_any([Bar.on(snapshot, "MEMBER_OF_INSTANCE_SNAPSHOT")] if member else [])
        self.drop_snapshot(snapshot.id)
        return disk_snapshots.DeleteDiskSnapshotResponse(operation_id=SOME_OPERATION)

    # Instance snapshots

    def CreateInstanceSnapshot(self, asked: Any, shown: Any) -> Any:
        """Of every disk of the instance, or of none."""
        _refuse_past(asked, "expire_time")
        if asked.disk_id:
            named = self.disk(asked.disk_id)
            Refused.by_any([] if named.instance_id else [Bar.on(named, "DISK_STATE")])
        instance_id = self.disks[asked.disk_id].instance_id if asked.disk_id else asked.instance_id
        its_disks = self.disks_on(instance_id)
        bars = [*self.bars_on_standing(), *self.bars_on_instance(instance_id), *self.bars_on_slots(its_disks)]
        Refused.by_any(bars, asked="snapshot")
        instance = self.instances[instance_id]
        whole = InstanceSnapshot(
            id=shown.instance_snapshot.id,
            name=asked.name or _named_after(instance.name, shown.instance_snapshot.name),
            instance_id=instance.id,
            description=asked.description,
            labels=asked.labels,
            members=[
                Member(
                    disk_id=disk.id,
                    disk_name=disk.name,
                    is_system_disk=disk.role == Disk.ROLE_SYSTEM,
                    snapshot_id=_id_of(shown.instance_snapshot, disk.id),
                    size_bytes=disk.size_bytes,
                    device=disk.device,
                )
                for disk in its_disks
            ],
            account_id=ACCOUNT,
            region=REGION,
        )
        if asked.HasField("expire_time"):
            whole.expire_time.CopyFrom(asked.expire_time)
        if asked.validate_only:
            return wholes.CreateInstanceSnapshotResponse(instance_snapshot=whole)
        for name in ("create_time", "update_time", "cut_time"):
            getattr(whole, name).CopyFrom(SOME_TIME)
        whole.state = InstanceSnapshot.STATE_AVAILABLE
        self.wholes[whole.id] = whole
        for member, disk in zip(whole.members, its_disks, strict=True):
            self.add_snapshot(member.snapshot_id, disk, name=whole.name, instance_snapshot_id=whole.id)
        return wholes.CreateInstanceSnapshotResponse(
            instance_snapshot=_in_progress(whole, InstanceSnapshot.STATE_CREATING),
            operation_id=SOME_OPERATION,
        )

    def RollbackInstanceSnapshot(self, asked: Any, _shown: Any) -> Any:
        """All members that are asked for, or none."""
        whole = self.whole(asked.instance_snapshot_id)
        if set(asked.disk_ids) - {member.disk_id for member in whole.members}:
            raise Refused.malformed("disk_ids")
        going = [member for member in whole.members if not asked.disk_ids or member.disk_id in asked.disk_ids]
        bars = [*self.bars_on_standing(), *self.bars_on_instance(whole.instance_id, STOPPED)]
        for member in going:
            bars += self.bars_on_going_back(member.disk_id, member.snapshot_id, on=["", whole.instance_id])
        Refused.by_any(bars, asked="snapshot")
        untouched = {disk.id for disk in self.disks_on(whole.instance_id)} - {
            member.disk_id for member in going
        }
        answer = wholes.RollbackInstanceSnapshotResponse(untouched_disk_ids=sorted(untouched))
        if asked.validate_only:
            answer.instance_snapshot.CopyFrom(whole)
            return answer
        for member in going:
            self.go_back(member.disk_id, member.snapshot_id)
        answer.instance_snapshot.CopyFrom(_in_progress(whole, InstanceSnapshot.STATE_ROLLING_BACK))
        answer.operation_id = SOME_OPERATION
        return answer

    def DeleteInstanceSnapshot(self, asked: Any, _shown: Any) -> Any:
        """With all its members, whatever has become of its instance, its disks and the account's standing."""
        whole = self.whole(asked.instance_snapshot_id)
        for member in whole.members:
            self.drop_snapshot(member.snapshot_id)
        del self.wholes[whole.id]
        return wholes.DeleteInstanceSnapshotResponse(operation_id=SOME_OPERATION)

    def BatchDeleteInstanceSnapshots(self, asked: Any, shown: Any) -> Any:
        """Each for itself."""
        if len(set(asked.instance_snapshot_ids)) < len(asked.instance_snapshot_ids):
            raise Refused.malformed("instance_snapshot_ids")
        answer = wholes.BatchDeleteInstanceSnapshotsResponse()
        for each in asked.instance_snapshot_ids:
            result = answer.results.add(instance_snapshot_id=each)
            try:
                self.DeleteInstanceSnapshot(
                    wholes.DeleteInstanceSnapshotRequest(instance_snapshot_id=each), shown
                )
                result.operation_id = SOME_OPERATION
            except Refused as refused:
                result.error.CopyFrom(
                    OperationError(
                        code=refused.number,
                        reason=refused.reason,
                        domain=refused.domain,
                        violations=[
                            OperationViolation(type=kind, subject=subject)
                            for kind, subject in refused.violations
                        ],
                    )
                )
        return answer

    # What things are called, and when they expire

    def UpdateInstance(self, asked: Any, _shown: Any) -> Any:
        instance = self.instance(asked.instance.id)
        _change(instance, asked.instance, asked.update_mask.paths)
        return instances.UpdateInstanceResponse(instance=instance)

    def UpdateDisk(self, asked: Any, _shown: Any) -> Any:
        disk = self.disk(asked.disk.id)
        _change(disk, asked.disk, asked.update_mask.paths)
        return disks.UpdateDiskResponse(disk=disk)

    def UpdateDiskSnapshot(self, asked: Any, _shown: Any) -> Any:
        """A member does not expire on its own."""
        snapshot = self.snapshot(asked.snapshot.id)
        if "expire_time" in _changes(asked.snapshot, asked.update_mask.paths):
            member = bool(snapshot.instance_snapshot_id)
            Refused.by_any([Bar.on(snapshot, "EXPIRY_NOT_OWN")] if member else [])
            _refuse_past(asked.snapshot, "snapshot.expire_time")
        _change(snapshot, asked.snapshot, asked.update_mask.paths)
        return disk_snapshots.UpdateDiskSnapshotResponse(snapshot=snapshot)

    def UpdateInstanceSnapshot(self, asked: Any, _shown: Any) -> Any:
        """Its members keep their names."""
        if "expire_time" in _changes(asked.instance_snapshot, asked.update_mask.paths):
            _refuse_past(asked.instance_snapshot, "instance_snapshot.expire_time")
        whole = self.whole(asked.instance_snapshot.id)
        _change(whole, asked.instance_snapshot, asked.update_mask.paths)
        return wholes.UpdateInstanceSnapshotResponse(instance_snapshot=whole)

    # The account

    def SetAccountStanding(self, asked: Any, _shown: Any) -> Any:
        self.in_debt = asked.standing == accounts.Account.STANDING_IN_DEBT
        return accounts.SetAccountStandingResponse(account=self._account())

    def GetAccount(self, asked: Any, _shown: Any) -> Any:
        return accounts.GetAccountResponse(account=self._account())

    def _account(self) -> accounts.Account:
        good, debt = accounts.Account.STANDING_GOOD, accounts.Account.STANDING_IN_DEBT
        return accounts.Account(id=ACCOUNT, standing=debt if self.in_debt else good)

    # Looking

    def GetInstance(self, asked: Any, _shown: Any) -> Any:
        return instances.GetInstanceResponse(instance=self.instance(asked.instance_id))

    def GetDisk(self, asked: Any, _shown: Any) -> Any:
        return disks.GetDiskResponse(disk=self.disk(asked.disk_id))

    def GetDiskSnapshot(self, asked: Any, _shown: Any) -> Any:
        return disk_snapshots.GetDiskSnapshotResponse(snapshot=self.snapshot(asked.snapshot_id))

    def GetInstanceSnapshot(self, asked: Any, _shown: Any) -> Any:
        return wholes.GetInstanceSnapshotResponse(instance_snapshot=self.whole(asked.instance_snapshot_id))


def _refuse_past(message: Any, field: str) -> None:
    if message.HasField("expire_time") and message.expire_time.ToDatetime(UTC) <= datetime.now(UTC):
        raise Refused.malformed(field)


def _named_after(name: str, shown: str) -> str:
    """What the product made of it, which has the time in it."""
    return shown if shown.startswith(f"{name}-") else f"{name}-…"


def _id_of(whole: InstanceSnapshot, disk_id: str) -> str:
    """The snapshot of a disk in an answer of the product."""
    return next((member.snapshot_id for member in whole.members if member.disk_id == disk_id), "")


def _in_progress(shown: Any, state: int) -> Any:
    """As it is while its operation goes on."""
    copy = type(shown)()
    copy.CopyFrom(shown)
    copy.state, copy.operation_id = state, SOME_OPERATION
    return copy


def _changes(wanted: Message, mask: Sequence[str]) -> Sequence[str]:
    return mask or [field.name for field, _ in wanted.ListFields() if field.name in CHANGEABLE]


def _change(kept: Any, wanted: Any, mask: Sequence[str]) -> None:
    """What the mask names, or without one what is set; labels as a whole."""
    for name in _changes(wanted, mask):
        kept.ClearField(name)
        if name != "expire_time" or wanted.HasField(name):
            kept.MergeFrom(type(kept)(**{name: getattr(wanted, name)}))
