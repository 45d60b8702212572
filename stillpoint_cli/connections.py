"""Channels and stubs for the three services, opened when first used, with the patience that every call gets.

A call that was refused only for now is sent again, the very same message: a mutation's `request_id` makes that one
effect, however often the first answer was lost. gRPC's own retry policy cannot tell an overloaded service (which says
when to come back) from a full quota, which no waiting mends: both are RESOURCE_EXHAUSTED. Hence an interceptor.
"""

import os
from collections.abc import Callable, Collection
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
from stillpoint_cli.credentials import INTERNAL, Credentials
from stillpoint_cli.errors import Failure, retry_delay_seconds
from stillpoint_cli.logins import Login
from stillpoint_cli.patience import Target, Wait, is_broken
from stillpoint_cli.regions import find_deployment
from svckit.channels import open_channel

# Longer than any answer takes that is still coming: fixing a snapshot's moment has a deadline of 30 s.
DEADLINE_SECONDS = 60.0
_OPTIONS = [
    # A full page of instance snapshots with 65 members each is more than grpc's 4 MiB.
    ("grpc.max_receive_message_length", 16 << 20),
]


class Connections:
    """The stubs of one deployment."""

    def __init__(
        self,
        addresses: Addresses,
        credentials: Credentials | None = None,
        guessed: Collection[str] = (),
    ) -> None:
        """Without credentials they are plain. `guessed` are those of the addresses that nothing speaks for."""
        self._addresses = addresses
        self._credentials = credentials or Credentials({})
        self._guessed = guessed
        self._channels: dict[str, grpc.Channel] = {}
        self._targets: dict[str, Target] = {}

    @classmethod
    def of(cls, context: typer.Context) -> "Connections":
        """The connections of the running command, closed when it ends."""
        chosen = context.find_object(Chosen)
        if chosen is None:
            raise RuntimeError("the root command notes what was chosen")
        login = Login.read()
        found = find_deployment(chosen, os.environ, login.addresses if login else None)
        connections = cls(found.addresses, Credentials(os.environ, login), found.guessed)
        context.call_on_close(connections.close)
        return connections

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def public(self, service: Service) -> grpc.Channel:
        address = self._addresses.of(service).public
        if address not in self._channels:
            self._open(service, address, self._credentials.public(service, address))
        return self._channels[address]

    def internal(self, service: Service) -> grpc.Channel:
        address = self._addresses.of(service).internal
        if address not in self._channels:
            credentials = self._credentials.internal()
            self._open(service, address, credentials)
            if credentials is None and self.is_locked(service):
                refusing = grpc.intercept_channel(self._channels[address], _NeedsCertificate(service))
                self._channels[address] = refusing
        return self._channels[address]

    def is_locked(self, service: Service) -> bool:
        """Whether its public port is asked with TLS, as somebody whom a token names."""
        public = self._addresses.of(service).public
        return self._credentials.public(service, public) is not None

    def wait(self, service: Service) -> Wait:
        """For a stream of its public port that may break."""
        self.public(service)
        return Wait(self._targets[self._addresses.of(service).public])

    def answered(self, service: Service) -> Wait:
        """The same, from an answer on."""
        self._targets[self._addresses.of(service).public].answered()
        return self.wait(service)

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

    def _open(self, service: Service, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        try:
            channel = open_channel(address, credentials, _OPTIONS)
        except OSError as error:
            raise Failure(f"{service.module} at {address}: {error.strerror}") from error
        known = address not in self._guessed
        self._targets[address] = Target(service, address, known=known, plain=credentials is None)
        self._channels[address] = grpc.intercept_channel(channel, _Patience(self._targets[address]))


def new_request_id() -> str:
    return str(uuid4())


class _Patience(grpc.UnaryUnaryClientInterceptor):
    """Tries again what was refused only for now, and says which service it is that does not answer."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        details = client_call_details
        if details.timeout is None:
            details = details._replace(timeout=DEADLINE_SECONDS)
        wait = Wait(self._target)
        while True:
            call = continuation(details, request)
            if is_broken(call):
                self._target.must_be_worth_waiting_for(call)
            pause = _pause_before_retry(call)
            if pause is None or not wait.sleep(pause):
                break
        if is_broken(call):
            raise self._target.give_up(call)
        self._target.answered()
        return call


def _pause_before_retry(call: grpc.Call) -> float | None:
    """At least so long; None for an answer that stands."""
    if call.code() is grpc.StatusCode.UNAVAILABLE:
        return 0.0
    return retry_delay_seconds(call) if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else None


class _NeedsCertificate(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Stands before an internal port that nothing here opens."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def intercept_unary_unary(self, *_: Any) -> Any:
        raise self._failure()

    def intercept_unary_stream(self, *_: Any) -> Any:
        raise self._failure()

    def _failure(self) -> Failure:
        return Failure(
            f"the internal port of {self._service.module} lets in who has a certificate: set {', '.join(INTERNAL)}"
        )
