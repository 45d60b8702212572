"""A crowd that asks for instance snapshots at once, each again as soon as it is answered.

    python -m tests.load.crowd '{"address": "…", "instance_ids": […], "callers": 1024, "seconds": 5}'

A caller that is OVERLOADED waits for as long as the answer says; with `patience_seconds` it gives every call up after that,
and asks again at once. Says how long each answer took, by how it is named.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from typing import Any

import grpc

from stillpoint.snapshot.v1 import instance_snapshot_service_pb2, instance_snapshot_service_pb2_grpc
from tests.load.answers import OVERLOADED, Answer
from tests.load.children import arguments, say

_CHANNELS = 16
_CALL_SECONDS = 60.0


class Crowd:
    def __init__(self, *, until: float, patience_seconds: float) -> None:
        self._until = until
        self._patience_seconds = patience_seconds
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.overloaded_without_retry_info = 0

    async def ask(self, channel: grpc.aio.Channel, instance_id: str) -> None:
        stub: Any = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(channel)
        while time.monotonic() < self._until:
            request = instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=str(uuid.uuid4()), instance_id=instance_id
            )
            begun = time.perf_counter()
            try:
                await stub.CreateInstanceSnapshot(request, timeout=self._patience_seconds)
                answer = Answer(grpc.StatusCode.OK.name)
            except grpc.aio.AioRpcError as error:
                answer = Answer.of(error)
            self.seconds[answer.named].append(time.perf_counter() - begun)
            if answer.is_overloaded:
                await asyncio.sleep(answer.retry_after_seconds)
            elif answer.named == OVERLOADED:
                self.overloaded_without_retry_info += 1


async def main() -> None:
    given = arguments()
    crowd = Crowd(
        until=time.monotonic() + given["seconds"],
        patience_seconds=given.get("patience_seconds", _CALL_SECONDS),
    )
    instance_ids: list[str] = given["instance_ids"]
    channels = [
        grpc.aio.insecure_channel(given["address"], options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(_CHANNELS)
    ]
    callers = [
        crowd.ask(channels[number % _CHANNELS], instance_ids[number % len(instance_ids)])
        for number in range(given["callers"])
    ]
    await asyncio.gather(*callers)
    for channel in channels:
        await channel.close()
    say({"seconds": crowd.seconds, "overloaded_without_retry_info": crowd.overloaded_without_retry_info})


if __name__ == "__main__":
    asyncio.run(main())
