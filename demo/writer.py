"""The writer of dependent records: what a database does whose log is on one disk and whose tables are on another.

It writes record n to disk A, waits until that is durable, writes n to disk B, waits, and goes on with n + 1. Whatever
moment a snapshot shows, then, B is never ahead of A, and A is ahead of B by one record at most. Two snapshots taken
one after the other, however quickly, would break this.
"""

import hashlib
import os
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from stillpoint.disk.v1.block_service_pb2 import Extent, WriteBlocksRequest
from stillpoint.disk.v1.block_service_pb2_grpc import BlockServiceStub
from stillpoint_cli.errors import Failure, explain

RECORD_BYTES = 4096
_HEAD = struct.Struct(">QQ")
_DIGEST_BYTES = hashlib.sha256().digest_size
_FILLER_BYTES = RECORD_BYTES - _HEAD.size - _DIGEST_BYTES
_NOTHING = bytes(RECORD_BYTES)
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where on which disk a log is: record n is the block n - 1 of it."""

    disk_id: str
    disk_name: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a writer is on both disks: the last record begun, and the last that was answered as durable."""

    begun_a: int = 0
    durable_a: int = 0
    begun_b: int = 0
    durable_b: int = 0


@dataclass(frozen=True, slots=True)
class LogContent:
    """What a log holds: records 1 to `last`, written until `last_time`; `fault` says what contradicts that."""

    disk_name: str
    last: int
    last_time: float
    fault: str | None


class Writer:
    """Writes on a thread of its own until told to stop."""

    def __init__(self, blocks: BlockServiceStub, a: LogPlace, b: LogPlace) -> None:
        self._blocks = blocks
        self._a, self._b = a, b
        self._progress = Progress()
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._waits: list[tuple[float, float]] = []

    @property
    def progress(self) -> Progress:
        return self._progress

    @contextmanager
    def writing(self) -> Iterator[None]:
        with _Stream(self._blocks, self._a.disk_id) as a, _Stream(self._blocks, self._b.disk_id) as b:
            thread = threading.Thread(target=self._run, args=(a, b), name="writer", daemon=True)
            thread.start()
            yield
            self._stop.set()
            thread.join(_PATIENCE_SECONDS)
        self._raise_error()

    def go_on(self, records: int, seconds: float) -> None:
        """Returns when that many more records are on both disks and that much time has passed."""
        goal, began = self._progress.durable_b + records, time.monotonic()
        while self._progress.durable_b < goal or time.monotonic() - began < seconds:
            self._raise_error()
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise Failure(f"the writer did not get {records} records further in {_PATIENCE_SECONDS:g} s")
            time.sleep(0.02)

    def longest_wait_seconds(self, begin: float, end: float) -> float:
        """The longest that it waited for one answer while that time (of `time.monotonic`) went by."""
        return max(
            (until - since for since, until in self._waits if since < end and until > begin), default=0
        )

    def usual_wait_seconds(self) -> float:
        return statistics.median(until - since for since, until in self._waits)

    def _run(self, a: "_Stream", b: "_Stream") -> None:
        try:
            for n in range(1, self._a.size_bytes // RECORD_BYTES + 1):
                record = make_record(n, time.time_ns())
                offset = (n - 1) * RECORD_BYTES
                # Each a new value: who reads it from another thread sees one that held, never half of two.
                self._progress = Progress(n, n - 1, n - 1, n - 1)
                self._write(a, self._a.offset_bytes + offset, record)
                self._progress = Progress(n, n, n, n - 1)
                self._write(b, self._b.offset_bytes + offset, record)
                self._progress = Progress(n, n, n, n)
                if self._stop.is_set():
                    return
            raise Failure("its log is full")
        except Exception as error:  # noqa: BLE001 - whoever waits for this thread raises it
            self._error = error

    def _write(self, stream: "_Stream", offset_bytes: int, record: bytes) -> None:
        began = time.monotonic()
        stream.write(offset_bytes, record)
        self._waits.append((began, time.monotonic()))

    def _raise_error(self) -> None:
        if self._error is not None:
            reason = explain(self._error) or repr(self._error)
            raise Failure(f"the writer failed: {reason}") from self._error


class _Stream:
    """One WriteBlocks stream, used one message at a time. Leaving it ends who waits for an answer."""

    def __init__(self, blocks: BlockServiceStub, disk_id: str) -> None:
        self._disk_id = disk_id
        self._messages: SimpleQueue[WriteBlocksRequest | None] = SimpleQueue()
        self._answers = blocks.WriteBlocks(iter(self._messages.get, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._messages.put(None)
        self._answers.cancel()

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Returns when it is durable."""
        extent = Extent(offset_bytes=offset_bytes, data=data)
        self._messages.put(WriteBlocksRequest(disk_id=self._disk_id, extents=[extent]))
        next(self._answers)


def make_record(n: int, time_ns: int) -> bytes:
    content = _HEAD.pack(n, time_ns) + os.urandom(_FILLER_BYTES)
    return content + hashlib.sha256(content).digest()


def read_log(image: Path, place: LogPlace) -> LogContent:
    """Reads a log from the image of its disk: whole records in order, then nothing but zeros to the end."""
    last, last_time_ns, fault = 0, 0, None
    with image.open("rb") as file:
        file.seek(place.offset_bytes)
        blocks = [file.read(RECORD_BYTES) for _ in range(place.size_bytes // RECORD_BYTES)]
    for n, block in enumerate(blocks, start=1):
        if block == _NOTHING:
            break
        found, time_ns = _HEAD.unpack_from(block)
        content, digest = block[:-_DIGEST_BYTES], block[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            fault = f"where record {n:,} should be are other bytes"
            break
        if found != n:
            fault = f"where record {n:,} should be is record {found:,}"
            break
        last, last_time_ns = n, time_ns
    beyond = next((n for n, block in enumerate(blocks[last:], start=last + 1) if block != _NOTHING), None)
    if fault is None and beyond is not None:
        fault = f"record {last + 1:,} is missing, but there is something where record {beyond:,} goes"
    return LogContent(place.disk_name, last, last_time_ns / 1e9, fault)
