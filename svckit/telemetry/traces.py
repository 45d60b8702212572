"""OpenTelemetry: a span for every RPC and for every step of a saga, in one trace across the services.

Off unless the settings name a collector, and then nothing of OpenTelemetry is even imported: that would take longer than
the rest of a service's start. One process is one service, so whether traces are on is a fact of the process.

The trace of a request goes on in the saga that it began, for as long as the process that accepted it drives it. Who takes
a saga over begins a new trace; `stillpoint.operation_id` finds both.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider

_LAST_SPANS_SECONDS = 2.0

_provider: "TracerProvider | None" = None
_exporter: "OTLPSpanExporter | None" = None


def start(service: str, region: str, endpoint: str) -> None:
    """Send spans to `endpoint`, an OTLP/gRPC URL; nothing at all where it is empty. What OpenTelemetry's own environment
    variables say of sampling and batches holds.
    """
    global _provider, _exporter  # noqa: PLW0603 - see above
    if not endpoint:
        return
    # Here, for the reason above.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    about = Resource.create({"service.name": service, "stillpoint.region": region})
    _provider = TracerProvider(resource=about, shutdown_on_exit=False)
    _exporter = OTLPSpanExporter(endpoint)
    _provider.add_span_processor(BatchSpanProcessor(_exporter))


def stop() -> None:
    """Send what has not been sent, if there is somebody who takes it soon: else OpenTelemetry would try for many seconds."""
    if _provider is None or _exporter is None:
        return
    enough = threading.Timer(_LAST_SPANS_SECONDS, _exporter.shutdown)
    enough.daemon = True
    enough.start()
    _provider.shutdown()
    enough.cancel()


def server_interceptors() -> Sequence[grpc.aio.ServerInterceptor]:
    if _provider is None:
        return ()
    from opentelemetry.instrumentation.grpc import aio_server_interceptor  # noqa: PLC0415 - as above

    ours = aio_server_interceptor(  # type: ignore[no-untyped-call] # it ships no types
        _provider, filter_=lambda call: call.method.startswith("/stillpoint.")
    )
    return (ours,)


def traced(channel: grpc.Channel) -> grpc.Channel:
    """Calls on it are spans, and the service that is called knows of which."""
    if _provider is None:
        return channel
    from opentelemetry.instrumentation.grpc import client_interceptor  # noqa: PLC0415 - as above
    from opentelemetry.instrumentation.grpc.grpcext import intercept_channel  # noqa: PLC0415

    spans = client_interceptor(_provider)  # type: ignore[no-untyped-call] # as above
    intercepted: grpc.Channel = intercept_channel(channel, spans)  # type: ignore[no-untyped-call]
    return intercepted


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """Of what is done in the block; `stillpoint.` goes before each attribute's name."""
    if _provider is None:
        yield
        return
    with _provider.get_tracer("stillpoint").start_as_current_span(name, attributes=_named(attributes)):
        yield


def note(**attributes: Any) -> None:
    """The same attributes, of the span that is current."""
    if _provider is None:
        return
    from opentelemetry import trace  # noqa: PLC0415 - as above

    trace.get_current_span().set_attributes(_named(attributes))


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"stillpoint.{name}": value for name, value in attributes.items()}
