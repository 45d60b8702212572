"""A service's process: two gRPC ports, health, reflection, and a shutdown that loses nothing.

On SIGTERM: health says NOT_SERVING, and clients that watch it go elsewhere; streams are ended, requests in progress end,
saga workers finish their step, the database closes.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from svckit.auth.door import CertificateDoor, Door, OpenDoor, TokenDoor
from svckit.auth.roles import needed_roles
from svckit.auth.tokens import TokenKeys, Tokens
from svckit.channels import PERMITTING_KEEPALIVE
from svckit.edge import Edge, OpenStreams
from svckit.recurring import Recurring, repeat
from svckit.saga import SagaEngine
from svckit.saga.instruments import unfinished_sagas
from svckit.saga.retention import purging
from svckit.settings import ServiceSettings
from svckit.startup import CannotStart
from svckit.telemetry import traces
from svckit.telemetry.exposition import AtScrape, expose, new_registry
from svckit.telemetry.pools import CountingThreads, Pool, pool_metrics
from svckit.telemetry.requests import Requests, RpcMetrics

_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_MAX_PENDING_CALLS = 20_000
_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second process on the same port must fail, not share it
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    *PERMITTING_KEEPALIVE,
    # Of calls that the event loop has not come to yet gRPC drops some from 1,000 on, by default, with CANCELLED: no client
    # may repeat that. The edge tells each of them when to try again, and is through with so many within seconds.
    ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer, what adds it to a server, and its descriptor for reflection."""

    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any
    descriptor: ServiceDescriptor


def run_service(
    settings: ServiceSettings,
    engine: SagaEngine,
    *,
    public: Sequence[Registration],
    internal: Sequence[Registration],
    recurring: Sequence[Recurring] = (),
    forget: Callable[[datetime], object] = lambda _before: None,
    close: Callable[[], None] = lambda: None,
    registry: CollectorRegistry | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `registry` has what the service counts beside its requests. `recurring` is what the service does by itself meanwhile. `forget` drops what it keeps
    outside its database for repetitions; `close` runs after the last request, the last round and the last saga step,
    before the database closes.
    """
    tasks = [*recurring, purging(engine.database, forget)]
    try:
        asyncio.run(_serve(settings, engine, public, internal, tasks, registry=registry or new_registry()))
    finally:
        close()
        engine.database.dispose()
        traces.stop()


async def _serve(
    settings: ServiceSettings,
    engine: SagaEngine,
    public: Sequence[Registration],
    internal: Sequence[Registration],
    recurring: Sequence[Recurring],
    *,
    registry: CollectorRegistry,
) -> None:
    loop = asyncio.get_running_loop()
    handlers = CountingThreads(settings.handler_threads, "handler")
    loop.set_default_executor(handlers)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    alive = health.aio.HealthServicer()
    streams = OpenStreams()
    instruments = [*traces.server_interceptors(), Requests(RpcMetrics(registry))]
    servers = [
        server_at(
            address,
            registrations,
            alive,
            admitted=settings.requests_admitted,
            lock=lock,
            streams=streams,
            instruments=instruments,
        )
        for address, registrations, lock in (
            (settings.public_address, public, _public_lock(settings)),
            (settings.internal_address, internal, _internal_lock(settings)),
        )
    ]
    database = engine.database
    pools = [
        Pool("database_connections", settings.database_connections, lambda: database.connections_in_use),
        Pool("handler_threads", settings.handler_threads, lambda: handlers.held),
        engine.workers,
    ]
    registry.register(AtScrape(lambda: pool_metrics(pools)))
    registry.register(AtScrape(lambda: unfinished_sagas(database, settings.region, engine.kinds)))
    expose(registry, settings.metrics_address)
    engine.start()
    rounds = asyncio.gather(*(repeat(task, stop) for task in recurring))
    for server in servers:
        await server.start()
    await alive.set("", health_pb2.HealthCheckResponse.SERVING)
    _log.info("serving", public=settings.public_address, internal=settings.internal_address)

    await stop.wait()
    _log.info("stopping")
    await alive.enter_graceful_shutdown()
    # A server that stops answers CANCELLED to what has arrived and was not yet begun: no client may take that for a reason
    # to try again. Who watches health sends nothing any more by then.
    await asyncio.sleep(settings.shutdown_notice_seconds)
    streams.end()
    await asyncio.gather(*(server.stop(settings.shutdown_grace_seconds) for server in servers))
    await rounds
    await asyncio.to_thread(engine.stop)
    _log.info("stopped")


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a port: its door, and its TLS. Without TLS it is plain, which only a port on loopback may be."""

    door: Door
    credentials: grpc.ServerCredentials | None


UNLOCKED = Lock(OpenDoor(), credentials=None)


def _public_lock(settings: ServiceSettings) -> Lock:
    if settings.token_keys is None or settings.certificate is None:
        return UNLOCKED
    keys = TokenKeys(settings.token_keys)
    tokens = Tokens(keys, audience=settings.token_audience, issuer=settings.token_issuer)
    return Lock(TokenDoor(tokens), settings.certificate.server_credentials())


def _internal_lock(settings: ServiceSettings) -> Lock:
    if settings.identity is None:
        return UNLOCKED
    return Lock(CertificateDoor(), settings.identity.server_credentials())


def server_at(
    address: str,
    registrations: Sequence[Registration],
    alive: health.aio.HealthServicer,
    *,
    admitted: int,
    lock: Lock,
    streams: OpenStreams,
    instruments: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Server:
    """A server that has still to be started. Health and reflection need no role: both say only what is published."""
    needed = needed_roles(registration.descriptor for registration in registrations)
    # Each port has a budget of its own: clients must not turn away the steps of other services' sagas.
    edge = Edge(admitted=admitted, door=lock.door, needed=needed, streams=streams)
    server = grpc.aio.server(interceptors=[*instruments, edge], options=_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(alive, server)
    for registration in registrations:
        registration.add(registration.servicer, server)
    names = [registration.descriptor.full_name for registration in registrations]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        if lock.credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, lock.credentials)
    except RuntimeError as error:
        raise CannotStart(f"cannot listen on {address}; is another process there?") from error
    return server
