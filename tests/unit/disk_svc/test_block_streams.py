"""The streams of bytes, at moments that a real client hits only by chance."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any, cast

from disk_svc.blockstore import BlockStore, Extent, Writer
from disk_svc.errors import WriterFenced
from disk_svc.service.blocks import Blocks, OpenVolume
from disk_svc.servicers.blocks import BlockServicer
from stillpoint.disk.v1.block_service_pb2 import Extent as ExtentMessage
from stillpoint.disk.v1.block_service_pb2 import WriteBlocksRequest


class WritesInFlight:
    """Blocks whose writes are durable when the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[None]] = []

    def open_writer(self, disk_id: str) -> OpenVolume:
        store = cast("BlockStore", self)
        return OpenVolume(store, Writer(disk_id, generation=1, size_bytes=1 << 20), WriterFenced(disk_id))

    def write(self, writer: Writer, extents: list[Extent]) -> Future[None]:
        self.futures.append(Future())
        return self.futures[-1]


def test_a_client_that_goes_away_withdraws_no_message_that_was_taken_in():
    """Else those behind it would be applied without it."""

    async def three_messages() -> AsyncIterator[WriteBlocksRequest]:
        for number in range(3):
            yield WriteBlocksRequest(
                disk_id="disk-1", extents=[ExtentMessage(offset_bytes=number, data=b"x")]
            )
        await asyncio.Event().wait()

    async def go_away_while_the_first_is_in_flight() -> list[Future[None]]:
        blocks = WritesInFlight()
        stream: Any = BlockServicer(cast("Blocks", blocks)).WriteBlocks(three_messages(), None)
        answer = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(10):
            while len(blocks.futures) < 3:  # noqa: ASYNC110 - what is waited for is in the servicer's threads
                await asyncio.sleep(0)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        return blocks.futures

    futures = asyncio.run(go_away_while_the_first_is_in_flight())
    assert [future.cancelled() for future in futures] == [False, False, False]
