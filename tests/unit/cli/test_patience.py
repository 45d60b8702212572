"""How long a service that is away is waited for."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import grpc
import pytest

from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint_cli.addresses import Addresses, Endpoint, Service
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import Unreachable
from tests.support.servers import free_port
from tests.unit.cli.fake_services import FakeServices

GET = disk_pb2.GetDiskRequest(disk_id="disk-1")


@contextmanager
def serving(address: str) -> Iterator[None]:
    services = FakeServices()
    services.answer("DiskService/GetDisk", disk_pb2.GetDiskRequest, lambda _: disk_pb2.GetDiskResponse())
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((services,))
    server.add_insecure_port(address)
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def addresses_at(address: str) -> Addresses:
    return Addresses(*(Endpoint(address, address) for _ in Service))


def test_a_service_that_is_back_after_four_seconds_was_waited_for_and_the_user_told(
    address: str, capsys: pytest.CaptureFixture[str]
):
    stop = threading.Event()

    def come_back() -> None:
        time.sleep(4)
        with serving(address):
            stop.wait(30)

    with closing(Connections(addresses_at(address))) as connections:
        with serving(address):
            connections.disks.GetDisk(GET)
        assert capsys.readouterr().err == ""
        thread = threading.Thread(target=come_back)
        thread.start()
        try:
            connections.disks.GetDisk(GET)
        finally:
            stop.set()
            thread.join()
    assert capsys.readouterr().err == f"Waiting for disk_svc at {address} …\n"


def test_where_nothing_speaks_for_a_service_it_is_not_waited_for_long(
    address: str, capsys: pytest.CaptureFixture[str]
):
    began = time.monotonic()
    with (
        closing(Connections(addresses_at(address), guessed={address})) as connections,
        pytest.raises(Unreachable, match="`stillpoint up` starts"),
    ):
        connections.disks.GetDisk(GET)
    assert time.monotonic() - began < 10
    assert capsys.readouterr().err == ""


def test_a_service_that_stayed_away_once_is_not_waited_for_as_long_again(
    address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("stillpoint_cli.patience._QUICK_SECONDS", (0.01,))
    monkeypatch.setattr("stillpoint_cli.patience._PATIENT_SECONDS", (0.01,) * 50)
    with closing(Connections(addresses_at(address))) as connections:
        times = []
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(Unreachable):
                connections.disks.GetDisk(GET)
            times.append(time.monotonic() - began)
    assert times[0] > 0.5
    assert times[1] < times[0] / 2
