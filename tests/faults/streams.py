"""Writers over real WriteBlocks streams, and what they know for certain: what they have sent, and what was acknowledged."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue

import grpc

from stillpoint.disk.v1 import block_service_pb2
from tests.faults.stage import BLOCK_BYTES, Stage


def numbered(disk_id: str, number: int, offset_bytes: int = 0) -> block_service_pb2.WriteBlocksRequest:
    """A write of one block that says its number, all over."""
    extent = block_service_pb2.Extent(
        offset_bytes=offset_bytes, data=f"{number:016d}".encode() * (BLOCK_BYTES // 16)
    )
    return block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])


def number_in(block: bytes) -> int:
    """The number of a block that was written whole; 0 for one that was never written."""
    if not block.strip(b"\0"):
        return 0
    said = block[:16]
    assert block == said * (len(block) // 16), "a block is torn"
    return int(said)


class Stream:
    """One write at a time: `write` returns when the number is durable."""

    def __init__(self, stage: Stage, disk_id: str) -> None:
        self.sent = 0
        self.acknowledged = 0
        self._disk_id = disk_id
        self._requests: SimpleQueue[block_service_pb2.WriteBlocksRequest | None] = SimpleQueue()
        self._answers = stage.blocks.WriteBlocks(iter(self._requests.get, None))

    def write(self, number: int) -> None:
        self.sent = number
        self._requests.put(numbered(self._disk_id, number))
        next(self._answers)
        self.acknowledged = number

    def close(self) -> None:
        self._requests.put(None)


class DependentWriter:
    """Writes n to disk A, waits for the answer, then writes n to disk B, forever: what a file system's journal, or a
    database's log on a second disk, does.
    """

    def __init__(self, stage: Stage, disk_a: str, disk_b: str) -> None:
        self.a = Stream(stage, disk_a)
        self.b = Stream(stage, disk_b)
        self.disk_ids = (disk_a, disk_b)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def acknowledged(self) -> tuple[int, int]:
        return self.a.acknowledged, self.b.acknowledged

    def sent(self) -> tuple[int, int]:
        return self.a.sent, self.b.sent

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.a.close()
        self.b.close()

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            self.a.write(number)
            self.b.write(number)


class LoadWriter:
    """Writes as fast as the stream takes it, round and round a disk, until the stream breaks."""

    def __init__(self, stage: Stage, disk_id: str, *, blocks: int, first: int) -> None:
        self.sent = first - 1
        self.acknowledged = first - 1
        self._first = first
        self._disk_id = disk_id
        self._blocks = blocks
        self._stage = stage
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with suppress(grpc.RpcError):
            for answer in self._stage.blocks.WriteBlocks(self._requests()):
                self.acknowledged = self._first - 1 + answer.messages_durable

    def _requests(self) -> Iterator[block_service_pb2.WriteBlocksRequest]:
        while True:
            self.sent += 1
            yield numbered(self._disk_id, self.sent, self.sent % self._blocks * BLOCK_BYTES)
