"""`stillpoint operation abandon` asks three services, each of which has its own to say, or is gone."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from typer.testing import CliRunner, Result

from stillpoint.operation.v1.operation_pb2 import Operation, OperationError
from stillpoint.operation.v1.operation_service_pb2 import (
    AbandonOperationRequest,
    AbandonOperationResponse,
    ReleasedHold,
)
from stillpoint_cli.addresses import Service
from stillpoint_cli.main import app
from tests.unit.cli.fake_services import FakeServices, Refusal, serve_operation

Run = Callable[..., Result]

ABANDON = ("operation", "abandon", "op-s-1", "--reason", "It is gone.")


class Deployment:
    """Three services that take turns in a common list of calls: who was asked, and whether only to look."""

    def __init__(self) -> None:
        self.calls: list[tuple[Service, bool]] = []
        self.requests: list[AbandonOperationRequest] = []
        self.answers: dict[Service, AbandonOperationResponse | Refusal] = {
            service: AbandonOperationResponse() for service in Service
        }
        self.fakes = {service: FakeServices() for service in Service}
        for service, fake in self.fakes.items():
            fake.answer("OperationService/AbandonOperation", AbandonOperationRequest, self._of(service))

    def _of(self, service: Service) -> Callable[[AbandonOperationRequest], AbandonOperationResponse]:
        def answer(request: AbandonOperationRequest) -> AbandonOperationResponse:
            self.calls.append((service, request.validate_only))
            self.requests.append(request)
            answer = self.answers[service]
            if isinstance(answer, Refusal):
                raise answer
            if not request.validate_only and answer.HasField("operation"):
                answer.operation.state = Operation.STATE_ABANDONED
            return answer

        return answer

    def asked(self, *, looking: bool) -> list[Service]:
        return [service for service, only_looked in self.calls if only_looked is looking]


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    deployment = Deployment()
    servers = []
    for service, fake in deployment.fakes.items():
        server = grpc.server(ThreadPoolExecutor(2), handlers=[fake])
        fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        monkeypatch.setenv(f"STILLPOINT_{service.name}", fake.address)
        server.start()
        servers.append(server)
    yield deployment
    for server in servers:
        server.stop(0).wait()


@pytest.fixture
def run(deployment: Deployment) -> Run:
    return lambda *words, typed="": CliRunner().invoke(app, words, input=typed)


def is_gone(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv(f"STILLPOINT_{service.name}", "127.0.0.1:1")


def holds(*held: tuple[str, str]) -> AbandonOperationResponse:
    return AbandonOperationResponse(released=[ReleasedHold(kind=kind, resource_id=id_) for kind, id_ in held])


def no_operation(reason: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        "operation op-s-1 is not here",
        ErrorInfo(reason=reason, domain="stillpoint"),
    )


def running() -> AbandonOperationResponse:
    return AbandonOperationResponse(
        operation=Operation(
            id="op-s-1",
            kind="create_instance_snapshot",
            state=Operation.STATE_RUNNING,
            current_step="finish",
        )
    )


def test_shows_what_each_service_holds_asks_and_changes_nothing_when_the_answer_is_no(
    deployment: Deployment, run: Run
):
    deployment.answers[Service.SNAPSHOT] = running()
    deployment.answers[Service.COMPUTE] = holds(("lease", "i-1"))
    deployment.answers[Service.DISK] = holds(("task", "disk-1"), ("point", "op-s-1/cut"))
    result = run(*ABANDON, typed="n\n")
    assert result.exit_code == 1
    assert "Abandon op-s-1 (create_instance_snapshot, RUNNING at finish)?" in result.stderr
    rows = [line.split() for line in result.stderr.splitlines()]
    assert ["compute_svc", "lease", "i-1"] in rows
    assert ["disk_svc", "task", "disk-1"] in rows
    assert ["disk_svc", "point", "op-s-1/cut"] in rows
    assert result.stdout == ""
    assert deployment.asked(looking=False) == []


def test_asks_its_own_service_first_and_then_the_others_and_says_what_each_has_let_go(
    deployment: Deployment, run: Run
):
    deployment.answers[Service.SNAPSHOT] = running()
    deployment.answers[Service.COMPUTE] = holds(("lease", "i-1"))
    result = run(*ABANDON, typed="y\n")
    assert result.exit_code == 0, result.output
    assert deployment.asked(looking=False) == [Service.SNAPSHOT, Service.COMPUTE, Service.DISK]
    assert {(each.operation_id, each.reason) for each in deployment.requests} == {("op-s-1", "It is gone.")}
    assert result.stdout.splitlines() == ["op-s-1 is ABANDONED.", "compute_svc has let go: lease i-1"]


def test_yes_asks_nothing_and_json_is_a_line_for_each_service(deployment: Deployment, run: Run):
    deployment.answers[Service.SNAPSHOT] = running()
    deployment.answers[Service.DISK] = holds(("task", "disk-1"))
    result = run(*ABANDON, "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = {line["service"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert list(lines) == ["snapshot", "compute", "disk"]
    assert lines["snapshot"]["operation"]["state"] == "STATE_ABANDONED"
    assert lines["disk"]["released"] == [{"kind": "task", "resource_id": "disk-1"}]


@pytest.mark.usefixtures("impatient")
def test_a_service_that_is_gone_is_passed_over_and_named_at_the_end_with_what_to_do_should_it_come_back(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch
):
    deployment.answers[Service.SNAPSHOT] = running()
    is_gone(monkeypatch, Service.DISK)
    result = run(*ABANDON, typed="y\n")
    assert deployment.asked(looking=False) == [Service.SNAPSHOT, Service.COMPUTE]
    assert "disk_svc cannot be asked" in result.stderr
    assert result.exit_code == 1
    assert "disk_svc did not answer" in result.stderr
    assert "`stillpoint operation abandon op-s-1 --reason 'It is gone.'`" in result.stderr
    assert "op-s-1 is ABANDONED." in result.stdout


@pytest.mark.usefixtures("impatient")
def test_when_its_own_service_does_not_answer_nothing_is_changed_unless_that_is_said_to_be_gone(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch
):
    deployment.answers[Service.COMPUTE] = holds(("lease", "i-1"))
    is_gone(monkeypatch, Service.SNAPSHOT)
    result = run(*ABANDON, "--yes")
    assert result.exit_code == 1
    assert "cannot reach snapshot_svc" in result.stderr
    assert "--owner-is-gone" in result.stderr
    assert deployment.asked(looking=False) == []

    result = run(*ABANDON, "--yes", "--owner-is-gone")
    assert result.exit_code == 0, result.output
    assert deployment.asked(looking=False) == [Service.COMPUTE, Service.DISK]
    assert result.stdout == "compute_svc has let go: lease i-1\n"


@pytest.mark.parametrize("reason", ["OPERATION_NOT_FOUND", "OPERATION_ENDED"])
def test_what_others_hold_for_an_operation_that_its_own_service_has_no_more_is_let_go(
    deployment: Deployment, run: Run, reason: str
):
    deployment.answers[Service.SNAPSHOT] = no_operation(reason)
    deployment.answers[Service.DISK] = holds(("task", "disk-1"))
    result = run(*ABANDON, typed="y\n")
    assert result.exit_code == 0, result.output
    assert "Abandon op-s-1? It cannot be resumed." in result.stderr
    assert result.stdout == "disk_svc has let go: task disk-1\n"


@pytest.mark.parametrize("reason", ["OPERATION_NOT_FOUND", "OPERATION_ENDED"])
def test_when_nobody_holds_anything_its_own_service_has_the_word(
    deployment: Deployment, run: Run, reason: str
):
    deployment.answers[Service.SNAPSHOT] = no_operation(reason)
    result = run(*ABANDON, "--yes")
    assert result.exit_code == 1
    assert f"operation op-s-1 is not here ({reason})" in result.stderr
    assert deployment.asked(looking=False) == []


def test_any_other_refusal_ends_it_before_anything_is_changed(deployment: Deployment, run: Run):
    deployment.answers[Service.DISK] = Refusal(
        grpc.StatusCode.PERMISSION_DENIED, "it needs the role admin", ErrorInfo(reason="ROLE_REQUIRED")
    )
    result = run(*ABANDON, "--yes")
    assert result.exit_code == 1
    assert "it needs the role admin" in result.stderr
    assert deployment.asked(looking=False) == []


def test_an_id_that_names_no_service_and_a_missing_reason_are_refused_before_anything_is_sent(
    deployment: Deployment, run: Run
):
    assert run("operation", "abandon", "disk-1", "--reason", "It is gone.").exit_code == 1
    assert run("operation", "abandon", "op-s-1").exit_code == 2
    assert deployment.calls == []


def test_who_follows_an_operation_that_is_abandoned_is_told_and_ends_with_1(deployment: Deployment, run: Run):
    error: Any = OperationError(code=10, reason="OPERATION_ABANDONED", message="abandoned by alice")
    serve_operation(
        deployment.fakes[Service.SNAPSHOT],
        Operation(id="op-s-1", kind="create", state=Operation.STATE_ABANDONED, error=error),
    )
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 1
    assert "abandoned by alice (OPERATION_ABANDONED)" in result.stderr
