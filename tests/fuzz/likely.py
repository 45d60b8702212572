"""Requests such as a service accepts, made from nothing but their descriptors and the names of their fields."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from stillpoint_cli.addresses import Service
from tests.fuzz.knowledge import Fact, Knowledge
from tests.fuzz.methods import Target
from tests.fuzz.values import odd_scalar
from tests.support.regions import SOUTH

MIB = 1 << 20

_BEGIN = {
    "LeaseInstance": "lease",
    "CreateInstanceDisks": "create_disks",
    "ReleaseInstanceDisks": "release_disks",
    "AttachDisk": "attach",
    "DetachDisk": "detach",
    "CreateConsistencyPoint": "cut",
    "ReserveRollback": "reserve",
    "ReserveSnapshotDeletion": "reserve",
    "StartCopy": "start",
    "BeginImport": "begin",
}
"""What begins something at an internal port, and as which step a saga calls it."""
_FOLLOW = {
    "ReleaseInstance": "lease",
    "WithdrawInstanceDisks": "create_disks",
    **dict.fromkeys(("WithdrawConsistencyPoint", "SealConsistencyPoint", "FinishConsistencyPoint"), "cut"),
    **dict.fromkeys(("WithdrawRollback", "ApplyRollback"), "reserve"),
    **dict.fromkeys(("WithdrawSnapshotDeletion", "ApplySnapshotDeletion"), "reserve"),
    **dict.fromkeys(("WriteImport", "DigestImport", "FinishImport", "WithdrawImport"), "begin"),
}
"""What goes on with it or undoes it, under the same key."""
_OPERATIONS = {Service.COMPUTE: "op-c", Service.DISK: "op-d", Service.SNAPSHOT: "op-s"}
_OPTIONAL = {"CreateConsistencyPointRequest.disk_id"}
_TO_BE_MADE = {
    "InstanceDisk.disk_id",
    "CreateInstanceDisksRequest.instance_id",
    "CreateConsistencyPointRequest.instance_snapshot_id",
    "CopiedMember.copy_snapshot_id",
    "StartCopyRequest.copy_instance_snapshot_id",
    "ImportedSnapshot.snapshot_id",
    "BeginImportRequest.instance_snapshot_id",
}
"""Ids that whoever asks has picked."""
_RESOURCES = {
    "Instance": "i",
    "Disk": "disk",
    "DiskSnapshot": "snap",
    "InstanceSnapshot": "isnap",
    "AutoSnapshotPolicy": "asp",
}
"""Whose `id` it is, by the message that has it."""
_SAID_BY_CLIENTS = {
    *("id", "name", "description", "labels", "expire_time"),
    *("weekdays", "hours", "time_zone", "retention_days", "retention_count", "disk_ids"),
}
"""Of a resource in a request: the rest is output only."""
_KINDS = (
    ("instance_snapshot_id", "isnap"),
    ("snapshot_id", "snap"),
    ("disk_id", "disk"),
    ("instance_id", "i"),
    ("policy_id", "asp"),
    ("operation_id", "op"),
    ("resource_id", "disk"),
)
"""By how the name of a field ends: the first that fits."""

_VALUES: Mapping[str, Callable[[Random], Any]] = {
    "account_id": lambda _random: "local",
    "size_bytes": lambda random: random.choice((1, 1, 2, 4)) * MIB,
    "offset_bytes": lambda random: random.choice((0, 0, 4096, 65_536, MIB - 4096)),
    "length_bytes": lambda random: random.choice((0, 4096, 65_536)),
    "data": lambda random: random.randbytes(random.choice((1, 4096, 4096, 16_384))),
    "destination_region": lambda _random: SOUTH,
    "source_region": lambda _random: SOUTH,
    "time_zone": lambda random: random.choice(("", "UTC", "Europe/Berlin")),
    "hours": lambda random: random.randrange(24),
    "retention_days": lambda random: random.randrange(1, 24),
    "retention_count": lambda random: random.randrange(1, 24),
    "page_size": lambda random: random.choice((1, 2, 3, 10)),
    "page_token": lambda _random: "",
    "type": lambda _random: "",
    "actor": lambda _random: "",
    "device": lambda _random: "",
}
_HOW_MANY = {"data_disks": (0, 0, 1, 2), "allowed_states": (2, 5, 8)}
_NAMES = ("a name", "web-1", "Zürich")
_SECONDS_FROM_NOW = {"expire_time": (2, 3600, 86_400)}
_SECONDS_BEFORE_NOW = (0, -5, -3600)


class Likely:
    """Of one client of the run."""

    def __init__(self, random: Random, knowledge: Knowledge) -> None:
        self._random = random
        self._knowledge = knowledge

    def request(self, target: Target) -> Message:
        descriptor: Any = target.request.DESCRIPTOR
        own = _OPERATIONS[target.port.service]
        wanted = list(dict.fromkeys(own if kind == "op" else kind for kind in _kinds_in(descriptor)))
        self._random.shuffle(wanted)
        follows = _FOLLOW.get(target.descriptor.name)
        if follows is not None:
            wanted.insert(0, f"/{follows}")
        fact = dict(self._knowledge.fact(self._random, *wanted)) if wanted else {}
        if "key" in descriptor.fields_by_name:
            step = follows or _BEGIN.get(target.descriptor.name, "step")
            fact["key"] = fact.get(f"/{follows}") or f"{self.new_id('op-s')}/{step}"
        message = target.request()
        self._fill(message, fact)
        return message

    def new_id(self, kind: str) -> str:
        """Of the right form, and of nothing yet."""
        return f"{kind}-{uuid.UUID(int=self._random.getrandbits(128)).hex[:26]}"

    def _fill(self, message: Any, fact: Fact) -> None:
        descriptor: Descriptor = message.DESCRIPTOR
        chosen = {self._random.choice(oneof.fields).name for oneof in descriptor.oneofs}
        # Either of them says how large the new disk is.
        if {"source_snapshot_id", "size_bytes"} <= set(descriptor.fields_by_name):
            unsaid = self._random.choice(("source_snapshot_id", "size_bytes"))
        else:
            unsaid = ""
        for field in descriptor.fields:
            of_another = field.containing_oneof is not None and field.name not in chosen
            output_only = descriptor.name in _RESOURCES and field.name not in _SAID_BY_CLIENTS
            if not (of_another or output_only or field.name == unsaid):
                self._fill_field(message, field, fact)

    def _fill_field(self, message: Any, field: FieldDescriptor, fact: Fact) -> None:
        sometimes = self._random.random() < 0.35
        if is_map(field):
            if sometimes:
                getattr(message, field.name)["a"] = self._random.choice("123")
        elif field.is_repeated:
            for _ in range(self._random.choice(_HOW_MANY.get(field.name, (0, 1, 1, 1, 2)))):
                self._add(message, field, fact)
        elif field.message_type is not None:
            if sometimes or field.name not in ("filter", "expire_time", "update_mask"):
                self._fill_inner(getattr(message, field.name), field, fact)
        elif sometimes or message.DESCRIPTOR.name != "Filter":
            setattr(message, field.name, self._value(message.DESCRIPTOR, field, fact))

    def _add(self, message: Any, field: FieldDescriptor, fact: Fact) -> None:
        elements = getattr(message, field.name)
        if field.message_type is None:
            value = self._value(message.DESCRIPTOR, field, fact)
            if value not in elements:
                elements.append(value)
            return
        kinds = list(_kinds_in(field.message_type))
        another = self._knowledge.fact(self._random, *kinds) if kinds and self._random.random() < 0.3 else {}
        self._fill_inner(elements.add(), field, {**fact, **another, **_only(fact, "key")})

    def _fill_inner(self, inner: Any, field: FieldDescriptor, fact: Fact) -> None:
        match inner.DESCRIPTOR.full_name:
            case "google.protobuf.Timestamp":
                away = self._random.choice(_SECONDS_FROM_NOW.get(field.name, _SECONDS_BEFORE_NOW))
                inner.seconds = int(time.time()) + away
            case "google.protobuf.FieldMask":
                names = ("name", "description", "labels", "hours")
                inner.paths.extend(self._random.sample(names, self._random.randint(1, 2)))
            case _:
                inner.SetInParent()
                self._fill(inner, fact)

    def _value(self, descriptor: Descriptor, field: FieldDescriptor, fact: Fact) -> Any:
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._random.random() < 0.25
        if field.enum_type is not None:
            return self._random.choice(field.enum_type.values[1:]).number
        if field.name in ("key", "request_id"):
            return fact["key"] if field.name == "key" else self._request_id()
        kind = kind_of(descriptor, field)
        if kind is not None:
            return self._id(kind, f"{descriptor.name}.{field.name}", fact)
        if field.name in _VALUES:
            return _VALUES[field.name](self._random)
        is_text = field.type == FieldDescriptor.TYPE_STRING
        return self._random.choice(_NAMES) if is_text else odd_scalar(self._random, field)

    def _request_id(self) -> str:
        die = self._random.random()
        if die < 0.6:
            return str(uuid.UUID(int=self._random.getrandbits(128)))
        return "" if die < 0.9 else self._knowledge.request_id(self._random)

    def _id(self, kind: str, field: str, fact: Fact) -> str:
        if field in _TO_BE_MADE:
            return self.new_id(kind)
        if field in _OPTIONAL and self._random.random() < 0.6:
            return ""
        if kind == "op":
            if "key" in fact:
                return fact["key"].partition("/")[0]
            known = [value for name, value in fact.items() if name.startswith("op-")]
            return self._random.choice(known) if known else self.new_id("op-s")
        return fact.get(kind) or self._knowledge.fact(self._random, kind).get(kind) or self.new_id(kind)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def kind_of(descriptor: Descriptor, field: FieldDescriptor) -> str | None:
    """Of what the field takes the id, by its prefix; None where it takes none, and `op` for an operation of any service."""
    if field.type != FieldDescriptor.TYPE_STRING:
        return None
    if field.name == "id":
        return _RESOURCES.get(descriptor.name)
    name = field.name.removesuffix("s")
    return next((kind for ending, kind in _KINDS if name.endswith(ending)), None)


def _kinds_in(descriptor: Descriptor) -> Iterator[str]:
    """Of the ids that a message has to name, those in messages within it last."""
    for field in descriptor.fields:
        kind = kind_of(descriptor, field)
        if kind is not None and f"{descriptor.name}.{field.name}" not in _TO_BE_MADE:
            yield kind
    for field in descriptor.fields:
        if field.message_type is not None and field.name != "filter":
            yield from _kinds_in(field.message_type)


def _only(fact: Fact, *kinds: str) -> Fact:
    return {kind: fact[kind] for kind in kinds if kind in fact}
