"""What is served where, as the servers themselves say it: by reflection, health and reflection included."""

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from stillpoint_cli.addresses import Service

_NOT_IN_THE_LIBRARY = {"grpc.health.v1.Health.List"}
"""What grpcio-health-checking has the descriptor of, and no code for."""


@dataclass(frozen=True, slots=True)
class Port:
    service: Service
    internal: bool

    def __str__(self) -> str:
        return f"{self.service}{' internal' if self.internal else ''}"


@dataclass(frozen=True, slots=True)
class Target:
    """A method at a port."""

    port: Port
    descriptor: MethodDescriptor
    request: type[Message]
    response: type[Message]

    def __str__(self) -> str:
        return f"{self.port} {self.descriptor.containing_service.name}.{self.descriptor.name}"

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def is_ours(self) -> bool:
        return self.path.startswith("/stillpoint.")


def served_at(port: Port, channel: grpc.Channel) -> Iterator[Target]:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for name in sorted(database.get_services()):
        for method in pool.FindServiceByName(name).methods:
            if method.full_name in _NOT_IN_THE_LIBRARY:
                continue
            yield Target(
                port, method, GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            )
