"""The door, generated over every RPC: who comes without a token, without the role, or to the port that is not theirs."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stillpoint.compute.v1 import participant_service_pb2 as compute_participant
from stillpoint.disk.v1 import import_service_pb2 as disk_import
from stillpoint.disk.v1 import participant_service_pb2 as disk_participant
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint.snapshot.v1 import import_service_pb2 as snapshot_import
from stillpoint_cli import certs
from stillpoint_cli.addresses import Service
from svckit.auth.identity import Certificate, Identity
from svckit.auth.roles import Role, needed_roles
from tests.contract.cloud import Cloud
from tests.contract.error_tables import COMMON, Observed
from tests.contract.locked import Locked, locked_deployment
from tests.contract.methods import LISTS, METHODS, Method
from tests.contract.refusals import refused
from tests.contract.strangers import STREAMS
from tests.support.issuer import public_jwk, sign
from tests.support.waiting import eventually

INTERNAL = [
    Method(service, f"/{descriptor.full_name}/{method.name}", *map(GetMessageClass, types))
    for service, module in (
        (Service.COMPUTE, compute_participant),
        (Service.DISK, disk_participant),
        (Service.DISK, disk_import),
        (Service.SNAPSHOT, snapshot_import),
    )
    for descriptor in module.DESCRIPTOR.services_by_name.values()
    for method in descriptor.methods
    for types in [(method.input_type, method.output_type)]
]
ADMIN = {"SetAccountStanding", "RetryOperation", "AbandonOperation"}


@dataclass(frozen=True, slots=True)
class Visitors:
    locked: Locked
    nobody: Cloud
    roleless: Cloud
    user: Cloud
    admin: Cloud
    impostor: Identity
    """Named like a service, by a CA of its own; it trusts ours."""


@pytest.fixture(scope="module")
def visitors(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Visitors]:
    with (
        locked_deployment(request, database_kind, observed, tmp_path_factory) as locked,
        closing(locked.visitor()) as nobody,
        # A role that no token can give is none.
        closing(locked.visitor("team-a", "service")) as roleless,
        closing(locked.visitor("team-a", "user")) as user,
        closing(locked.visitor("team-a", "admin")) as admin,
    ):
        others = certs.make(tmp_path_factory.mktemp("others")).folder
        impostor = Identity(
            Certificate(others / "compute_svc.crt", others / "compute_svc.key"),
            locked.certs.folder / "internal-ca.crt",
        )
        yield Visitors(locked, nobody, roleless, user, admin, impostor)


def call(method: Method, channel: grpc.Channel) -> Any:
    """With an empty request; of a stream the first answer."""
    serialize, parse = method.request.SerializeToString, method.response.FromString
    request: Message = method.request()
    if method.name not in STREAMS:
        return channel.unary_unary(method.path, serialize, parse)(request, timeout=10)
    if method.name == "WriteBlocks":
        return next(channel.stream_stream(method.path, serialize, parse)(iter([request]), timeout=10))
    return next(channel.unary_stream(method.path, serialize, parse)(request, timeout=10))


def code_of(method: Method, channel: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        call(method, channel)
    code: grpc.StatusCode = error.value.code()
    return code


def test_every_rpc_needs_the_role_that_is_expected_of_it():
    files = {method.request.DESCRIPTOR.file for method in METHODS + INTERNAL}
    descriptors: list[Any] = [each for file in files for each in file.services_by_name.values()]
    needed = needed_roles(descriptors)
    for method in METHODS:
        assert needed[method.path] is (Role.ADMIN if method.name in ADMIN else Role.USER)
    for method in INTERNAL:
        assert needed[method.path] is Role.SERVICE


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_without_a_token_nobody_is_let_in(visitors: Visitors, method: Method):
    with refused("UNAUTHENTICATED", "UNAUTHENTICATED", COMMON):
        call(method, visitors.nobody.channels[method.service])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_without_the_role_that_the_rpc_needs_nobody_is_let_in(visitors: Visitors, method: Method):
    with refused("PERMISSION_DENIED", "ROLE_REQUIRED", COMMON) as refusal:
        call(method, visitors.roleless.channels[method.service])
    assert refusal.metadata == {"role": "admin" if method.name in ADMIN else "user"}


@pytest.mark.parametrize("method", [each for each in METHODS if each.name in ADMIN], ids=str)
def test_a_user_is_no_admin(visitors: Visitors, method: Method):
    with refused("PERMISSION_DENIED", "ROLE_REQUIRED", COMMON) as refusal:
        call(method, visitors.user.channels[method.service])
    assert refusal.metadata == {"role": "admin"}


@pytest.mark.parametrize(
    ("role", "method"),
    [("admin", method) for method in METHODS]
    + [("user", method) for method in METHODS if method.name not in ADMIN],
    ids=str,
)
def test_with_the_role_it_is_the_request_that_is_looked_at(visitors: Visitors, method: Method, role: str):
    """An empty one: a list answers it, an account is the caller's own, and everything else finds a field empty."""
    channel = getattr(visitors, role).channels[method.service]
    if method in LISTS or method.name == "GetAccount":
        call(method, channel)
    else:
        assert code_of(method, channel) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", INTERNAL, ids=str)
def test_what_services_keep_for_each_other_is_not_on_the_public_port(visitors: Visitors, method: Method):
    assert code_of(method, visitors.user.channels[method.service]) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_for_everybody_is_not_on_the_internal_port(visitors: Visitors, method: Method):
    address = visitors.locked.deployment.addresses.of(method.service).internal
    with grpc.secure_channel(address, visitors.locked.identity("operator").channel_credentials()) as channel:
        assert code_of(method, channel) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("shown", ["nothing", "public", "another CA's", "a token"])
@pytest.mark.parametrize("method", INTERNAL, ids=str)
def test_the_internal_port_shakes_hands_with_services_only(visitors: Visitors, method: Method, shown: str):
    locked = visitors.locked
    ca = grpc.ssl_channel_credentials((locked.certs.folder / "internal-ca.crt").read_bytes())
    token = grpc.access_token_call_credentials(locked.token("team-a", "admin", "service"))
    credentials = {
        "nothing": ca,
        "public": locked.identity("public").channel_credentials(),
        "another CA's": visitors.impostor.channel_credentials(),
        "a token": grpc.composite_channel_credentials(ca, token),
    }[shown]
    with grpc.secure_channel(locked.deployment.addresses.of(method.service).internal, credentials) as channel:
        assert code_of(method, channel) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("port", ["public", "internal"])
@pytest.mark.parametrize("service", Service)
def test_no_port_speaks_in_the_clear(visitors: Visitors, service: Service, port: str):
    address = getattr(visitors.locked.deployment.addresses.of(service), port)
    with grpc.insecure_channel(address) as channel:
        method = next(each for each in METHODS if each.service is service)
        assert code_of(method, channel) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("service", Service)
def test_health_is_told_without_a_token(visitors: Visitors, service: Service):
    # Its published types have no methods.
    stub: Any = health_pb2_grpc.HealthStub(visitors.nobody.channels[service])
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", Service)
def test_reflection_tells_without_a_token_what_is_published_and_nothing_internal(
    visitors: Visitors, service: Service
):
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(visitors.nobody.channels[service])
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([request]))
    told = {each.name for each in answer.list_services_response.service}
    published = {method.path.split("/")[1] for method in METHODS if method.service is service}
    assert told == {*published, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_keys_of_tokens_change_under_services_that_run(visitors: Visitors):
    locked = visitors.locked
    file = locked.certs.folder / "jwks.json"
    before = json.loads(file.read_text())
    key = ec.generate_private_key(ec.SECP256R1())
    with closing(locked.bearer(sign(key, "new", "team-a", "user"))) as newcomer:
        assert not any(_lets_in(newcomer, service) for service in Service)
        _publish(file, {"keys": [*before["keys"], public_jwk("new", key)]})
        eventually(lambda: all(_lets_in(newcomer, service) for service in Service), within_seconds=2)
        assert all(_lets_in(visitors.user, service) for service in Service)
        _publish(file, before)
        eventually(lambda: not any(_lets_in(newcomer, service) for service in Service), within_seconds=2)
        assert all(_lets_in(visitors.user, service) for service in Service)


def _publish(file: Path, keys: Any) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(keys))
    beside.replace(file)


def _lets_in(cloud: Cloud, service: Service) -> bool:
    try:
        cloud.operations[service].ListOperations(operation_service_pb2.ListOperationsRequest())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True
