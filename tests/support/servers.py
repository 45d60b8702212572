"""A gRPC server on loopback inside the test's process, on an event loop in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health

from svckit.edge import OpenStreams
from svckit.server import UNLOCKED, Registration, server_at


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(
    registrations: Sequence[Registration],
    *,
    admitted: int = 512,
    handler_threads: int = 4,
    instruments: Sequence[grpc.aio.ServerInterceptor] = (),
    address: str = "",
) -> Iterator[grpc.Channel]:
    """A channel to a server with svckit's edge, health and reflection, on a free port where no address is given."""
    address = address or f"127.0.0.1:{free_port()}"
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        threads = ThreadPoolExecutor(handler_threads, thread_name_prefix="handler")
        asyncio.get_running_loop().set_default_executor(threads)
        server = server_at(
            address,
            registrations,
            health.aio.HealthServicer(),
            admitted=admitted,
            lock=UNLOCKED,
            streams=OpenStreams(),
            instruments=instruments,
        )
        await server.start()
        ready.set()
        with ThreadPoolExecutor(1) as waiting:
            await asyncio.get_running_loop().run_in_executor(waiting, stop.wait)
        await server.stop(0.2)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
    thread.start()
    try:
        assert ready.wait(15), "the server did not start"
        with grpc.insecure_channel(address) as channel:
            yield channel
    finally:
        stop.set()
        thread.join()
