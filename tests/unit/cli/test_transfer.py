import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import Result

from stillpoint.disk.v1.block_service_pb2 import (
    ReadBlocksRequest,
    ReadBlocksResponse,
    WriteBlocksRequest,
    WriteBlocksResponse,
)
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_service_pb2 import GetDiskRequest, GetDiskResponse
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import GetDiskSnapshotRequest, GetDiskSnapshotResponse
from stillpoint_cli.transfer import GRAIN_BYTES, MESSAGE_BYTES, WINDOW_MESSAGES, data_runs
from tests.unit.cli.fake_services import FakeServices, Refusal

Run = Callable[..., Result]
ZEROS = bytes(GRAIN_BYTES)
ONES = b"\1" * GRAIN_BYTES


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (b"", []),
        (ZEROS + ZEROS, []),
        (ONES + ONES, [(0, ONES + ONES)]),
        (ZEROS + ONES + ONES + ZEROS, [(GRAIN_BYTES, ONES + ONES)]),
        (ONES + ZEROS + b"tail", [(0, ONES), (2 * GRAIN_BYTES, b"tail")]),
        (ONES + bytes(3), [(0, ONES)]),
    ],
)
def test_data_runs_are_the_grains_that_are_not_zero(data: bytes, runs: list[tuple[int, bytes]]):
    assert list(data_runs(data)) == runs


class FakeDisk:
    """Takes WriteBlocks and acknowledges in groups, as a service that groups commits does."""

    def __init__(self, services: FakeServices, size: int, *, group: int = 1, lose: int = 0) -> None:
        self.content = bytearray(size)
        self.messages = 0
        self.most_unanswered = 0
        self._group = group
        self._lose = lose
        services.answer(
            "DiskService/GetDisk",
            GetDiskRequest,
            lambda request: GetDiskResponse(disk=Disk(id=request.disk_id, size_bytes=size)),
        )
        services.exchange("BlockService/WriteBlocks", WriteBlocksRequest, self._write)

    def _write(self, messages: Iterator[WriteBlocksRequest]) -> Iterator[WriteBlocksResponse]:
        answered = 0
        for message in messages:
            self.messages += 1
            self.most_unanswered = max(self.most_unanswered, self.messages - answered)
            for extent in message.extents:
                self.content[extent.offset_bytes : extent.offset_bytes + len(extent.data)] = extent.data
            if self.messages % self._group == 0:
                answered = self.messages
                yield WriteBlocksResponse(messages_durable=answered)
        if answered < self.messages - self._lose:
            yield WriteBlocksResponse(messages_durable=self.messages - self._lose)


def test_an_import_writes_the_whole_file_and_never_sends_more_than_its_window(
    services: FakeServices, run: Run, tmp_path: Path
):
    content = os.urandom(40 * MESSAGE_BYTES + 5)
    disk = FakeDisk(services, 41 * MESSAGE_BYTES, group=WINDOW_MESSAGES)
    (tmp_path / "image").write_bytes(content)
    result = run("disk", "import", "disk-1", tmp_path / "image")
    assert result.exit_code == 0, result.output
    assert disk.content == content + bytes(MESSAGE_BYTES - 5)
    assert disk.most_unanswered <= WINDOW_MESSAGES


def test_a_plain_import_writes_zeros_too(services: FakeServices, run: Run, tmp_path: Path):
    disk = FakeDisk(services, MESSAGE_BYTES)
    disk.content[:] = b"\xff" * MESSAGE_BYTES
    (tmp_path / "image").write_bytes(bytes(MESSAGE_BYTES))
    assert run("disk", "import", "disk-1", tmp_path / "image").exit_code == 0
    assert disk.content == bytes(MESSAGE_BYTES)


def test_a_sparse_import_sends_no_zeros(services: FakeServices, run: Run, tmp_path: Path):
    disk = FakeDisk(services, 8 * MESSAGE_BYTES)
    content = bytes(3 * MESSAGE_BYTES) + ZEROS + ONES + ZEROS + ONES
    (tmp_path / "image").write_bytes(content)
    result = run("disk", "import", "disk-1", tmp_path / "image", "--sparse", "--json")
    assert result.exit_code == 0, result.output
    assert disk.content.startswith(content)
    assert disk.messages == 1
    assert f'"data_bytes": {2 * GRAIN_BYTES}' in result.stdout


@pytest.mark.parametrize("content", [b"", bytes(MESSAGE_BYTES)])
def test_a_sparse_import_of_nothing_but_zeros_sends_nothing(
    content: bytes, services: FakeServices, run: Run, tmp_path: Path
):
    disk = FakeDisk(services, 8 * MESSAGE_BYTES)
    (tmp_path / "image").write_bytes(content)
    assert run("disk", "import", "disk-1", tmp_path / "image", "--sparse").exit_code == 0
    assert disk.messages == 0


def test_an_import_that_was_not_acknowledged_to_its_end_fails(
    services: FakeServices, run: Run, tmp_path: Path
):
    FakeDisk(services, 8 * MESSAGE_BYTES, group=3, lose=1)
    (tmp_path / "image").write_bytes(os.urandom(5 * MESSAGE_BYTES))
    result = run("disk", "import", "disk-1", tmp_path / "image")
    assert result.exit_code == 1
    assert f"everything up to byte {4 * MESSAGE_BYTES} is durable, the rest is not" in result.stderr


def test_an_import_that_is_refused_midway_fails_with_the_refusal(
    services: FakeServices, run: Run, tmp_path: Path
):
    FakeDisk(services, 64 * MESSAGE_BYTES)

    def refuse_second(messages: Iterator[WriteBlocksRequest]) -> Iterator[WriteBlocksResponse]:
        next(messages)
        yield WriteBlocksResponse(messages_durable=1)
        raise Refusal(grpc.StatusCode.ABORTED, "disk-1 was detached")

    services.exchange("BlockService/WriteBlocks", WriteBlocksRequest, refuse_second)
    (tmp_path / "image").write_bytes(bytes(60 * MESSAGE_BYTES))
    result = run("disk", "import", "disk-1", tmp_path / "image")
    assert result.exit_code == 1
    assert "Error: disk-1 was detached (ABORTED)" in result.stderr


@pytest.mark.parametrize("sparse", [(), ("--sparse",)])
def test_an_import_whose_stream_breaks_goes_on_after_the_last_answer(
    sparse: tuple[str, ...], services: FakeServices, run: Run, tmp_path: Path
):
    content = os.urandom(30 * MESSAGE_BYTES) + bytes(2 * MESSAGE_BYTES) + os.urandom(8 * MESSAGE_BYTES + 5)
    disk = FakeDisk(services, 41 * MESSAGE_BYTES)
    taken: list[list[int]] = []

    def break_twice(messages: Iterator[WriteBlocksRequest]) -> Iterator[WriteBlocksResponse]:
        offsets: list[int] = []
        taken.append(offsets)
        for number, message in enumerate(messages, start=1):
            if len(taken) < 3 and number == 12:
                # Not written, and never answered.
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "going down")
            for extent in message.extents:
                offsets.append(extent.offset_bytes // MESSAGE_BYTES)
                disk.content[extent.offset_bytes : extent.offset_bytes + len(extent.data)] = extent.data
            yield WriteBlocksResponse(messages_durable=number)

    services.exchange("BlockService/WriteBlocks", WriteBlocksRequest, break_twice)
    (tmp_path / "image").write_bytes(content)
    result = run("disk", "import", "disk-1", tmp_path / "image", "--json", *sparse)
    assert result.exit_code == 0, result.output
    assert disk.content == content + bytes(41 * MESSAGE_BYTES - len(content))
    assert [offsets[0] for offsets in taken] == [0, 11, 22]
    assert f'"data_bytes": {len(content) - (2 * MESSAGE_BYTES if sparse else 0)}' in result.stdout


def test_a_file_larger_than_the_disk_is_refused_before_a_byte_is_sent(
    services: FakeServices, run: Run, tmp_path: Path
):
    disk = FakeDisk(services, MESSAGE_BYTES)
    (tmp_path / "image").write_bytes(bytes(MESSAGE_BYTES + 1))
    result = run("disk", "import", "disk-1", tmp_path / "image")
    assert result.exit_code == 1
    assert "does not fit" in result.stderr
    assert disk.messages == 0


def serve_snapshot(services: FakeServices, size: int, *pieces: ReadBlocksResponse) -> None:
    services.answer(
        "DiskSnapshotService/GetDiskSnapshot",
        GetDiskSnapshotRequest,
        lambda request: GetDiskSnapshotResponse(
            snapshot=DiskSnapshot(id=request.snapshot_id, size_bytes=size)
        ),
    )
    answer: Callable[[Any], Any] = lambda _: iter(pieces)  # noqa: E731
    services.stream("BlockService/ReadBlocks", ReadBlocksRequest, answer)


def piece(offset: int, data: bytes, length: int = 0) -> ReadBlocksResponse:
    return ReadBlocksResponse(offset_bytes=offset, length_bytes=length or len(data), data=data)


def test_an_export_is_a_sparse_file_with_the_same_content(services: FakeServices, run: Run, tmp_path: Path):
    size = 64 * MESSAGE_BYTES
    serve_snapshot(
        services,
        size,
        piece(0, ZEROS + ONES),
        piece(2 * GRAIN_BYTES, b"", size - 3 * GRAIN_BYTES),
        piece(size - GRAIN_BYTES, ONES),
    )
    file = tmp_path / "image"
    file.write_bytes(b"what was here before")
    result = run("disk", "export", "snap-1", file)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == ZEROS + ONES + bytes(size - 3 * GRAIN_BYTES) + ONES
    assert file.stat().st_blocks * 512 < MESSAGE_BYTES


def test_an_export_whose_stream_breaks_goes_on_where_it_was(services: FakeServices, run: Run, tmp_path: Path):
    content = os.urandom(6 * GRAIN_BYTES)
    serve_snapshot(services, len(content))
    begun: list[int] = []

    def answer(request: ReadBlocksRequest) -> Iterator[ReadBlocksResponse]:
        begun.append(request.offset_bytes // GRAIN_BYTES)
        for offset in range(request.offset_bytes, len(content), GRAIN_BYTES):
            yield piece(offset, content[offset : offset + GRAIN_BYTES])
            if len(begun) < 3 and offset == request.offset_bytes + GRAIN_BYTES:
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "going down")

    services.stream("BlockService/ReadBlocks", ReadBlocksRequest, answer)
    result = run("disk", "export", "snap-1", tmp_path / "image")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "image").read_bytes() == content
    assert begun == [0, 2, 4]


@pytest.mark.parametrize(
    "pieces", [[piece(0, ONES)], [piece(0, ONES), piece(2 * GRAIN_BYTES, ONES)]], ids=["short", "gap"]
)
def test_an_export_that_is_not_whole_leaves_the_file_as_it_was(
    pieces: list[ReadBlocksResponse], services: FakeServices, run: Run, tmp_path: Path
):
    serve_snapshot(services, 3 * GRAIN_BYTES, *pieces)
    (tmp_path / "image").write_bytes(b"before")
    result = run("disk", "export", "snap-1", tmp_path / "image")
    assert result.exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["image"]
    assert (tmp_path / "image").read_bytes() == b"before"
