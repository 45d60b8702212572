"""What is fuzzed: two regions, so that things can be copied. The requests go to the first; the second only receives."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import AbandonOperationRequest, ListOperationsRequest
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import Channels, Finding, examine
from stillpoint_cli.following import owner_of
from stillpoint_cli.local import LocalDeployment
from stillpoint_cli.paging import each
from tests.fuzz.methods import Port, Target, served_at

REST_SECONDS = 60.0
_SHOWN_CHARACTERS = 1500

_OPTIONS = [("grpc.max_metadata_size", 8192), ("grpc.absolute_max_metadata_size", 8192)]
"""As little of an answer's head as clients take in: a refusal must fit."""

PORTS = [Port(service, internal=internal) for service in Service for internal in (False, True)]


class Region:
    """One of the two."""

    def __init__(self, local: LocalDeployment, channels: Mapping[Port, grpc.Channel]) -> None:
        self.local = local
        self.channels = channels
        self.public = {port.service: channel for port, channel in channels.items() if not port.internal}
        self._operations = {
            service: OperationServiceStub(channel) for service, channel in self.public.items()
        }

    @classmethod
    @contextmanager
    def of(cls, local: LocalDeployment) -> Iterator[Self]:
        with ExitStack() as held:
            channels = {}
            for port in PORTS:
                endpoint = local.addresses.of(port.service)
                address = endpoint.internal if port.internal else endpoint.public
                channels[port] = held.enter_context(grpc.insecure_channel(address, options=_OPTIONS))
            yield cls(local, channels)

    def served(self) -> list[Target]:
        return [target for port, channel in self.channels.items() for target in served_at(port, channel)]

    # What must hold after whatever was sent

    def assert_all_serve(self) -> None:
        assert self.local.dead() is None, self.local.describe_death(self.local.dead() or Service.DISK)
        for channel in self.channels.values():
            # Its published types have no methods.
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def unfinished(self) -> list[Operation]:
        return [operation for stub in self._operations.values() for operation in _unfinished_at(stub)]

    def abandon(self, operation_ids: Iterable[str]) -> None:
        """As an operator does: at all services, the operation's own first."""
        for operation_id in operation_ids:
            owner = owner_of(operation_id)
            request = AbandonOperationRequest(operation_id=operation_id, reason="Nobody drives it.")
            for service in sorted(Service, key=lambda service: service is not owner):
                with suppress(grpc.RpcError):  # where it holds nothing; what is held is looked for afterwards
                    self._operations[service].AbandonOperation(request, timeout=30)

    def findings(self) -> list[Finding]:
        public, internal = self.public, {port.service: self.channels[port] for port in PORTS if port.internal}
        channels = Channels(
            compute=public[Service.COMPUTE],
            compute_internal=internal[Service.COMPUTE],
            disk=public[Service.DISK],
            disk_internal=internal[Service.DISK],
            snapshot=public[Service.SNAPSHOT],
        )
        results = list(examine(channels))
        assert [result.not_asked for result in results if result.not_asked] == []
        return [finding for result in results for finding in result.findings]

    def logged_errors(self) -> list[str]:
        """Lines of the services' logs that tell of what nobody foresaw."""
        return [
            f"{service}: {error}"
            for service in Service
            for line in self.local.log_path(service).read_text(errors="replace").splitlines()
            if (error := _error_in(line))
        ]


def come_to_rest(*regions: Region) -> list[Operation]:
    """Returns what did not, after as long as anything may take."""
    give_up = time.monotonic() + REST_SECONDS
    while unfinished := [operation for region in regions for operation in region.unfinished()]:
        if time.monotonic() > give_up:
            return unfinished
        time.sleep(0.1)
    return []


def _unfinished_at(stub: OperationServiceStub) -> Iterator[Operation]:
    wanted = ListOperationsRequest.Filter(unfinished=True)
    return each(
        lambda token: stub.ListOperations(
            ListOperationsRequest(filter=wanted, page_size=500, page_token=token)
        ),
        lambda page: page.operations,
    )


def _error_in(line: str) -> str:
    """Empty for a line that tells of none. What is no JSON was written by something that knows nothing of our logs: the
    interpreter, or gRPC's core.
    """
    try:
        said = json.loads(line)
    except ValueError:
        return line.strip()
    if said["level"] not in ("error", "critical"):
        return ""
    exception = said.pop("exception", "")[-_SHOWN_CHARACTERS:]
    return f"{said}\n{exception}"
