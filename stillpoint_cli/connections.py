"""Channels and stubs for the three services, opened when first used, with the patience that every call gets.

A call that was refused only for now is sent again, the very same message: a mutation's `request_id` makes that one
effect, however often the first answer was lost. gRPC's own retry policy cannot tell an overloaded service (which says
when to come back) from a full quota, which no waiting mends: both are RESOURCE_EXHAUSTED. Hence an interceptor.
"""

import os
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import typer

from stillpoint.compute.v1.account_service_pb2_grpc import AccountServiceStub
from stillpoint.compute.v1.instance_service_pb2_grpc import InstanceServiceStub
from stillpoint.disk.v1.auto_snapshot_policy_service_pb2_grpc import AutoSnapshotPolicyServiceStub
from stillpoint.disk.v1.block_service_pb2_grpc import BlockServiceStub
from stillpoint.disk.v1.disk_service_pb2_grpc import DiskServiceStub
from stillpoint.disk.v1.disk_snapshot_service_pb2_grpc import DiskSnapshotServiceStub
from stillpoint.operation.v1.event_service_pb2_grpc import EventServiceStub
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from stillpoint.snapshot.v1.instance_snapshot_service_pb2_grpc import InstanceSnapshotServiceStub
from stillpoint_cli.addresses import Addresses, Chosen, Service
from stillpoint_cli.errors import Unreachable, retry_delay_seconds, unpack_details
from stillpoint_cli.regions import find_addresses

# Longer than any answer takes that is still coming: fixing a snapshot's moment has a deadline of 30 s.
DEADLINE_SECONDS = 60.0
# Together long enough for a service to be restarted under a command, short enough to tell a user that none runs.
PAUSES_SECONDS = (0.1, 0.3, 0.6)
# A service that waits for another one may take long to say no; asking it three times more would only look hung.
PATIENCE_SECONDS = 20.0
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # A full page of instance snapshots with 65 members each is more than grpc's 4 MiB.
    ("grpc.max_receive_message_length", 16 << 20),
]


class Connections:
    """The stubs of one deployment."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._channels: dict[str, grpc.Channel] = {}

    @classmethod
    def of(cls, context: typer.Context) -> "Connections":
        """The connections of the running command, closed when it ends."""
        chosen = context.find_object(Chosen)
        if chosen is None:
            raise RuntimeError("the root command notes what was chosen")
        connections = cls(find_addresses(chosen, os.environ))
        context.call_on_close(connections.close)
        return connections

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def public(self, service: Service) -> grpc.Channel:
        return self._open(service, self._addresses.of(service).public)

    def internal(self, service: Service) -> grpc.Channel:
        return self._open(service, self._addresses.of(service).internal)

    @property
    def accounts(self) -> AccountServiceStub:
        return AccountServiceStub(self.public(Service.COMPUTE))

    @property
    def instances(self) -> InstanceServiceStub:
        return InstanceServiceStub(self.public(Service.COMPUTE))

    @property
    def disks(self) -> DiskServiceStub:
        return DiskServiceStub(self.public(Service.DISK))

    @property
    def disk_snapshots(self) -> DiskSnapshotServiceStub:
        return DiskSnapshotServiceStub(self.public(Service.DISK))

    @property
    def policies(self) -> AutoSnapshotPolicyServiceStub:
        return AutoSnapshotPolicyServiceStub(self.public(Service.DISK))

    @property
    def blocks(self) -> BlockServiceStub:
        return BlockServiceStub(self.public(Service.DISK))

    @property
    def instance_snapshots(self) -> InstanceSnapshotServiceStub:
        return InstanceSnapshotServiceStub(self.public(Service.SNAPSHOT))

    def operations(self, service: Service) -> OperationServiceStub:
        return OperationServiceStub(self.public(service))

    def events(self, service: Service) -> EventServiceStub:
        return EventServiceStub(self.public(service))

    def _open(self, service: Service, address: str) -> grpc.Channel:
        if address not in self._channels:
            channel = grpc.insecure_channel(address, options=_OPTIONS)
            self._channels[address] = grpc.intercept_channel(channel, _Patience(service, address))
        return self._channels[address]


def new_request_id() -> str:
    return str(uuid4())


class _Patience(grpc.UnaryUnaryClientInterceptor):
    """Tries again what was refused only for now, and says which service it is that does not answer."""

    def __init__(self, service: Service, address: str) -> None:
        self._service = service
        self._address = address

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        details = client_call_details
        if details.timeout is None:
            details = details._replace(timeout=DEADLINE_SECONDS)
        give_up = time.monotonic() + PATIENCE_SECONDS
        pauses = iter(PAUSES_SECONDS)
        while True:
            call = continuation(details, request)
            wait = _pause_before_retry(call, next(pauses, None))
            if wait is None or time.monotonic() + wait > give_up:
                break
            time.sleep(wait)
        if call.code() is grpc.StatusCode.UNAVAILABLE and not any(unpack_details(call)):
            raise Unreachable(self._service, self._address, call.details())
        return call


def _pause_before_retry(call: grpc.Call, pause: float | None) -> float | None:
    if pause is None:
        return None
    if call.code() is grpc.StatusCode.UNAVAILABLE:
        return pause
    return retry_delay_seconds(call) if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else None
