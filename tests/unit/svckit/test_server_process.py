"""A service's process, from the outside: it stops when it is told to, and loses nothing by it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stillpoint.operation.v1.operation_service_pb2 import GetOperationRequest, WatchOperationRequest
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from stillpoint_cli.errors import code_of
from svckit.channels import open_channel
from svckit.clock import utc_now
from svckit.ids import new_id
from tests.support.servers import free_port
from tests.support.waiting import eventually
from tests.unit.svckit.sample import World

_ROOT = Path(__file__).parents[3]


class Process:
    """The program in serving.py."""

    def __init__(self, url: str, folder: Path, *, notice_seconds: float = 0.0) -> None:
        self.saga_id = new_id("op-t")
        self.port = free_port()
        arguments = [url, str(folder), str(self.port), str(free_port()), self.saga_id]
        self._log = (folder / "log").open("w")
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.svckit.serving", *arguments],
            cwd=_ROOT,
            env={**os.environ, "STILLPOINT_SHUTDOWN_NOTICE_SECONDS": str(notice_seconds)},
            stdout=self._log,
            stderr=self._log,
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        try:
            grpc.channel_ready_future(self.channel).result(timeout=30)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.channel.close()
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self._log.close()


@pytest.fixture
def process(world: World, tmp_path: Path) -> Iterator[Process]:
    process = Process(world.url, tmp_path)
    yield process
    process.close()


@pytest.fixture
def patient(world: World, tmp_path: Path) -> Iterator[Process]:
    """One that gives its clients time to leave, also on a crowded machine."""
    process = Process(world.url, tmp_path, notice_seconds=3.0)
    yield process
    process.close()


def _health(process: Process) -> int:
    stub: Any = health_pb2_grpc.HealthStub(process.channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest()).status
    return status


def test_on_sigterm_the_request_in_progress_is_answered_the_running_step_ends_and_the_exit_is_clean(
    world: World, process: Process, tmp_path: Path
):
    assert _health(process) == health_pb2.HealthCheckResponse.SERVING
    health: Any = health_pb2_grpc.HealthStub(process.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    stub = OperationServiceStub(process.channel)
    request = stub.GetOperation.future(GetOperationRequest(operation_id="op-t-1"))
    eventually((tmp_path / "request-reached").exists)
    eventually((tmp_path / "step-reached").exists)

    process.child.send_signal(signal.SIGTERM)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    assert process.child.poll() is None
    (tmp_path / "request-go-on").touch()
    assert request.result(timeout=15).operation.id == "op-t-1"

    assert process.child.poll() is None  # a step still runs
    assert not (tmp_path / "closed").exists()
    (tmp_path / "step-go-on").touch()
    assert process.child.wait(timeout=20) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "closed").exists()
    row = world.row(process.saga_id)
    assert (row.step, row.owner) == (1, "")
    assert row.due_at is not None
    assert row.due_at <= utc_now()
    assert world.log(process.saga_id) == ["accepted", "a"]


def test_on_sigterm_a_stream_that_would_go_on_for_ever_is_ended_as_unavailable(
    process: Process, tmp_path: Path
):
    watch = OperationServiceStub(process.channel).WatchOperation(
        WatchOperationRequest(operation_id=process.saga_id), timeout=15
    )
    assert next(watch).operation.id == process.saga_id
    eventually((tmp_path / "step-reached").exists)

    process.child.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as ended:
        for _ in watch:
            pass
    assert code_of(ended.value) is grpc.StatusCode.UNAVAILABLE
    # Not at the end of the grace, which gRPC itself makes of it.
    assert "the service stops" in str(ended.value)
    (tmp_path / "step-go-on").touch()
    assert process.child.wait(timeout=20) == 0, (tmp_path / "log").read_text()


def test_on_sigterm_clients_that_watch_health_find_no_call_cancelled(patient: Process, tmp_path: Path):
    for name in ("request-go-on", "step-go-on"):
        (tmp_path / name).touch()
    codes: set[grpc.StatusCode | None] = set()

    def ask() -> None:
        with open_channel(
            f"127.0.0.1:{patient.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub = OperationServiceStub(channel)
            while patient.child.poll() is None:
                try:
                    stub.GetOperation(GetOperationRequest(operation_id="op-t-1"))
                except grpc.RpcError as error:
                    codes.add(code_of(error))

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    eventually((tmp_path / "request-reached").exists)
    patient.child.send_signal(signal.SIGTERM)
    for client in clients:
        client.join()
    assert codes == {grpc.StatusCode.UNAVAILABLE}


def test_a_second_process_on_the_same_port_fails_rather_than_shares_it(
    process: Process, world: World, tmp_path: Path
):
    arguments = [world.url, str(tmp_path), str(process.port), str(free_port()), new_id("op-t")]
    (tmp_path / "step-go-on").touch()
    second = subprocess.run(
        [sys.executable, "-m", "tests.unit.svckit.serving", *arguments],
        cwd=_ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert second.returncode not in (0, -signal.SIGKILL)
    assert _health(process) == health_pb2.HealthCheckResponse.SERVING
