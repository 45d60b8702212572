"""Moves the bytes of a disk: into it from a file, out of it into a sparse file.

An import counts a byte as done when the service has said that it is durable, never when it was sent: the progress bar
and the end of the command mean the same thing.
"""

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from stillpoint.disk.v1.block_service_pb2 import Extent, ReadBlocksRequest, WriteBlocksRequest
from stillpoint.disk.v1.disk_service_pb2 import GetDiskRequest
from stillpoint.disk.v1.disk_snapshot_service_pb2 import GetDiskSnapshotRequest
from stillpoint_cli.addresses import Service
from stillpoint_cli.bars import byte_bar
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import Failure
from stillpoint_cli.values import format_duration, format_size
from svckit.memory import keep_large_buffers

MESSAGE_BYTES = 1 << 20
# Messages on their way: enough to keep the service's commits grouped, and 16 MiB of memory at most.
WINDOW_MESSAGES = 16
# The grain in which zeros are told from data: a hole in a file is no smaller, and comparing it costs next to nothing.
GRAIN_BYTES = 1 << 16
_ZEROS = bytes(GRAIN_BYTES)


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a transfer did."""

    file: str
    size_bytes: int
    data_bytes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self, verb: str, resource_id: str) -> str:
        rate = format_size(int(self.size_bytes / self.seconds)) if self.seconds else "–"
        return (
            f"{format_size(self.size_bytes)} {verb} {resource_id} in {format_duration(self.seconds)} "
            f"({rate}/s), {format_size(self.data_bytes)} of them data"
        )


def import_file(
    connections: Connections, disk_id: str, path: Path, *, sparse: bool, show_progress: bool
) -> Transferred:
    keep_large_buffers()
    size = path.stat().st_size
    disk = connections.disks.GetDisk(GetDiskRequest(disk_id=disk_id)).disk
    if size > disk.size_bytes:
        sizes = f"{format_size(size)} ({size} bytes), the disk {format_size(disk.size_bytes)} ({disk.size_bytes} bytes)"
        raise Failure(f"{path} does not fit on {disk_id}: it has {sizes}")
    began = time.monotonic()
    with path.open("rb") as file, _progress(path.name, size, show=show_progress) as advance:
        data_bytes = durable_end = 0
        wait = connections.wait(Service.DISK)
        while True:
            upload = _Upload(disk_id, file, durable_end, sparse=sparse)
            try:
                for durable_end in upload.run(connections):
                    wait = connections.answered(Service.DISK)
                    advance(durable_end)
                break
            except grpc.RpcError as error:
                # What was on its way may be written or not. It is sent again from the last answer on: the same bytes to
                # the same place.
                wait.sleep_after(error)
            finally:
                data_bytes += upload.data_bytes
        # What comes after the last message of a sparse file are zeros, which need none.
        advance(size)
    return Transferred(str(path), size, data_bytes, time.monotonic() - began)


class _Upload:
    """One WriteBlocks stream, from `begin` to the end of the file. gRPC pulls the messages on a thread of its own; the window
    makes that thread wait.
    """

    def __init__(self, disk_id: str, file: BinaryIO, begin: int, *, sparse: bool) -> None:
        self._disk_id = disk_id
        self._file = file
        self._begin = begin
        self._sparse = sparse
        self._window = threading.Semaphore(WINDOW_MESSAGES)
        self._stopped = threading.Event()
        # How far into the file each message reaches that is on its way, and how many bytes it has.
        self._sent: deque[tuple[int, int]] = deque()
        self._read_error: OSError | None = None
        self.data_bytes = 0
        """Of those that are durable."""

    def run(self, connections: Connections) -> Iterator[int]:
        """Yields, as answers come, how far into the file everything is durable."""
        messages = self._messages()
        # A stream needs a first message to name the disk: an empty or, if sparse, all zero file makes none.
        first = next(messages, None)
        if first is None:
            return
        messages_durable = 0
        durable_end = self._begin
        try:
            for answer in connections.blocks.WriteBlocks(itertools.chain([first], messages)):
                while messages_durable < answer.messages_durable:
                    durable_end, data_bytes = self._sent.popleft()
                    self.data_bytes += data_bytes
                    messages_durable += 1
                    self._window.release()
                yield durable_end
        finally:
            self._stopped.set()
            self._window.release()
        if self._read_error is not None:
            raise self._read_error
        if self._sent:
            raise Failure(
                f"the service closed the stream early: everything up to byte {durable_end} is durable, the rest is not"
            )

    def _messages(self) -> Iterator[WriteBlocksRequest]:
        offset = self._begin
        try:
            # At its own place: a stream that broke may still have its thread here.
            while data := os.pread(self._file.fileno(), MESSAGE_BYTES, offset):
                runs = list(data_runs(data)) if self._sparse else [(0, data)]
                extents = [Extent(offset_bytes=offset + start, data=run) for start, run in runs]
                offset += len(data)
                if not extents:
                    continue
                self._window.acquire()
                if self._stopped.is_set():
                    return
                self._sent.append((offset, sum(len(extent.data) for extent in extents)))
                yield WriteBlocksRequest(disk_id=self._disk_id, extents=extents)
        except OSError as error:
            # gRPC would log a traceback and say UNKNOWN. The stream ends here instead, and `run` raises this.
            self._read_error = error


def export_file(connections: Connections, source_id: str, path: Path, *, show_progress: bool) -> Transferred:
    keep_large_buffers()
    if source_id.startswith("snap-"):
        size = connections.disk_snapshots.GetDiskSnapshot(
            GetDiskSnapshotRequest(snapshot_id=source_id)
        ).snapshot.size_bytes
        request = ReadBlocksRequest(snapshot_id=source_id)
    else:
        size = connections.disks.GetDisk(GetDiskRequest(disk_id=source_id)).disk.size_bytes
        request = ReadBlocksRequest(disk_id=source_id)
    if path.exists() and not path.is_file():
        raise Failure(
            f"{path} is not a file; what it holds now would show through wherever the disk reads zero"
        )
    began = time.monotonic()
    # Under another name until it is whole: an export that broke off never passes for an image.
    part = path.with_name(f"{path.name}.part")
    try:
        with (
            part.open("wb") as file,
            _progress(path.name, size, show=show_progress) as advance,
        ):
            file.truncate(size)
            data_bytes = 0
            end = 0
            wait = connections.wait(Service.DISK)
            while True:
                try:
                    for piece in connections.blocks.ReadBlocks(request):
                        if piece.offset_bytes != end:
                            raise Failure(f"the service skipped from byte {end} to {piece.offset_bytes}")
                        for start, run in data_runs(piece.data):
                            file.seek(end + start)
                            file.write(run)
                            data_bytes += len(run)
                        end += piece.length_bytes
                        wait = connections.answered(Service.DISK)
                        advance(end)
                    break
                except grpc.RpcError as error:
                    wait.sleep_after(error)
                    request.offset_bytes = end
                    if end == size:
                        break
            if end != size:
                raise Failure(f"the service ended the stream at byte {end} of {size}")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return Transferred(str(path), size, data_bytes, time.monotonic() - began)


def data_runs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The stretches of whole grains that are not zero, and where each begins."""
    begin: int | None = None
    for offset in range(0, len(data), GRAIN_BYTES):
        grain = data[offset : offset + GRAIN_BYTES]
        if grain == _ZEROS[: len(grain)]:
            if begin is not None:
                yield begin, data[begin:offset]
                begin = None
        elif begin is None:
            begin = offset
    if begin is not None:
        yield begin, data[begin:]


@contextmanager
def _progress(title: str, size_bytes: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    # The title is the file's name alone: with an id beside it the figures do not fit into 80 columns.
    with byte_bar(show=show) as progress:
        task = progress.add_task(title, total=size_bytes)
        yield lambda done: progress.update(task, completed=done)
