"""The store's small records, in JSON so that they can be read with any LMDB tool.

A tombstone is a record like the others, in the same table under the same id: one lookup tells live from dead.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar


@dataclass(frozen=True, slots=True)
class Tombstone:
    deleted: float


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    version: int
    size_bytes: int
    generation: int
    created_size_bytes: int
    """With the source, what create_volume was called with: a repetition is compared with it, not with the present."""
    source_snapshot_id: str | None


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    version: int
    size_bytes: int
    volume_id: str
    cut_key: str
    cut: float
    root_checksum: str | None = None
    """The manifest, once sealed; "" for an empty map, which has no root."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    kind: Literal["cut", "restore", "withdrawn"]
    time: float
    pairs: tuple[tuple[str, str], ...] = ()
    """(volume id, snapshot id) as they were asked for."""


Record = TypeVar("Record", VolumeRecord, SnapshotRecord)


def dump(record: VolumeRecord | SnapshotRecord | KeyRecord | Tombstone) -> bytes:
    return json.dumps(asdict(record), separators=(",", ":")).encode()


def load(kind: type[Record], value: bytes) -> Record | Tombstone:
    fields: dict[str, Any] = json.loads(value)
    return Tombstone(**fields) if "deleted" in fields else kind(**fields)


def load_key(value: bytes) -> KeyRecord:
    fields: dict[str, Any] = json.loads(value)
    fields["pairs"] = tuple((volume_id, snapshot_id) for volume_id, snapshot_id in fields["pairs"])
    return KeyRecord(**fields)


def is_older(table: str, value: bytes, before: float) -> bool:
    """Whether a record of this table is a key or a tombstone from before that time."""
    fields: dict[str, Any] = json.loads(value)
    time: float = fields["time"] if table == "keys" else fields.get("deleted", before)
    return time < before


def now() -> float:
    return datetime.now(UTC).timestamp()


def moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
