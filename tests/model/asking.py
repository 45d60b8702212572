"""What a client asks for: a request made of what there is by the model, and of a few numbers that hypothesis has drawn.

The numbers do not depend on what there is, so a history can be drawn again although a kill or a race has gone another way;
and a smaller number is the simpler choice.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.compute.v1 import account_service_pb2 as accounts
from stillpoint.compute.v1 import instance_service_pb2 as instances
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import block_service_pb2 as blocks
from stillpoint.disk.v1 import disk_service_pb2 as disks
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshots
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as wholes
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from tests.contract.cloud import MIB, a_request_id
from tests.model.answers import FAR_AHEAD, LONG_AGO
from tests.model.rules import Rules

MOST_INSTANCES, MOST_DISKS, MOST_SNAPSHOTS = 3, 9, 16
SIZES = (MIB, MIB + 4096, 2 * MIB)
CHUNK = 16 * 1024
"""Of the block store."""
OFFSETS = (0, CHUNK - 100, 4096, CHUNK * 2, MIB - 200, MIB - 4096, MIB, 2 * MIB - 512, 3 * MIB)
LENGTHS = (512, 1, 4096, CHUNK, CHUNK + 300)
NAMES = ("a", "b", "c d")
DESCRIPTIONS = ("", "Two\nlines.")
LABELS: tuple[dict[str, str], ...] = ({}, {"team": "a"}, {"team": "b", "tier": "1"})

Option = TypeVar("Option")


class Choices:
    """One after another, from the numbers."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = cycle(numbers)

    def of(self, options: Sequence[Option]) -> Option:
        return options[next(self._numbers) % len(options)]

    def seldom(self, one_in: int) -> bool:
        return next(self._numbers) % one_in == one_in - 1

    def some(self, options: Sequence[Option]) -> list[Option]:
        """A few of them, each once, in any order."""
        picked = [self.of(options) for _ in range(1 + next(self._numbers) % 3)] if options else []
        return list(dict.fromkeys(picked))


class Client:
    """Knows what there is, and what there was."""

    def __init__(self, rules: Rules, gone: Sequence[str], numbers: Sequence[int]) -> None:
        self._rules = rules
        self._gone = gone
        self._choose = Choices(numbers)

    # Instances

    def instance(self) -> Message:
        choose = self._choose
        there = len(self._rules.instances)
        if not there or (there < MOST_INSTANCES and choose.seldom(4)):
            return self.new_instance()
        instance_id = self._id(self._rules.instances)
        request_id = self._request_id()
        ask = choose.of(["stop", "start", "stop", "start", "stop", "start", "delete"])
        if ask == "start":
            return instances.StartInstanceRequest(request_id=request_id, instance_id=instance_id)
        if ask == "stop":
            no_charge = choose.seldom(3)
            return instances.StopInstanceRequest(
                request_id=request_id, instance_id=instance_id, no_charge=no_charge
            )
        return instances.DeleteInstanceRequest(request_id=request_id, instance_id=instance_id)

    def new_instance(self) -> Message:
        count = self._choose.of([1, 2, 0, 3])
        return instances.CreateInstanceRequest(
            request_id=self._request_id(),
            name=self._choose.of(NAMES),
            labels=self._choose.of(LABELS),
            system_disk=self._new_disk(),
            data_disks=[self._new_disk() for _ in range(count)],
        )

    def _new_disk(self) -> instances.NewDisk:
        size_bytes, source = self._size_and_source()
        return instances.NewDisk(size_bytes=size_bytes, source_snapshot_id=source)

    def attachment(self) -> Message:
        ask = self._choose.of([instances.AttachDiskRequest, instances.DetachDiskRequest])
        instance_id = self._id(self._rules.instances)
        fitting = [
            disk.id
            for disk in self._rules.disks.values()
            if (ask is instances.AttachDiskRequest) != bool(disk.instance_id) and disk.role == Disk.ROLE_DATA
        ]
        disk_id = self._id(self._rules.disks, fitting)
        if ask is instances.DetachDiskRequest and disk_id in fitting and not self._choose.seldom(6):
            instance_id = self._rules.disks[disk_id].instance_id
        return ask(request_id=self._request_id(), instance_id=instance_id, disk_id=disk_id)

    # Disks

    def disk(self) -> Message:
        rules, choose = self._rules, self._choose
        request_id = self._request_id()
        ask = choose.of(["create", "create", "resize", "delete"])
        if ask == "create" and len(rules.disks) < MOST_DISKS:
            size_bytes, source = self._size_and_source()
            return disks.CreateDiskRequest(
                request_id=request_id,
                name=choose.of(NAMES),
                size_bytes=size_bytes,
                source_snapshot_id=source,
                description=choose.of(DESCRIPTIONS),
                labels=choose.of(LABELS),
            )
        if ask == "resize":
            return disks.ResizeDiskRequest(
                request_id=request_id, disk_id=self._id(rules.disks), size_bytes=choose.of(SIZES)
            )
        detached = [disk.id for disk in rules.disks.values() if not disk.instance_id]
        return disks.DeleteDiskRequest(request_id=request_id, disk_id=self._id(rules.disks, detached))

    def disk_rollback(self) -> Message:
        rules, choose = self._rules, self._choose
        snapshot_id = self._id(rules.snapshots)
        own = rules.snapshots[snapshot_id].disk_id if snapshot_id in rules.snapshots else ""
        disk_id = self._id(rules.disks) if not own or choose.seldom(6) else own
        where = rules.disks[disk_id].instance_id if disk_id in rules.disks else ""
        if first := self._out_of_the_way(where):
            return first
        request_id = self._request_id()
        if not where or choose.seldom(6):
            return disks.RollbackDiskRequest(request_id=request_id, disk_id=disk_id, snapshot_id=snapshot_id)
        instance_id = self._id(rules.instances) if choose.seldom(6) else where
        return instances.RollbackDiskRequest(
            request_id=request_id, instance_id=instance_id, disk_id=disk_id, snapshot_id=snapshot_id
        )

    # Bytes

    def write(self) -> Message:
        choose = self._choose
        extents = [
            blocks.Extent(
                offset_bytes=choose.of(OFFSETS[:-1]),
                # 0 makes a hole
                data=bytes([choose.of([1, 2, 255, 0])]) * choose.of(LENGTHS),
            )
            for _ in range(choose.of([1, 2, 3]))
        ]
        return blocks.WriteBlocksRequest(disk_id=self._id(self._rules.disks), extents=extents)

    def read(self) -> Message:
        choose = self._choose
        where: dict[str, str] = choose.of(
            [
                {"disk_id": self._id(self._rules.disks)},
                {"snapshot_id": self._id(self._rules.snapshots)},
            ]
        )
        return blocks.ReadBlocksRequest(
            **where, offset_bytes=choose.of(OFFSETS), length_bytes=choose.of((0, *LENGTHS))
        )

    # Snapshots

    def disk_snapshot(self) -> Message:
        rules, choose = self._rules, self._choose
        request_id = self._request_id()
        if choose.seldom(3) or len(rules.snapshots) >= MOST_SNAPSHOTS:
            alone = [each.id for each in rules.snapshots.values() if not each.instance_snapshot_id]
            return disk_snapshots.DeleteDiskSnapshotRequest(
                request_id=request_id, snapshot_id=self._id(rules.snapshots, alone)
            )
        return disk_snapshots.CreateDiskSnapshotRequest(
            request_id=request_id,
            disk_id=self._id(rules.disks),
            name=choose.of(("", *NAMES)),
            description=choose.of(DESCRIPTIONS),
            labels=choose.of(LABELS),
            expire_time=self._expire_time(),
        )

    def instance_snapshot(self) -> Message:
        rules, choose = self._rules, self._choose
        request_id = self._request_id()
        ask = choose.of(["create", "roll back", "create", "roll back", "roll back", "delete", "batch"])
        few = not rules.wholes and not choose.seldom(6)
        if (ask == "create" or few) and len(rules.snapshots) < MOST_SNAPSHOTS:
            if first := self._out_of_the_way():
                return first
            source: dict[str, str] = choose.of(
                [{"instance_id": self._id(rules.instances)}, {"disk_id": self._id(rules.disks)}]
            )
            return wholes.CreateInstanceSnapshotRequest(
                request_id=request_id,
                **source,
                name=choose.of(("", *NAMES)),
                description=choose.of(DESCRIPTIONS),
                labels=choose.of(LABELS),
                expire_time=self._expire_time(),
                validate_only=choose.seldom(5),
            )
        if ask == "batch":
            some = choose.some([*rules.wholes, *self._strangers(rules.wholes)])
            return wholes.BatchDeleteInstanceSnapshotsRequest(
                request_id=request_id, instance_snapshot_ids=some + some[: choose.seldom(8)]
            )
        whole_id = self._id(rules.wholes)
        if ask == "delete" or len(rules.snapshots) >= MOST_SNAPSHOTS:
            return wholes.DeleteInstanceSnapshotRequest(request_id=request_id, instance_snapshot_id=whole_id)
        of_instance = rules.wholes[whole_id].instance_id if whole_id in rules.wholes else ""
        if first := self._out_of_the_way(of_instance):
            return first
        only: list[str] = []
        if whole_id in rules.wholes and choose.seldom(3):
            members = [member.disk_id for member in rules.wholes[whole_id].members]
            only = choose.some(list(rules.disks) if choose.seldom(6) else members)
        return wholes.RollbackInstanceSnapshotRequest(
            request_id=request_id,
            instance_snapshot_id=whole_id,
            disk_ids=only,
            validate_only=choose.seldom(5),
        )

    # What things are called

    def description(self) -> Message:
        rules, choose = self._rules, self._choose
        fields: dict[str, Any] = {
            "name": choose.of(NAMES),
            "description": choose.of(DESCRIPTIONS),
            "labels": choose.of(LABELS),
        }
        paths = choose.of([["name"], [], ["labels"], ["name", "description"], ["description", "labels"]])
        request_id = self._request_id()
        expires = choose.seldom(4)
        which = choose.of(["instance", "disk", "snapshot", "whole"])
        if expires and which in ("snapshot", "whole"):
            paths = [*paths, "expire_time"]
            fields["expire_time"] = self._expire_time()
        mask = FieldMask(paths=paths)
        match which:
            case "instance":
                instance = Instance(id=self._id(rules.instances), **fields)
                return instances.UpdateInstanceRequest(
                    request_id=request_id, instance=instance, update_mask=mask
                )
            case "disk":
                disk = Disk(id=self._id(rules.disks), **fields)
                return disks.UpdateDiskRequest(request_id=request_id, disk=disk, update_mask=mask)
            case "snapshot":
                snapshot = DiskSnapshot(id=self._id(rules.snapshots), **fields)
                return disk_snapshots.UpdateDiskSnapshotRequest(
                    request_id=request_id, snapshot=snapshot, update_mask=mask
                )
            case _:
                whole = InstanceSnapshot(id=self._id(rules.wholes), **fields)
                return wholes.UpdateInstanceSnapshotRequest(
                    request_id=request_id, instance_snapshot=whole, update_mask=mask
                )

    # The account

    def account(self) -> Message:
        good, debt = accounts.Account.STANDING_GOOD, accounts.Account.STANDING_IN_DEBT
        return self._set_standing(self._choose.of([good, debt, good]))

    def _set_standing(self, standing: "accounts.Account.Standing.ValueType") -> Message:
        return accounts.SetAccountStandingRequest(request_id=self._request_id(), standing=standing)

    # Looking

    def look(self) -> Message:
        rules = self._rules
        return self._choose.of(
            [
                instances.GetInstanceRequest(instance_id=self._id(rules.instances)),
                disks.GetDiskRequest(disk_id=self._id(rules.disks)),
                disk_snapshots.GetDiskSnapshotRequest(snapshot_id=self._id(rules.snapshots)),
                wholes.GetInstanceSnapshotRequest(instance_snapshot_id=self._id(rules.wholes)),
                accounts.GetAccountRequest(),
            ]
        )

    # Parts

    def _id(self, among: Collection[str], fitting: Sequence[str] | None = None) -> str:
        """Mostly of one that fits, where it is said which do, sometimes of any, seldom of none of the kind."""
        known = list(among)
        if fitting and not self._choose.seldom(5):
            return self._choose.of(fitting)
        if known and not self._choose.seldom(8):
            return self._choose.of(known)
        return self._choose.of(self._strangers(known))

    def _strangers(self, known: Collection[str]) -> list[str]:
        """Ids of what is gone, of another kind, and of nothing."""
        rules = self._rules
        everything = chain(rules.instances, rules.disks, rules.snapshots, rules.wholes)
        others = [each for each in everything if each not in known]
        return ["nothing", *self._gone[-4:], *others]

    def _size_and_source(self) -> tuple[int, str]:
        if not self._rules.snapshots or not self._choose.seldom(2):
            return self._choose.of(SIZES), ""
        return self._choose.of((0, *SIZES)), self._id(self._rules.snapshots)

    def _out_of_the_way(self, instance_id: str = "") -> Message | None:
        """Of what bars snapshots and rollbacks one thing, mostly, or they would hardly ever be done."""
        if self._choose.seldom(3):
            return None
        if self._rules.in_debt:
            return self._set_standing(accounts.Account.STANDING_GOOD)
        instance = self._rules.instances.get(instance_id)
        if instance is None or instance.state != Instance.STATE_RUNNING:
            return None
        return instances.StopInstanceRequest(request_id=self._request_id(), instance_id=instance_id)

    def _request_id(self) -> str:
        """Without one each call is a new one."""
        return "" if self._choose.seldom(12) else a_request_id()

    def _expire_time(self) -> Timestamp | None:
        if not self._choose.seldom(4):
            return None
        return self._choose.of([FAR_AHEAD, FAR_AHEAD, LONG_AGO])


Wish = Callable[[Client], Message]

CHANGES: Sequence[Wish] = (
    Client.instance,
    Client.attachment,
    Client.disk,
    Client.disk_rollback,
    Client.write,
    Client.disk_snapshot,
    Client.instance_snapshot,
    Client.instance_snapshot,
    Client.description,
    Client.account,
)


@dataclass(frozen=True, slots=True)
class Breakage:
    """A request of which one field is malformed, and how a refusal names that."""

    request: Message
    field: str


def break_one_field(request: Any, choose: Choices) -> Breakage:
    broken = type(request)()
    broken.CopyFrom(request)
    if "instance_snapshot_ids" in broken.DESCRIPTOR.fields_by_name:
        del broken.instance_snapshot_ids[1:]  # none is there twice
    inner, at = broken, ""
    for name in ("instance", "disk", "snapshot", "instance_snapshot"):
        if "update_mask" in broken.DESCRIPTOR.fields_by_name and name in broken.DESCRIPTOR.fields_by_name:
            inner, at = getattr(broken, name), f"{name}."
            broken.update_mask.Clear()
    ways: list[tuple[Any, str, str, Any]] = []
    for field in broken.DESCRIPTOR.fields:
        if field.name == "request_id":
            ways.append((broken, field.name, field.name, "no-uuid"))
        elif field.name.endswith("_id") and not (field.containing_oneof and not broken.HasField(field.name)):
            ways.append((broken, field.name, field.name, "No Id!"))
        elif field.name == "size_bytes":
            ways.append((broken, field.name, field.name, 4097))
    for name, value in (("name", "1st"), ("description", "\x07"), ("labels", {"Upper": ""})):
        if name in inner.DESCRIPTOR.fields_by_name:
            ways.append((inner, name, f"{at}{name}", value))
    if inner is not broken:
        ways.append((inner, "id", f"{at}id", "No Id!"))
    message, name, field_name, value = choose.of(ways)
    message.ClearField(name)
    message.MergeFrom(type(message)(**{name: value}))
    return Breakage(broken, field_name)


def with_another_body(request: Any) -> Any:
    """The same `request_id`, of something else."""
    other = type(request)()
    other.CopyFrom(request)
    for field in request.DESCRIPTOR.fields:
        if field.name in ("instance_id", "disk_id", "instance_snapshot_id", "snapshot_id", "name"):
            setattr(other, field.name, "other")
            return other
        if field.name in ("instance", "disk", "snapshot", "instance_snapshot"):
            getattr(other, field.name).name = "other"
            return other
        if field.name == "instance_snapshot_ids":
            other.instance_snapshot_ids.append("other")
            return other
    other.account_id = "other"
    return other
