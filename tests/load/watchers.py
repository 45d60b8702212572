"""Holds streams that watch operations, until told to end.

    python -m tests.load.watchers '{"address": "…", "operation_ids": […], "streams": 1000}'

Says how many have had their first message, and in the end how many still stand and how many messages came in all.
"""

import asyncio
import sys

import grpc

from stillpoint.operation.v1 import operation_service_pb2, operation_service_pb2_grpc
from tests.load.children import arguments, say

_STREAMS_A_CHANNEL = 50
_FIRST_SECONDS = 60.0


class Watchers:
    def __init__(self, address: str, operation_ids: list[str], streams: int) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(-(-streams // _STREAMS_A_CHANNEL))
        ]
        self.messages = 0
        self.errors: list[str] = []
        self._first = asyncio.Semaphore(0)
        self._tasks = [
            asyncio.create_task(
                self._watch(
                    self._channels[number // _STREAMS_A_CHANNEL], operation_ids[number % len(operation_ids)]
                )
            )
            for number in range(streams)
        ]

    async def begun(self) -> int:
        """How many have had their first message: all, or as many as had it in time."""
        count = 0
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                for _ in self._tasks:
                    await self._first.acquire()
                    count += 1
        except TimeoutError:
            pass
        return count

    @property
    def standing(self) -> int:
        return sum(not task.done() for task in self._tasks)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _watch(self, channel: grpc.aio.Channel, operation_id: str) -> None:
        stub = operation_service_pb2_grpc.OperationServiceStub(channel)
        request = operation_service_pb2.WatchOperationRequest(operation_id=operation_id)
        first = True
        try:
            async for _ in stub.WatchOperation(request):
                self.messages += 1
                if first:
                    self._first.release()
                first = False
        except grpc.aio.AioRpcError as error:
            self.errors.append(f"{error.code().name}: {error.details()}")


async def main() -> None:
    given = arguments()
    watchers = Watchers(given["address"], given["operation_ids"], given["streams"])
    say({"begun": await watchers.begun()})
    await asyncio.to_thread(sys.stdin.read)
    say({"standing": watchers.standing, "messages": watchers.messages, "errors": watchers.errors[:10]})
    await watchers.end()


if __name__ == "__main__":
    asyncio.run(main())
