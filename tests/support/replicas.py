"""A second process of a service of a deployment, on the same database."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stillpoint_cli.addresses import Addresses, Endpoint, Service
from stillpoint_cli.local import START_SECONDS, LocalDeployment
from tests.support.servers import free_port


@dataclass(frozen=True, slots=True)
class Replica:
    """It runs until it is killed, or its block ends."""

    service: Service
    address: str
    """The public one."""
    _deployment: LocalDeployment

    def kill(self) -> None:
        self._deployment.kill(self.service)


@contextmanager
def replica_of(deployment: LocalDeployment, service: Service) -> Iterator[Replica]:
    """Everything but its own addresses is as the deployment has it."""
    endpoint = Endpoint(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    second = copy.copy(deployment)
    second._processes = {}
    second._addresses = _with(deployment.addresses, service, endpoint)
    second._spawn(service)
    try:
        second._wait_until_serving(service, time.monotonic() + START_SECONDS)
        yield Replica(service, endpoint.public, second)
    finally:
        second.kill(service)


def _with(addresses: Addresses, service: Service, endpoint: Endpoint) -> Addresses:
    return replace(addresses, **{service.value: endpoint})
