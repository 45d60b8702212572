"""Which token goes to which deployment, over what; seen from the service's side where it is about what is sent."""

import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from stillpoint.compute.v1 import account_service_pb2 as account_pb2
from stillpoint.compute.v1 import participant_service_pb2 as compute_pb2
from stillpoint.compute.v1.participant_service_pb2_grpc import ParticipantServiceStub
from stillpoint_cli import certs
from stillpoint_cli.addresses import Addresses, Endpoint, Service
from stillpoint_cli.certs import Certs
from stillpoint_cli.connections import Connections
from stillpoint_cli.credentials import INTERNAL, Credentials, read_token
from stillpoint_cli.errors import DoorLocked, Failure, NotTrusted
from stillpoint_cli.logins import Login, login_file
from stillpoint_cli.main import app
from svckit.auth.identity import Certificate

ELSEWHERE = Addresses(*(Endpoint("10.0.0.1:1", "10.0.0.1:2") for _ in Service))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return certs.make(tmp_path_factory.mktemp("certs") / "certs")


class Listener(grpc.GenericRpcHandler):
    """Answers GetAccount, and keeps what each call brought to prove itself."""

    def __init__(self) -> None:
        self.brought: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        if not details.method.startswith("/stillpoint."):
            return None  # it has no health to watch, which clients take for good health
        metadata = dict(details.invocation_metadata)
        self.brought.append(str(metadata.get("authorization", "nothing")))
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: account_pb2.GetAccountResponse(
                account=account_pb2.Account(id="team-a")
            ),
            request_deserializer=account_pb2.GetAccountRequest.FromString,
            response_serializer=account_pb2.GetAccountResponse.SerializeToString,
        )


@contextmanager
def listening(made: Certs | None) -> Iterator[tuple[Listener, Addresses]]:
    listener = Listener()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((listener,))
    if made is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        certificate = Certificate(made.folder / "public.crt", made.folder / "public.key")
        port = server.add_secure_port("127.0.0.1:0", certificate.server_credentials())
    server.start()
    try:
        yield listener, Addresses(*(Endpoint(f"127.0.0.1:{port}", "127.0.0.1:1") for _ in Service))
    finally:
        server.stop(0).wait()


def ask(
    addresses: Addresses, environment: Mapping[str, str], login: Login | None = None, times: int = 1
) -> None:
    with closing(Connections(addresses, Credentials(environment, login))) as connections:
        for _ in range(times):
            connections.accounts.GetAccount(account_pb2.GetAccountRequest(account_id="a"))


def test_a_token_comes_from_the_environment_then_from_its_file_then_from_the_login(
    made: Certs, tmp_path: Path
):
    file = tmp_path / "token"
    file.write_text("from-file\n")
    settings = {"STILLPOINT_TOKEN": "from-environment", "STILLPOINT_TOKEN_FILE": str(file)}
    with listening(made) as (listener, addresses):
        login = Login("from-login", made.ca.read_text(), addresses)
        ask(addresses, settings, login)
        ask(addresses, {**settings, "STILLPOINT_TOKEN": ""}, login)
        ask(addresses, {}, login)
        ask(addresses, {"STILLPOINT_CA": str(made.ca)})
    assert listener.brought == [
        "Bearer from-environment",
        "Bearer from-file",
        "Bearer from-login",
        "nothing",
    ]


def test_a_token_that_is_replaced_in_its_file_is_taken_up_by_the_next_call(made: Certs, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("first")
    with listening(made) as (listener, addresses):
        credentials = Credentials({"STILLPOINT_TOKEN_FILE": str(file), "STILLPOINT_CA": str(made.ca)})
        with closing(Connections(addresses, credentials)) as connections:
            connections.accounts.GetAccount(account_pb2.GetAccountRequest(account_id="a"))
            file.write_text("second")
            connections.accounts.GetAccount(account_pb2.GetAccountRequest(account_id="a"))
            file.unlink()
            with pytest.raises(Failure, match="No such file"):
                connections.accounts.GetAccount(account_pb2.GetAccountRequest(account_id="a"))
    assert listener.brought == ["Bearer first", "Bearer second"]


def test_a_login_counts_at_its_own_addresses_only():
    login = Login("secret", "", ELSEWHERE)
    assert Credentials({}, login).public(Service.DISK, "10.0.0.1:1") is not None
    assert Credentials({}, login).public(Service.DISK, "10.0.0.1:9") is None
    with listening(None) as (listener, addresses):
        ask(addresses, {}, login)
    assert listener.brought == ["nothing"]


@pytest.mark.parametrize("source", ["STILLPOINT_TOKEN", "STILLPOINT_TOKEN_FILE", "login"])
def test_a_token_is_refused_to_a_plain_channel_wherever_it_is_from(source: str, tmp_path: Path):
    (tmp_path / "token").write_text("secret")
    settings = {"STILLPOINT_TOKEN": "secret", "STILLPOINT_TOKEN_FILE": str(tmp_path / "token"), "login": ""}
    environment = {"STILLPOINT_TLS": "0", source: settings[source]}
    with listening(None) as (listener, addresses):
        login = Login("secret", "", addresses) if source == "login" else None
        with pytest.raises(Failure, match="never sent over a plain channel"):
            ask(addresses, environment, login)
        # Without being told anything, it is TLS that is tried, and the plain port hears no call.
        with pytest.raises(NotTrusted, match="speaks no TLS"):
            ask(addresses, {source: settings[source]}, login)
    assert listener.brought == []


def test_a_service_that_cannot_prove_who_it_is_gets_no_token(made: Certs, tmp_path: Path):
    other = certs.make(tmp_path / "other")
    with listening(made) as (listener, addresses):
        with pytest.raises(NotTrusted, match=r"does not prove who it is: .*certificate"):
            ask(addresses, {"STILLPOINT_TOKEN": "secret", "STILLPOINT_CA": str(other.ca)})
        with pytest.raises(NotTrusted, match="does not prove who it is"):
            ask(addresses, {"STILLPOINT_TOKEN": "secret"})
    assert listener.brought == []


def test_who_comes_without_tls_to_a_locked_door_is_told_so_without_waiting(made: Certs):
    with listening(made) as (_, addresses), pytest.raises(DoorLocked, match="stillpoint login"):
        ask(addresses, {})


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "tök", "a\x00b"])
def test_what_has_not_the_form_of_a_token_is_refused_and_never_repeated(content: str, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(Failure) as refused:
        read_token(file)
    assert str(file) in str(refused.value)
    assert not content or content not in str(refused.value)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path):
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(Failure, match="has no certificate"):
        Credentials({"STILLPOINT_CA": str(tmp_path / "ca")}).public(Service.DISK, "a:1")


def test_a_setting_for_the_internal_ports_that_is_missing_is_named():
    assert Credentials({}).internal() is None
    with pytest.raises(Failure, match=rf"not set: {INTERNAL[1]}, {INTERNAL[2]}$"):
        Credentials({INTERNAL[0]: "file"}).internal()


def test_the_internal_port_of_a_locked_deployment_is_not_asked_without_a_certificate(made: Certs):
    credentials = Credentials({"STILLPOINT_CA": str(made.ca)})
    with closing(Connections(ELSEWHERE, credentials)) as connections:
        stub = ParticipantServiceStub(connections.internal(Service.COMPUTE))
        with pytest.raises(Failure, match=INTERNAL[0]):
            stub.ListLeases(compute_pb2.ListLeasesRequest())


def test_a_login_is_its_owners_alone_and_is_replaced_whole():
    Login("first", "ca", ELSEWHERE).write()
    file = Login("second", "ca", ELSEWHERE).write()
    assert Login.read() == Login("second", "ca", ELSEWHERE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]
    assert "second" not in repr(Login.read())


@pytest.mark.parametrize("content", ["secret", '{"token": "secret"}', '["secret"]'])
def test_a_login_that_cannot_be_read_says_how_to_remove_it_and_does_not_repeat_it(content: str):
    login_file().parent.mkdir(parents=True)
    login_file().write_text(content)
    refused = CliRunner().invoke(app, ["disk", "list"])
    assert refused.exit_code == 1
    assert "`stillpoint logout` removes it" in refused.stderr
    assert "secret" not in refused.output
    assert CliRunner().invoke(app, ["logout"]).exit_code == 0
    assert Login.read() is None


def test_commands_go_to_where_the_login_was_and_its_token_with_them(
    made: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    token = made.token("team-a", ["user"], subject="s", life=certs._LIFE)
    run: Callable[..., Any] = lambda *words, typed="": CliRunner().invoke(app, list(words), input=typed)  # noqa: E731
    with listening(made) as (listener, addresses):
        chosen = [word for service in Service for word in (f"--{service}", addresses.of(service).public)]
        done = run(*chosen, "login", "--ca", str(made.ca), typed=f"{token}\n")
        assert done.exit_code == 0, done.output
        assert "team-a" in done.stdout
        assert token not in done.output
        assert run("account", "show").exit_code == 0
        assert listener.brought == [f"Bearer {token}"] * 2
        assert run("logout").exit_code == 0
    assert not login_file().exists()


def test_a_token_that_no_service_has_accepted_is_not_kept():
    refused = CliRunner().invoke(app, ["login"], input="garbage")
    assert refused.exit_code == 1
    assert "garbage" not in refused.output
    assert not login_file().exists()
