"""The block store: where the bytes of volumes and of their snapshots live.

A *volume* is an array of bytes of a fixed size, all zero at first, that can be written and read at any offset. A
*snapshot* is a volume's content at one moment; it never changes. Both are *objects*, named by ids that the caller makes
up and that are never used again. A store holds nothing the caller has not named, so whoever keeps the ids knows all.

    create_volume ──▶ volume ──cut──▶ snapshot ──create_volume(source_snapshot_id)──▶ another volume
                        ▲                 │
                        └─────restore─────┘

**One order.** Everything that changes the store takes its place in one queue and is committed in that order, in groups.
A call returns, and a write's future resolves, when the change is on disk: it is there after `kill -9` and after a power
cut. A reader sees committed changes only.

**One moment.** `cut` takes any number of volumes in one transaction. If a write to one volume was answered before a
write to another was sent, no cut holds the second without the first. Writers are not paused.

**Cheap history.** A cut, a restore and a volume from a snapshot cost the same at any size; they share what they have in
common, and each can be deleted at any time, in any order, whoever descends from it. Deleting answers at once, and the
space comes back behind it, also after a restart (see `reclaim`). It comes back to the store, not to the file system.

**Fences.** A volume has a *generation*. A writer is good for the generation it was opened in, and each write is checked
inside the transaction that applies it. `fence`, `restore` and `delete_volume` raise the generation: what an old writer
sends after that, or had waiting, is `Fenced`.

**Again is safe.** Callers are steps of sagas: they repeat what they have no answer to, and undo what may or may not have
happened. So an operation with the same id or key has one effect, an undo tolerates that there is nothing to undo, and
it leaves a *tombstone* that refuses a do which arrives after it (`Withdrawn`). Keys and tombstones stay until `forget`.
Keys of `cut` and `restore` share one namespace.

**Errors** are in errors.py. `Refused` and all below it: nothing was changed. `DataLoss`: what was read is not what was
written, and is never returned as data. `OutOfSpace` comes while there is still a reserve, so that what frees space goes
on working. `StoreClosed` is possible everywhere and not repeated below. An id or a key that is empty or over 500 bytes
and a size that is not positive are the caller's bugs: ValueError.

All offsets, lengths and sizes are in bytes and need no alignment. Every method may be called from any thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from disk_svc.blockstore.errors import DataLoss, StoreError


@dataclass(frozen=True, slots=True)
class Cut:
    volume_id: str
    snapshot_id: str
    """The id the new snapshot is to have."""


@dataclass(frozen=True, slots=True)
class Restore:
    volume_id: str
    snapshot_id: str


@dataclass(frozen=True, slots=True)
class Extent:
    offset_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Range:
    offset_bytes: int
    length_bytes: int

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes


@dataclass(frozen=True, slots=True)
class Writer:
    """The right to write to a volume until its generation is raised. Costs nothing to open or to forget."""

    volume_id: str
    generation: int
    size_bytes: int
    """When it was opened; a resize since then counts, and does not end the writer."""


@dataclass(frozen=True, slots=True)
class VolumeEntry:
    volume_id: str
    size_bytes: int
    generation: int
    source_snapshot_id: str | None


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    snapshot_id: str
    volume_id: str
    size_bytes: int
    cut_key: str
    cut_time: datetime
    sealed: bool


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key of `cut` or `restore` that the store remembers, or that was withdrawn."""

    key: str
    kind: str
    """"cut", "restore" or "withdrawn"."""
    time: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    used_bytes: int
    """What is stored, what waits for reclaim included."""
    free_bytes: int
    """What may still be written before OutOfSpace; the reserve is not in it."""
    reclaim_queue_length: int
    """Deletions whose bytes have not come back yet. How many bytes that is, only the walk finds out."""
    file_bytes: int
    """What the file system holds of it: what is stored, and free pages that are written again before the file grows."""
    limit_bytes: int
    """The most that the file may grow to, if the file system has room for it."""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A slice of a scrub: so much was read and compared with its checksums, holes not counted, and this of it is lost."""

    checked_bytes: int
    lost: tuple[DataLoss, ...]


class Observer(Protocol):
    """Is told of what a store does, by the threads that do it: it must be quick, and must not fail."""

    def has_read(self, length_bytes: int) -> None: ...

    def has_written(self, length_bytes: int) -> None:
        """Taken in, as the caller gave it; not yet durable."""

    def has_committed(self, changes: int, seconds: float) -> None:
        """A group of changes, in so long from the beginning of its transaction until it was on disk."""


class BlockStore(Protocol):
    def create_volume(self, volume_id: str, size_bytes: int, source_snapshot_id: str | None = None) -> None:
        """Makes a volume: blank, or with a snapshot's content and zeros beyond it.

        Idempotent by id: with the same arguments again, also after writes and resizes, nothing happens; with others,
        AlreadyUsed. After delete_volume(volume_id): Withdrawn.

        UnknownSnapshot: no such source. OutOfRange: smaller than the source, or larger than the store can map.
        OutOfSpace.
        """

    def resize_volume(self, volume_id: str, size_bytes: int) -> None:
        """Makes a volume as large as this; the new part reads zero. The same size again: nothing happens.

        UnknownVolume. OutOfRange: smaller than it is, or larger than the store can map.
        """

    def delete_volume(self, volume_id: str) -> None:
        """Ends a volume and its writers; its snapshots stay. Idempotent, and tolerates an id that never was.

        Leaves a tombstone: a create_volume that comes late is Withdrawn. Works when there is no space.
        """

    def cut(self, key: str, cuts: Sequence[Cut]) -> datetime:
        """Takes a snapshot of every volume named, all at one moment, and answers that moment in UTC.

        All or none. The moment is one commit of the store: everything answered before this call began is in it, and so
        is every write that was queued before it. One volume may be cut twice.

        Idempotent by key: the same again, also when the volumes have changed or gone, answers the moment recorded.
        AlreadyUsed: the key stands for something else, or a snapshot's id names something else. Withdrawn: the key was
        withdrawn, or a snapshot's id deleted. UnknownVolume. OutOfSpace.
        """

    def withdraw_cut(self, key: str) -> None:
        """Undoes a cut: its snapshots are deleted, and a cut or a restore with this key that comes late is Withdrawn.

        Idempotent, and tolerates that the cut never happened. Works when there is no space.
        AlreadyUsed: the key is a restore's.
        """

    def seal(self, snapshot_ids: Sequence[str]) -> Mapping[str, StoreError | None]:
        """Checks what each snapshot stands on and writes its manifest; one result for each, None for good.

        It reads the root of the snapshot's map, not the snapshot: the cost does not depend on what was written. A sealed
        snapshot's manifest holds the root's checksum, so that `scrub` notices a root that is not the one sealed.
        Idempotent: the check is made again.

        Results: UnknownSnapshot (never cut, or deleted). DataLoss. OutOfSpace.
        """

    def restore(self, key: str, restores: Sequence[Restore]) -> None:
        """Gives every volume named the content of a snapshot, all in one transaction, and ends their writers.

        All or none. A volume that grew since keeps its size and reads zero beyond the snapshot; one that is smaller
        than the snapshot gets its size. Any snapshot serves, of this volume or of another.

        Idempotent by key: the same again does nothing, even if data was written in between. AlreadyUsed: the key stands
        for something else. Withdrawn: the key was withdrawn. UnknownVolume, UnknownSnapshot. DataLoss: a snapshot's root
        is damaged; no volume was changed.
        """

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        """Deletes snapshots, all in one transaction; whatever was made from them stays.

        Idempotent, and tolerates ids that never were. Leaves tombstones: a cut to such an id that comes late is
        Withdrawn. Works when there is no space.
        """

    def fence(self, volume_ids: Sequence[str]) -> None:
        """Ends every writer of these volumes: when this returns, nothing they send or have sent will be applied any more.

        Volumes that do not exist have no writers and are passed over.
        """

    def open_writer(self, volume_id: str) -> Writer:
        """UnknownVolume."""

    def write(self, writer: Writer, extents: Sequence[Extent]) -> Future[None]:
        """Writes all the extents, in order, or none; the future resolves when they are durable.

        Until then another crash may leave none of them, never some. Writes are applied in the order of these calls.
        Compressing happens in the calling thread, and the call waits while too many bytes are queued: it is not for an
        event loop's thread. Cancelling the future withdraws the write if its commit has not begun.

        On the future: Fenced. OutOfRange. OutOfSpace. DataLoss (a part of a damaged chunk was to be replaced).
        """

    def read(self, object_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        """The bytes of a volume or snapshot as of one moment; what was never written is zero.

        Holds what is free from reuse for as long as it lasts: ask for a message's worth, not for a disk.

        UnknownObject. OutOfRange. DataLoss.
        """

    def allocated(self, object_id: str, offset_bytes: int, limit_ranges: int) -> Sequence[Range]:
        """Where, from this offset on, something other than a hole is stored: in order, at most so many ranges.

        To go on, ask again from the last range's end. An empty answer means that nothing follows; a short one does not,
        for a call also ends after a bounded amount of work. Neighbours within one answer are merged. Borders are the
        store's chunks, clipped to the offset and the object's size.

        UnknownObject. DataLoss.
        """

    def changed(
        self, base_snapshot_id: str, object_id: str, offset_bytes: int, limit_ranges: int
    ) -> Sequence[Range]:
        """Where the object may differ from the snapshot, in the form of `allocated`.

        What is not in a range is the same in both; the zeros beyond a smaller base included. What is in one was written
        on one side since they parted, perhaps with the same bytes. The cost follows what differs. Past the object's end
        nothing is reported.

        UnknownSnapshot. UnknownObject. DataLoss.
        """

    def size_bytes(self, object_id: str) -> int:
        """UnknownObject."""

    def inventory(self) -> Iterator[VolumeEntry | SnapshotEntry | KeyEntry]:
        """Everything that exists and every key remembered, page by page: what changes meanwhile may or may not show."""

    def usage(self) -> Usage: ...

    def observe(self, observer: Observer) -> None:
        """Tell this one, and no other, what is done from now on."""

    def reclaim(self, limit_keys: int) -> bool:
        """One slice of giving back what deletions left: at most about so many keys. True while more is left.

        The store does this by itself, in the background and from where it was when it was last closed or killed.
        """

    def scrub(self) -> Iterator[Scrubbed]:
        """Reads everything that is live, slice by slice. What is shared is read once, and named for one holder only."""

    def forget(self, before: datetime) -> int:
        """Drops keys and tombstones older than this and answers how many: after that, late calls are not recognised."""

    def close(self) -> None:
        """Commits what is queued, then ends. Idempotent."""
