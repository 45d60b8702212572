"""The receiving half of a stream of writes, whoever sends it: a client to a disk, or another region to a copy.

Up to `_MESSAGES_AHEAD` messages are taken in before the first is durable, so that one commit of the store covers many. The
stream is a coroutine and holds no thread while it waits for its sender or for the disk.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from disk_svc.blockstore import Extent, StoreError
from disk_svc.service.blocks import OpenVolume
from stillpoint.disk.v1 import block_service_pb2

_MESSAGES_AHEAD = 16
_THREADS = 8

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class WriteMessage(Protocol):
    """A message of either stream."""

    @property
    def extents(self) -> Sequence[block_service_pb2.Extent]: ...


Message = TypeVar("Message", bound=WriteMessage)


class Threads:
    """A servicer's own: a store with a full queue makes its callers wait, and requests must not wait with them."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)

    def run(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> "asyncio.Future[Result]":
        """As asyncio.to_thread."""
        bound = partial(contextvars.copy_context().run, function, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._pool, bound)


async def durable_lengths(
    threads: Threads,
    requests: AsyncIterator[Message],
    open_volume: Callable[[Message], OpenVolume],
    check: Callable[[Message, OpenVolume | None], None] = lambda _request, _volume: None,
) -> AsyncGenerator[int]:
    """The length of each message, in order, when it is durable. `check` is asked about each of them; for the first, which
    names the volume to open, nothing is open yet. An error ends the stream after the answers to what came before it.
    """
    queue: asyncio.Queue[_Pending | Exception | None] = asyncio.Queue(_MESSAGES_AHEAD)
    taking_in = asyncio.create_task(_take_in(threads, requests, open_volume, check, queue))
    try:
        while (pending := await queue.get()) is not None:
            if isinstance(pending, Exception):
                raise pending
            await _durable(threads, pending)
            yield pending.length_bytes
    finally:
        taking_in.cancel()
        await asyncio.gather(taking_in, return_exceptions=True)


async def _take_in(
    threads: Threads,
    requests: AsyncIterator[Message],
    open_volume: Callable[[Message], OpenVolume],
    check: Callable[[Message, OpenVolume | None], None],
    queue: "asyncio.Queue[_Pending | Exception | None]",
) -> None:
    volume: OpenVolume | None = None
    try:
        async for request in requests:
            check(request, volume)
            if volume is None:
                volume = await threads.run(open_volume, request)
            future = await threads.run(volume.write, _extents(request.extents))
            await queue.put(_Pending(future, volume, sum(len(extent.data) for extent in request.extents)))
        await queue.put(None)
    except Exception as error:  # noqa: BLE001 - it takes its place behind what was taken in before it
        await queue.put(error)


async def _durable(threads: Threads, pending: "_Pending") -> None:
    try:
        # Shielded: a sender that goes away must not withdraw this message while those behind it are applied.
        await asyncio.shield(asyncio.wrap_future(pending.future))
    except StoreError as error:
        raise await threads.run(pending.volume.refusal_for, error) from error


class _Pending:
    """A message whose durability is awaited."""

    __slots__ = ("future", "length_bytes", "volume")

    def __init__(self, future: Future[None], volume: OpenVolume, length_bytes: int) -> None:
        self.future = future
        self.volume = volume
        self.length_bytes = length_bytes


def _extents(messages: Iterable[block_service_pb2.Extent]) -> list[Extent]:
    return [Extent(message.offset_bytes, message.data) for message in messages]
