"""The three services as processes on this machine: what `stillpoint up`, the demo and the tests run.

One deployment owns its folder, by a lock that the operating system drops with its process. It starts and stops the
three together; in between a service can be killed and restarted, on the same ports and the same data. Deployments of
several regions stand side by side, each in a folder of its own, and know each other by the addresses they are given.
"""

import fcntl
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stillpoint_cli.addresses import DEFAULT_PORTS, DEFAULT_REGION, Addresses, Endpoint, Service
from stillpoint_cli.certs import Certs
from stillpoint_cli.errors import Failure

START_SECONDS = 30.0
STOP_SECONDS = 15.0
TAIL_LINES = 20
_OF_CLIENTS = {
    f"STILLPOINT_{name}"
    for name in ("TOKEN", "TOKEN_FILE", "CA", "TLS", "INTERNAL_CERTIFICATE", "INTERNAL_KEY", "INTERNAL_CA")
}
"""What a terminal has for the commands in it: no token goes to a process that needs none, nor another's certificate."""


class LocalDeployment:
    """Three services on loopback with everything they keep in one folder. Not for use by several threads at once."""

    def __init__(
        self,
        folder: Path,
        *,
        region: str = DEFAULT_REGION,
        addresses: Addresses | None = None,
        peers: Mapping[str, Addresses] | None = None,
        free_ports: bool = False,
        environment: Mapping[str, str] | None = None,
        service_environment: Mapping[Service, Mapping[str, str]] | None = None,
        modules: Mapping[Service, str] | None = None,
        certs: Certs | None = None,
    ) -> None:
        """It serves at `addresses`; where there are none, on free ports or the default ones. `peers` are the addresses of
        other regions. `environment` adds settings for all three services to this process's own; `service_environment`
        those of one, over what the deployment sets itself (a database elsewhere); `modules` names the module to run as a
        service where that is not the service's own (a composition root of somebody else's); with `certs` the services lock
        their doors.
        """
        self.folder = folder.resolve()
        self.region = region
        self._peers = dict(peers or {})
        self._chosen = addresses
        self._modules = {service: service.module for service in Service} | dict(modules or {})
        self._free_ports = free_ports
        self._certs = certs
        self._environment = dict(environment or {})
        self._service_environment = dict(service_environment or {})
        self._processes: dict[Service, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        if self._addresses is None:
            raise RuntimeError("not started")
        return self._addresses

    @property
    def pids(self) -> dict[Service, int]:
        """The processes that run now."""
        return {
            service: process.pid for service, process in self._processes.items() if process.poll() is None
        }

    def log_path(self, service: Service) -> Path:
        return self.folder / "logs" / f"{service}.log"

    def start(self) -> None:
        """Returns when all three serve. Whatever goes wrong, none is left running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        self._lock = _lock_folder(self.folder)
        try:
            self._addresses = self._chosen or addresses_for(1, free_ports=self._free_ports)[0]
            for service in Service:
                _must_be_free(service, self._addresses.of(service))
            for service in Service:
                self._spawn(service)
            deadline = time.monotonic() + START_SECONDS
            for service in Service:
                self._wait_until_serving(service, deadline)
            self._addresses.write(self.folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM to all, then SIGKILL to who did not end in time. Stopping what is stopped does nothing."""
        (self.folder / "addresses.json").unlink(missing_ok=True)
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self, service: Service) -> None:
        """SIGKILL, as a crash would be. Returns when the process is gone."""
        self._processes[service].kill()
        self._processes[service].wait()

    def restart(self, service: Service) -> None:
        """The service anew, on its old ports and data; stopped before if it runs. Returns when it serves."""
        process = self._processes[service]
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill(service)
        self._spawn(service)
        self._wait_until_serving(service, time.monotonic() + START_SECONDS)

    def dead(self) -> Service | None:
        """A service whose process has ended; None while all run."""
        return next(
            (service for service, process in self._processes.items() if process.poll() is not None), None
        )

    def describe_death(self, service: Service) -> str:
        code = self._processes[service].returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        tail = self.log_path(service).read_text(errors="replace").splitlines()[-TAIL_LINES:]
        lines = "\n".join(f"  {line}" for line in tail)
        return f"{service.module} {how}. The end of {self.log_path(service)}:\n{lines}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self, service: Service) -> None:
        with self.log_path(service).open("ab") as log:
            self._processes[service] = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                [sys.executable, "-m", self._modules[service]],
                env={
                    **{name: value for name, value in os.environ.items() if name not in _OF_CLIENTS},
                    **self._environment,
                    **self._settings(service),
                    **self._service_environment.get(service, {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole process group: without its own session each service would
                # get it too, and stop before its supervisor has said so.
                start_new_session=True,
            )

    def _settings(self, service: Service) -> dict[str, str]:
        endpoint = self.addresses.of(service)
        settings = {
            "REGION": self.region,
            "DATABASE_URL": f"sqlite:///{self.folder / f'{service}.db'}",
            "PUBLIC_ADDRESS": endpoint.public,
            "INTERNAL_ADDRESS": endpoint.internal,
            "METRICS_ADDRESS": endpoint.metrics,
            "MIGRATE_AT_START": "true",
            # There is no other replica to go to.
            "SHUTDOWN_NOTICE_SECONDS": "0",
        }
        if service is Service.DISK:
            settings["STORE_PATH"] = str(self.folder / "store")
        else:
            settings["DISK_ADDRESS"] = self.addresses.disk.internal
        if service is Service.SNAPSHOT:
            settings["COMPUTE_ADDRESS"] = self.addresses.compute.internal
        if service is not Service.COMPUTE:
            peers = {region: addresses.of(service).internal for region, addresses in self._peers.items()}
            settings["PEERS"] = json.dumps(peers)
        if self._certs is not None:
            settings |= self._certs.settings(service)
        return {f"STILLPOINT_{name}": value for name, value in settings.items()}

    def _open(self, address: str) -> grpc.Channel:
        if self._certs is None:
            return grpc.insecure_channel(address)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(self._certs.ca.read_bytes()))

    def _wait_until_serving(self, service: Service, deadline: float) -> None:
        request = health_pb2.HealthCheckRequest()
        while time.monotonic() < deadline:
            if self._processes[service].poll() is not None:
                raise Failure(self.describe_death(service))
            # A channel anew each time: one that was refused waits a second and more before it tries again.
            with self._open(self.addresses.of(service).public) as channel:
                # Its published types have no methods.
                stub: Any = health_pb2_grpc.HealthStub(channel)
                try:
                    response = stub.Check(request, timeout=1)
                except grpc.RpcError:
                    pass
                else:
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            time.sleep(0.05)
        raise Failure(
            f"{service.module} did not serve within {START_SECONDS:g} s; see {self.log_path(service)}"
        )


def addresses_for(regions: int, *, free_ports: bool) -> list[Addresses]:
    """For so many deployments side by side: the default ports, those 100 above them, and so on; or any that are free."""
    if free_ports:
        ports = _free_ports()
        each = [
            {service: (next(ports), next(ports), next(ports)) for service in Service} for _ in range(regions)
        ]
    else:
        each = [
            {
                service: (public + above, internal + above, metrics + above)
                for service, (public, internal, metrics) in DEFAULT_PORTS.items()
            }
            for above in range(0, 100 * regions, 100)
        ]
    return [Addresses.on_loopback(ports_of_one) for ports_of_one in each]


def _lock_folder(folder: Path) -> IO[str]:
    # Opened for appending: opening must not empty the file of the deployment that has the lock.
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Failure(
            f"a deployment runs on {folder} already; stop that one, or choose another --dir"
        ) from None
    return lock


def _must_be_free(service: Service, endpoint: Endpoint) -> None:
    # Asked before anything is started: gRPC servers share a port when both allow it, and would share the calls too.
    for address in filter(None, (endpoint.public, endpoint.internal, endpoint.metrics)):
        host, port = address.split(":")
        if not _is_free(int(port), host):
            raise Failure(
                f"port {port}, which {service.module} needs, is in use. Another `stillpoint up`? "
                "Stop that one, or use --free-ports."
            )


def _free_ports() -> Iterator[int]:
    """Each another one."""
    # From below the range that the system takes for outgoing connections (32768 and up): a port that is free now
    # cannot become the near end of somebody's connection before its service has bound it.
    candidates = random.sample(range(20000, 32000), 12000)
    return (port for port in candidates if _is_free(port, "127.0.0.1"))


def _is_free(port: int, host: str) -> bool:
    with socket.socket() as probe:
        # As servers do: what only waits out its TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
