"""What a caller may do, and what each RPC needs for it: the protos say that, this reads them."""

import enum
from collections.abc import Iterable

from google.protobuf.descriptor import ServiceDescriptor

from stillpoint.operation.v1 import role_pb2


class Role(enum.StrEnum):
    """stillpoint.operation.v1.Role, as tokens name them."""

    USER = "user"
    ADMIN = "admin"
    SERVICE = "service"


OF_TOKENS = frozenset({Role.USER, Role.ADMIN})
"""What a token can give; a client certificate of the internal port gives SERVICE."""


def needed_roles(services: Iterable[ServiceDescriptor]) -> dict[str, Role]:
    """By the full name of each method, `/package.Service/Method`. A service that names no role is a mistake: KeyError."""
    roles: dict[str, Role] = {}
    for service in services:
        of_service = service.GetOptions().Extensions[role_pb2.needs]
        for method in service.methods:
            needed = method.GetOptions().Extensions[role_pb2.method_needs] or of_service
            roles[f"/{service.full_name}/{method.name}"] = _ROLES[needed]
    return roles


_ROLES = {
    role_pb2.ROLE_USER: Role.USER,
    role_pb2.ROLE_ADMIN: Role.ADMIN,
    role_pb2.ROLE_SERVICE: Role.SERVICE,
}
