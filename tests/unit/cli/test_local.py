"""Supervision alone: stand-ins for the services, each a few lines that serve health on the address it is given."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Addresses, Service
from stillpoint_cli.errors import Failure
from stillpoint_cli.local import LocalDeployment, addresses_for

STAND_IN = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2_grpc
print("starting", os.environ["STILLPOINT_DATABASE_URL"], flush=True)
print("region", os.environ["STILLPOINT_REGION"], "knows", os.environ.get("STILLPOINT_PEERS"), flush=True)
if os.path.exists("fail-" + __spec__.name.split(".")[0]):
    sys.exit("cannot go on")
server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
server.add_insecure_port(os.environ["STILLPOINT_PUBLIC_ADDRESS"])
server.start()
signal.signal(signal.SIGTERM, lambda *_: (server.stop(0).wait(), os._exit(0)))
signal.pause()
"""


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in Service:
        (tmp_path / f"{service.module}.py").write_text(STAND_IN)
    # `python -m` looks in the working folder first.
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def deployment(tmp_path: Path) -> LocalDeployment:
    return LocalDeployment(tmp_path / "var", free_ports=True)


def test_a_deployment_serves_on_free_ports_and_leaves_its_addresses_while_it_runs(
    deployment: LocalDeployment,
):
    with deployment:
        assert Addresses.read(deployment.folder) == deployment.addresses
        assert set(deployment.pids) == set(Service)
        assert deployment.dead() is None
        pids = deployment.pids.values()
    assert Addresses.read(deployment.folder) is None
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_second_deployment_on_the_same_folder_is_refused_and_the_first_goes_on(deployment: LocalDeployment):
    with deployment:
        with pytest.raises(Failure, match=r"runs on .* already"):
            LocalDeployment(deployment.folder, free_ports=True).start()
        assert Addresses.read(deployment.folder) == deployment.addresses
        assert deployment.dead() is None


def test_a_folder_can_be_used_again_after_its_deployment_has_stopped(deployment: LocalDeployment):
    deployment.start()
    deployment.stop()
    with LocalDeployment(deployment.folder, free_ports=True) as again:
        assert len(again.pids) == 3


def test_a_killed_service_is_dead_until_it_is_restarted_on_the_same_address(deployment: LocalDeployment):
    with deployment:
        before = deployment.pids[Service.DISK]
        deployment.kill(Service.DISK)
        assert deployment.dead() is Service.DISK
        assert Service.DISK not in deployment.pids
        deployment.restart(Service.DISK)
        assert deployment.dead() is None
        assert deployment.pids[Service.DISK] != before


def test_a_service_that_cannot_start_is_named_with_the_end_of_its_log_and_none_is_left(
    deployment: LocalDeployment, tmp_path: Path
):
    (tmp_path / "fail-disk_svc").touch()
    with pytest.raises(Failure, match=r"(?s)disk_svc ended with exit code 1.*cannot go on"):
        deployment.start()
    assert deployment.pids == {}
    assert not (deployment.folder / "addresses.json").exists()


def test_a_port_in_use_is_named_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("stillpoint_cli.local.DEFAULT_PORTS", dict.fromkeys(Service, (port, port, port)))
        with pytest.raises(Failure, match=f"port {port}, which compute_svc needs, is in use"):
            LocalDeployment(tmp_path / "var").start()
    assert list((tmp_path / "var" / "logs").iterdir()) == []


def test_up_runs_until_sigterm_and_stops_all(tmp_path: Path):
    up = start_up()
    try:
        wait_for(tmp_path / "var" / "addresses.json")
    finally:
        up.send_signal(signal.SIGTERM)
    output, errors = up.communicate(timeout=20)
    assert up.returncode == 0, errors
    assert "compute_svc" in output
    assert not (tmp_path / "var" / "addresses.json").exists()


def test_up_stops_all_when_one_dies_and_says_which(tmp_path: Path):
    up = start_up("--quiet")
    wait_for(tmp_path / "var" / "addresses.json")
    address = json.loads((tmp_path / "var" / "addresses.json").read_text())["snapshot"]["public"]
    os.kill(child_serving(up.pid, address), signal.SIGKILL)
    output, errors = up.communicate(timeout=20)
    assert up.returncode == 1
    assert output == ""
    assert "snapshot_svc was ended by signal 9" in errors
    assert not (tmp_path / "var" / "addresses.json").exists()


def test_regions_side_by_side_have_their_own_folders_and_ports_and_know_each_other(tmp_path: Path):
    up = start_up("--region", "local", "--region", "eu")
    folders = {"local": tmp_path / "var", "eu": tmp_path / "var" / "eu"}
    try:
        wait_for(folders["eu"] / "addresses.json")
        addresses = {region: Addresses.read(folder) for region, folder in folders.items()}
    finally:
        up.send_signal(signal.SIGTERM)
    output, errors = up.communicate(timeout=20)
    assert up.returncode == 0, errors
    assert not any((folder / "addresses.json").exists() for folder in folders.values())
    for region, peer in (("local", "eu"), ("eu", "local")):
        mine, theirs = addresses[region], addresses[peer]
        assert mine is not None
        assert theirs is not None
        assert mine.disk.public in output
        for service in (Service.DISK, Service.SNAPSHOT):
            log = (folders[region] / "logs" / f"{service}.log").read_text()
            assert f"region {region} knows {json.dumps({peer: theirs.of(service).internal})}" in log


def test_the_ports_of_regions_side_by_side_are_a_hundred_apart():
    first, second, third = addresses_for(3, free_ports=False)
    for addresses, above in ((first, 0), (second, 100), (third, 200)):
        assert addresses.compute.public == f"127.0.0.1:{50051 + above}"
        assert addresses.snapshot.internal == f"127.0.0.1:{50063 + above}"
        assert addresses.disk.metrics == f"127.0.0.1:{50072 + above}"


def test_when_a_service_of_one_region_dies_all_regions_stop(tmp_path: Path):
    up = start_up("--quiet", "--region", "eu", "--region", "us")
    wait_for(tmp_path / "var" / "us" / "addresses.json")
    address = json.loads((tmp_path / "var" / "eu" / "addresses.json").read_text())["disk"]["public"]
    os.kill(child_serving(up.pid, address), signal.SIGKILL)
    _, errors = up.communicate(timeout=20)
    assert up.returncode == 1
    assert "disk_svc was ended by signal 9" in errors
    assert not list((tmp_path / "var").glob("*/addresses.json"))


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        (["../eu"], "is no name"),
        (["EU"], "is no name"),
        (["eu", "eu"], "is named twice"),
        (["store"], "name of a folder"),
    ],
)
def test_up_fails_when_a_region_has_no_proper_name_or_is_named_twice(
    tmp_path: Path, regions: list[str], said: str
):
    up = start_up(*(word for region in regions for word in ("--region", region)))
    _, errors = up.communicate(timeout=20)
    assert up.returncode == 2
    assert said in errors
    assert not (tmp_path / "var").exists()


def start_up(*options: str) -> subprocess.Popen[str]:
    code = "from stillpoint_cli.main import app; app()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "up", "--free-ports", "--dir", "var", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def child_serving(parent: int, address: str) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (pid,) = [
        int(child)
        for child in children
        if f"STILLPOINT_PUBLIC_ADDRESS={address}\0" in Path(f"/proc/{child}/environ").read_text()
    ]
    return pid
