"""The registry of one service's metrics, and the port where Prometheus reads it: plain HTTP, in threads of its own."""

from collections.abc import Callable, Iterable

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from svckit.startup import CannotStart

_log = structlog.get_logger()


def new_registry() -> CollectorRegistry:
    """With what the operating system knows of this process."""
    # When each series began is a series more for each, and Prometheus knows a counter's restart without.
    disable_created_metrics()  # type: ignore[no-untyped-call] # it says no types
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class AtScrape(Collector):
    """Metrics that are looked up when they are asked for. Where that fails, for one because the database is away, the
    others are served all the same, and the log says why these are missing.
    """

    def __init__(self, look: Callable[[], Iterable[Metric]]) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._look())
        except Exception:  # noqa: BLE001 - as said
            _log.exception("some metrics could not be looked up")
            return []


def expose(registry: CollectorRegistry, address: str) -> None:
    """Until the process ends, also while it stops: nothing depends on these threads, so nobody waits for them. An empty
    address is nowhere.
    """
    if not address:
        return
    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise CannotStart(f"cannot listen on {address}; is another process there?") from error
