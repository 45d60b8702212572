"""Every public method, for tests that ask the same of many."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from stillpoint.compute.v1 import account_service_pb2, instance_service_pb2
from stillpoint.disk.v1 import (
    auto_snapshot_policy_service_pb2,
    block_service_pb2,
    disk_service_pb2,
    disk_snapshot_service_pb2,
)
from stillpoint.operation.v1 import event_service_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud

_SERVED = {
    Service.COMPUTE: (instance_service_pb2, account_service_pb2),
    Service.DISK: (
        disk_service_pb2,
        disk_snapshot_service_pb2,
        auto_snapshot_policy_service_pb2,
        block_service_pb2,
    ),
    Service.SNAPSHOT: (instance_snapshot_service_pb2,),
}
_SERVED_BY_ALL = (operation_service_pb2, event_service_pb2)


@dataclass(frozen=True, slots=True)
class Method:
    service: Service
    path: str
    request: type[Message]
    response: type[Message]

    def __str__(self) -> str:
        return f"{self.service}-{self.path.rpartition('.')[2].replace('/', '.')}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def has_fields(self, *names: str) -> bool:
        return all(name in self.request.DESCRIPTOR.fields_by_name for name in names)

    def call(self, cloud: Cloud, request: Message) -> Any:
        stub = cloud.channels[self.service].unary_unary(
            self.path,
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )
        return stub(request)


def _methods() -> Iterator[Method]:
    for service, modules in _SERVED.items():
        for module in (*modules, *_SERVED_BY_ALL):
            descriptor: ServiceDescriptor
            for descriptor in module.DESCRIPTOR.services_by_name.values():
                for method in descriptor.methods:
                    yield Method(
                        service,
                        f"/{descriptor.full_name}/{method.name}",
                        GetMessageClass(method.input_type),
                        GetMessageClass(method.output_type),
                    )


METHODS = list(_methods())
MUTATIONS = [method for method in METHODS if method.has_fields("request_id")]
LISTS = [method for method in METHODS if method.has_fields("page_size", "page_token")]
