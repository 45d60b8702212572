"""The bytes of copies: sent to another region window by window, and each window compared when it is stored there.

A window is a range of a snapshot with at most `_WINDOW_BYTES` stored in it, holes not counted: a disk that is all holes
is one. What differs from the base goes, or what is stored where there is no base. Then both sides hash the whole window,
what was there before included, so that a copy is compared to its last byte whatever it began with.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from disk_svc.blockstore import BlockStore, Extent, Range, StoreError
from disk_svc.clients import Importers
from disk_svc.errors import CopyDiffers, refusing
from disk_svc.service import digest, ranges
from svckit.errors import Refusal
from svckit.saga import More, Progress, Run

_WINDOW_BYTES = 32 << 20
_MESSAGE_BYTES = 1 << 20
_WINDOW_SECONDS = 1.0
"""On a slow line a window ends when this has passed: what a crash costs, and what a shutdown waits for."""


class Transfer:
    """Sends the snapshots that a copy's saga names to the region that it names."""

    def __init__(self, store: BlockStore, importers: Importers) -> None:
        self._store = store
        self._importers = importers

    def slice(self, run: Run) -> More | None:
        """One window; None when everything is there."""
        snapshots = run.input["snapshots"]
        number, offset, sent = (run.data.get(name, 0) for name in ("number", "offset_bytes", "sent_bytes"))
        if number == len(snapshots):
            return None
        window = _Window(run, snapshots[number], run.data["bases"][number], offset)
        offset, sent_now = self._copy(window)
        sent += sent_now
        if offset == window.size_bytes:
            number, offset = number + 1, 0
        sizes = [snapshot["size_bytes"] for snapshot in snapshots]
        return More(
            {"number": number, "offset_bytes": offset, "sent_bytes": sent},
            Progress(sum(sizes[:number]) + offset, sum(sizes), sent),
        )

    def _copy(self, window: "_Window") -> tuple[int, int]:
        """Returns up to where the snapshot is there, and how many bytes were sent for that."""
        with refusing():
            to_send, end = self._what_to_send(window)
        first = self._send(window, to_send, until=time.monotonic() + _WINDOW_SECONDS)
        if first.unsent_from is not None:
            end = first.unsent_from
        if self._is_there(window, end):
            return end, first.sent_bytes
        # All of it, also what the base should have had; what is stored and differs goes twice.
        with refusing():
            everything = [*self._stored(window, end), *self._different(window, end)]
        again = self._send(window, everything)
        if not self._is_there(window, end):
            raise CopyDiffers(window.snapshot_id, window.run.input["region"], window.offset_bytes)
        return end, first.sent_bytes + again.sent_bytes

    def _what_to_send(self, window: "_Window") -> tuple[list[Range], int]:
        """And where the window ends."""
        stored, end = _a_window_of(self._stored(window, window.size_bytes), window.size_bytes)
        if not window.base_id:
            return stored, end
        return _a_window_of(self._different(window, end), end)

    def _stored(self, window: "_Window", end_bytes: int) -> Iterator[Range]:
        return ranges.allocated(self._store, window.snapshot_id, window.offset_bytes, end_bytes)

    def _different(self, window: "_Window", end_bytes: int) -> Iterator[Range]:
        if not window.base_id:
            return iter(())
        return ranges.changed(self._store, window.base_id, window.snapshot_id, window.offset_bytes, end_bytes)

    def _send(self, window: "_Window", to_send: list[Range], until: float | None = None) -> "_Outgoing":
        outgoing = _Outgoing(self._store, window.snapshot_id, to_send, until)
        if to_send:
            self._importers.write(window.run, window.copy_snapshot_id, outgoing.messages())
        with refusing():
            if outgoing.error is not None:
                raise outgoing.error
        return outgoing

    def _is_there(self, window: "_Window", end_bytes: int) -> bool:
        length_bytes = end_bytes - window.offset_bytes
        with refusing():
            here = digest.sha256(self._store, window.snapshot_id, window.offset_bytes, length_bytes)
        try:
            there = self._importers.digest(
                window.run, window.copy_snapshot_id, window.offset_bytes, length_bytes
            )
        except Refusal as refusal:
            if refusal.reason != "DATA_LOSS":
                raise
            return False  # of the base, which has rotted there: sending everything mends it
        return here == there


@dataclass(frozen=True, slots=True)
class _Window:
    """Where in which snapshot it begins; `base_id` is empty when there is none."""

    run: Run
    snapshot: Mapping[str, Any]
    base_id: str
    offset_bytes: int

    @property
    def snapshot_id(self) -> str:
        return str(self.snapshot["snapshot_id"])

    @property
    def copy_snapshot_id(self) -> str:
        return str(self.snapshot["copy_snapshot_id"])

    @property
    def size_bytes(self) -> int:
        return int(self.snapshot["size_bytes"])


class _Outgoing:
    """The messages of one stream. gRPC pulls them on a thread of its own, where nothing may be raised."""

    def __init__(
        self, store: BlockStore, snapshot_id: str, to_send: Iterable[Range], until: float | None
    ) -> None:
        self._store = store
        self._snapshot_id = snapshot_id
        self._to_send = to_send
        self._until = until
        self.sent_bytes = 0
        self.unsent_from: int | None = None
        """Where the time was over; None when everything was sent."""
        self.error: StoreError | None = None

    def messages(self) -> Iterator[list[Extent]]:
        """Small ranges share a message. The time ends no stream before its first."""
        message: list[Extent] = []
        room = _MESSAGE_BYTES
        try:
            for piece in _pieces(self._to_send):
                if piece.length_bytes > room:
                    yield message
                    if self._until is not None and time.monotonic() > self._until:
                        self.unsent_from = piece.offset_bytes
                        return
                    message, room = [], _MESSAGE_BYTES
                data = self._store.read(self._snapshot_id, piece.offset_bytes, piece.length_bytes)
                message.append(Extent(piece.offset_bytes, data))
                room -= piece.length_bytes
                self.sent_bytes += piece.length_bytes
            yield message
        except StoreError as error:
            self.error = error


def _pieces(found: Iterable[Range]) -> Iterator[Range]:
    """The same, none longer than a message."""
    for each in found:
        for offset in range(each.offset_bytes, each.end_bytes, _MESSAGE_BYTES):
            yield Range(offset, min(_MESSAGE_BYTES, each.end_bytes - offset))


def _a_window_of(found: Iterable[Range], end_bytes: int) -> tuple[list[Range], int]:
    """As many ranges as a window takes, and where it ends."""
    taken: list[Range] = []
    room = _WINDOW_BYTES
    for each in found:
        if each.length_bytes >= room:
            return [*taken, Range(each.offset_bytes, room)], each.offset_bytes + room
        taken.append(each)
        room -= each.length_bytes
    return taken, end_bytes
