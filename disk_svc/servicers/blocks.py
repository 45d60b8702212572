"""The streams of bytes: coroutines that hold no thread while they wait for the client or for the disk.

A reader fetches one piece ahead of what it sends; what a writer does is in write_streams.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from disk_svc.service.blocks import Blocks, OpenVolume, RangeReader
from disk_svc.servicers.write_streams import Threads, durable_lengths
from stillpoint.disk.v1 import block_service_pb2, block_service_pb2_grpc
from svckit.validation import Checks

_MAX_MESSAGE_DATA_BYTES = 4 << 20
_MAX_EXTENTS = 1024


class BlockServicer(block_service_pb2_grpc.BlockServiceServicer):
    """stillpoint.disk.v1.BlockService."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._threads = Threads("blocks")

    async def ReadBlocks(
        self, request: block_service_pb2.ReadBlocksRequest, context: Any
    ) -> AsyncIterator[block_service_pb2.ReadBlocksResponse]:
        with Checks() as check:
            source = request.WhichOneof("source")
            check.that(source is not None, "source", "is not set")
            if source is not None:
                check.resource_id(source, request.disk_id or request.snapshot_id)
            check.that(request.offset_bytes >= 0, "offset_bytes", "is negative")
            check.that(request.length_bytes >= 0, "length_bytes", "is negative")
        reader = await self._threads.run(self._open_reader, request)
        ahead = self._threads.run(reader.next)
        try:
            while (piece := await ahead) is not None:
                ahead = self._threads.run(reader.next)
                yield block_service_pb2.ReadBlocksResponse(
                    offset_bytes=piece.offset_bytes, length_bytes=piece.length_bytes, data=piece.data
                )
        finally:
            await asyncio.gather(ahead, return_exceptions=True)

    def _open_reader(self, request: block_service_pb2.ReadBlocksRequest) -> RangeReader:
        if request.WhichOneof("source") == "disk_id":
            return self._blocks.open_disk_reader(request.disk_id, request.offset_bytes, request.length_bytes)
        return self._blocks.open_snapshot_reader(
            request.snapshot_id, request.offset_bytes, request.length_bytes
        )

    async def WriteBlocks(
        self, request_iterator: AsyncIterator[block_service_pb2.WriteBlocksRequest], context: Any
    ) -> AsyncIterator[block_service_pb2.WriteBlocksResponse]:
        messages = written = 0
        async with aclosing(
            durable_lengths(self._threads, request_iterator, self._open_volume, _check)
        ) as lengths:
            async for length_bytes in lengths:
                messages += 1
                written += length_bytes
                yield block_service_pb2.WriteBlocksResponse(messages_durable=messages, bytes_durable=written)

    def _open_volume(self, request: block_service_pb2.WriteBlocksRequest) -> OpenVolume:
        return self._blocks.open_writer(request.disk_id)


def _check(request: block_service_pb2.WriteBlocksRequest, disk: OpenVolume | None) -> None:
    with Checks() as check:
        if disk is None:
            check.resource_id("disk_id", request.disk_id)
        else:
            check.that(
                request.disk_id in ("", disk.volume_id),
                "disk_id",
                "names another disk than the first message",
            )
        count = len(request.extents)
        check.that(0 < count <= _MAX_EXTENTS, "extents", f"has {count} of 1 to {_MAX_EXTENTS} extents")
        length_bytes = 0
        for number, extent in enumerate(request.extents[:_MAX_EXTENTS]):
            check.that(extent.offset_bytes >= 0, f"extents[{number}].offset_bytes", "is negative")
            check.that(len(extent.data) > 0, f"extents[{number}].data", "is empty")
            length_bytes += len(extent.data)
        check.that(
            length_bytes <= _MAX_MESSAGE_DATA_BYTES,
            "extents",
            f"have more than {_MAX_MESSAGE_DATA_BYTES} bytes",
        )
