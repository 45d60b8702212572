"""The streams of bytes: coroutines that hold no thread while they wait for the client or for the disk.

A reader fetches one piece ahead of what it sends. A writer takes up to `_MESSAGES_AHEAD` messages in before the first is
durable, so that one commit of the store covers many.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from disk_svc import convert
from disk_svc.blockstore import Writer
from disk_svc.blockstore import errors as store_errors
from disk_svc.service.blocks import Blocks, RangeReader, write_refusal
from stillpoint.disk.v1 import block_service_pb2, block_service_pb2_grpc
from svckit.validation import Checks

_MESSAGES_AHEAD = 16
_THREADS = 8
_MAX_MESSAGE_DATA_BYTES = 4 << 20
_MAX_EXTENTS = 1024


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class BlockServicer(block_service_pb2_grpc.BlockServiceServicer):
    """stillpoint.disk.v1.BlockService."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        # Its own: a store with a full queue makes its callers wait, and requests must not wait with them.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blocks")

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
        reader = await self._in_thread(self._open_reader, request)
        ahead = self._in_thread(reader.next)
        try:
            while (piece := await ahead) is not None:
                ahead = self._in_thread(reader.next)
                yield block_service_pb2.ReadBlocksResponse(
                    offset_bytes=piece.offset_bytes, length_bytes=piece.length_bytes, data=piece.data
                )
        finally:
            await asyncio.gather(ahead, return_exceptions=True)

    def _in_thread(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> "asyncio.Future[Result]":
        """As asyncio.to_thread, in this servicer's threads."""
        bound = partial(contextvars.copy_context().run, function, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._threads, bound)

    def _open_reader(self, request: block_service_pb2.ReadBlocksRequest) -> RangeReader:
        if request.WhichOneof("source") == "disk_id":
            return self._blocks.open_disk_reader(request.disk_id, request.offset_bytes, request.length_bytes)
        return self._blocks.open_snapshot_reader(
            request.snapshot_id, request.offset_bytes, request.length_bytes
        )

    async def WriteBlocks(
        self, request_iterator: AsyncIterator[block_service_pb2.WriteBlocksRequest], context: Any
    ) -> AsyncIterator[block_service_pb2.WriteBlocksResponse]:
        """The answers, in order. An error ends the stream after the answers to what came before it."""
        queue: asyncio.Queue[_Pending | Exception | None] = asyncio.Queue(_MESSAGES_AHEAD)
        taking_in = asyncio.create_task(self._take_in(request_iterator, queue))
        messages = written = 0
        try:
            while (pending := await queue.get()) is not None:
                if isinstance(pending, Exception):
                    raise pending
                await self._durable(pending)
                messages += 1
                written += pending.length_bytes
                yield block_service_pb2.WriteBlocksResponse(messages_durable=messages, bytes_durable=written)
        finally:
            taking_in.cancel()
            await asyncio.gather(taking_in, return_exceptions=True)

    async def _take_in(
        self,
        requests: AsyncIterator[block_service_pb2.WriteBlocksRequest],
        queue: "asyncio.Queue[_Pending | Exception | None]",
    ) -> None:
        writer: Writer | None = None
        try:
            async for request in requests:
                _check(request, writer)
                if writer is None:
                    writer = await self._in_thread(self._blocks.open_writer, request.disk_id)
                future = await self._in_thread(self._blocks.write, writer, convert.extents(request))
                length_bytes = sum(len(extent.data) for extent in request.extents)
                await queue.put(_Pending(future, writer, length_bytes))
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 - it takes its place behind what was taken in before it
            await queue.put(error)

    async def _durable(self, pending: "_Pending") -> None:
        try:
            # Shielded: a client that goes away must not withdraw this message while those behind it are applied.
            await asyncio.shield(asyncio.wrap_future(pending.future))
        except store_errors.StoreError as error:
            size_bytes = 0
            if isinstance(error, store_errors.OutOfRange):
                size_bytes = await self._in_thread(self._blocks.size_bytes, pending.writer.volume_id)
            raise write_refusal(error, pending.writer, size_bytes) from error


class _Pending:
    """A message whose durability is awaited."""

    __slots__ = ("future", "length_bytes", "writer")

    def __init__(self, future: Future[None], writer: Writer, length_bytes: int) -> None:
        self.future = future
        self.writer = writer
        self.length_bytes = length_bytes


def _check(request: block_service_pb2.WriteBlocksRequest, writer: Writer | None) -> None:
    with Checks() as check:
        if writer is None:
            check.resource_id("disk_id", request.disk_id)
        else:
            check.that(
                request.disk_id in ("", writer.volume_id),
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
