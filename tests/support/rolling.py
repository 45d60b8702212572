"""A deployment with two replicas of compute_svc and snapshot_svc and one disk_svc, on shared databases, each a real process
that a test stops and starts as an upgrade does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stillpoint_cli.addresses import Addresses, Endpoint, Service
from stillpoint_cli.local import addresses_for
from tests.support.databases import PostgresqlDatabases
from tests.support.deployments import makes_its_own_tables
from tests.support.waiting import eventually

START_SECONDS = 30.0
STOP_SECONDS = 30.0

# Five processes share one PostgreSQL server, which takes a hundred connections, with those of other fixtures.
_FEW_CONNECTIONS = {"STILLPOINT_HANDLER_THREADS": "4", "STILLPOINT_SAGA_WORKERS": "4"}


class Replica:
    """One process of a service, always at the same addresses."""

    def __init__(
        self, service: Service, endpoint: Endpoint, environment: Mapping[str, str], log: Path
    ) -> None:
        self.service = service
        self.endpoint = endpoint
        self.log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.service.module],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._serves, within_seconds=START_SECONDS, what=f"{self.service.module} serving")

    def drain(self) -> None:
        """SIGTERM; returns when it has ended, of itself and well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_SECONDS) == 0, self.log.read_text()[-2000:]

    def restart(self) -> float:
        """Returns how many seconds it did not serve, counted from the signal."""
        began = time.monotonic()
        self.drain()
        self.start()
        return time.monotonic() - began

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        time.sleep(0.1)  # each look opens a connection, beside the process that is to start
        with grpc.insecure_channel(self.endpoint.public) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its published types have no methods
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Replicas:
    """The processes of each service, and where they all are: addresses as a channel takes them, with commas between."""

    def __init__(
        self, folder: Path, database_urls: Mapping[Service, str], environment: Mapping[str, str]
    ) -> None:
        first, second = addresses_for(2, free_ports=True)
        self._endpoints = {
            service: [addresses.of(service) for addresses in self._homes(service, first, second)]
            for service in Service
        }
        self.of = {
            service: [
                Replica(
                    service,
                    endpoint,
                    self._settings(service, endpoint, folder, database_urls[service]) | dict(environment),
                    folder / f"{service}-{number}.log",
                )
                for number, endpoint in enumerate(endpoints)
            ]
            for service, endpoints in self._endpoints.items()
        }

    def public(self, service: Service) -> str:
        return ",".join(endpoint.public for endpoint in self._endpoints[service])

    def internal(self, service: Service) -> str:
        return ",".join(endpoint.internal for endpoint in self._endpoints[service])

    @staticmethod
    def _homes(service: Service, first: Addresses, second: Addresses) -> list[Addresses]:
        return [first] if service is Service.DISK else [first, second]

    def _settings(
        self, service: Service, endpoint: Endpoint, folder: Path, database_url: str
    ) -> dict[str, str]:
        settings = {
            "DATABASE_URL": database_url,
            # The first replica makes the tables, the second finds them.
            "MIGRATE_AT_START": "true",
            "PUBLIC_ADDRESS": endpoint.public,
            "INTERNAL_ADDRESS": endpoint.internal,
            "METRICS_ADDRESS": "",
        }
        if service is Service.DISK:
            settings["STORE_PATH"] = str(folder / "store")
        else:
            settings["DISK_ADDRESS"] = self.internal(Service.DISK)
        if service is Service.SNAPSHOT:
            settings["COMPUTE_ADDRESS"] = self.internal(Service.COMPUTE)
        return _FEW_CONNECTIONS | {f"STILLPOINT_{name}": value for name, value in settings.items()}


@contextmanager
def replicated(
    server: PostgresqlDatabases, folder: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[Replicas]:
    """All of them serving, until the block ends."""
    with ExitStack() as held:
        urls = {service: held.enter_context(server.fresh(makes_its_own_tables)) for service in Service}
        replicas = Replicas(folder, urls, environment or {})
        for processes in replicas.of.values():
            for replica in processes:
                held.callback(replica.kill)
                replica.start()
        yield replicas
