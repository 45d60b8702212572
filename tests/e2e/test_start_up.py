"""Services that are stopped, started again, and started where they must not run."""

import os
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment
from tests.e2e.images import digest, write_image
from tests.e2e.processes import PATIENCE_SECONDS, CommandLine, Up, run_service
from tests.support.servers import free_port
from tests.support.waiting import eventually

MIB = 1 << 20


def must_serve(up: Up, service: Service) -> None:
    with grpc.insecure_channel(up.addresses.of(service).public) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_each_service_ends_with_0_on_sigterm_and_finds_everything_again(tmp_path: Path):
    folder = tmp_path / "var"
    stillpoint = CommandLine(folder)
    with LocalDeployment(folder, free_ports=True) as deployment:
        made = stillpoint.json("instance", "create", "web-1", "--system", "1MiB", "--data", "1MiB")
        instance, (disk,) = made["instance"]["id"], made["data_disk_ids"]
        before, after = (write_image(tmp_path / f"{name}.img", MIB) for name in ("before", "after"))
        stillpoint.out("disk", "import", disk, before)
        snapshot = stillpoint.json("snapshot", "create", instance, "--wait")["instance_snapshot"]
        stillpoint.out("disk", "import", disk, after)
        shows = [
            ("instance", "show", instance, "--json"),
            ("snapshot", "show", snapshot["id"], "--json"),
        ]
        shown = stillpoint.out_of_each(shows)

        for pid in deployment.pids.values():
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not deployment.pids, within_seconds=PATIENCE_SECONDS, what="the end of all three")
        for service in Service:
            said = deployment.describe_death(service)
            assert said.startswith(f"{service.module} ended with exit code 0."), said

        deployment.stop()
        deployment.start()
        assert stillpoint.out_of_each(shows) == shown
        (member,) = (each["snapshot_id"] for each in snapshot["members"] if each["disk_id"] == disk)
        stillpoint.out_of_each(
            [("disk", "export", source, tmp_path / source) for source in (disk, member)] + [("doctor",)]
        )
        assert [digest(tmp_path / source) for source in (disk, member)] == [digest(after), digest(before)]


@pytest.mark.parametrize("service", Service)
def test_without_authentication_no_service_serves_anybody_but_this_machine(service: Service, tmp_path: Path):
    hosts = {"PUBLIC": "0.0.0.0", "INTERNAL": "192.0.2.1", "METRICS": "192.0.2.2"}
    addresses = {f"{name}_ADDRESS": f"{host}:{free_port()}" for name, host in hosts.items()}
    ran = run_service(service, tmp_path, **addresses)
    assert ran.code == 1
    for host in hosts.values():
        assert host in ran.err
        assert "not on loopback; without authentication a service binds loopback only" in ran.err


def test_a_service_says_what_is_no_url_of_a_collector(tmp_path: Path):
    ran = run_service(Service.COMPUTE, tmp_path, TRACES_ENDPOINT="localhost:4317")
    assert ran.code == 1
    assert "'localhost:4317' is not the URL of an OTLP/gRPC collector" in ran.err


@pytest.mark.parametrize("settings", [{"REGION": "The North"}, {"PEERS": '{"The North": "127.0.0.1:1"}'}])
def test_a_service_does_not_start_in_a_region_without_a_proper_name_nor_beside_one(
    settings: dict[str, str], tmp_path: Path
):
    ran = run_service(Service.COMPUTE, tmp_path, **settings)
    assert ran.code == 1
    assert "'The North' is not a region's name" in ran.err


def test_a_second_disk_svc_on_a_store_is_told_which_process_has_it(up: Up, tmp_path: Path):
    store = up.folder / "store"
    ran = run_service(Service.DISK, tmp_path, STORE_PATH=str(store))
    assert ran.code == 1
    assert f"{store.resolve()} is in use by process {up.services[Service.DISK]}" in ran.err
    must_serve(up, Service.DISK)


@pytest.mark.parametrize("name", ["PUBLIC_ADDRESS", "INTERNAL_ADDRESS", "METRICS_ADDRESS"])
def test_a_service_does_not_share_a_port_with_another(up: Up, name: str, tmp_path: Path):
    taken = up.addresses.disk.public
    ran = run_service(Service.COMPUTE, tmp_path, **{name: taken})
    assert ran.code == 1
    assert f"cannot listen on {taken}" in ran.err
    must_serve(up, Service.DISK)


@pytest.mark.parametrize("service", Service)
def test_a_service_refuses_a_database_that_nobody_has_migrated_and_says_what_to_run(
    service: Service, tmp_path: Path
):
    ran = run_service(service, tmp_path, MIGRATE_AT_START="false")
    assert ran.code == 1
    assert f"run `stillpoint migrate {service}`" in ran.err


def test_migrate_brings_a_database_up_to_date_and_back(tmp_path: Path):
    stillpoint = CommandLine(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path / 'snapshot.db'}")
    moves = [
        stillpoint.out("migrate", "snapshot", *options).strip()
        for options in ([], [], ["--to", "base"], ["--to", "0001"])
    ]
    assert moves[0].startswith("snapshot: base → ")
    newest = moves[0].split()[-1]
    assert moves[1:] == [
        f"snapshot: at {newest} already",
        f"snapshot: {newest} → base",
        "snapshot: base → 0001",
    ]


def test_where_the_database_does_not_answer_neither_a_service_nor_a_migration_starts_and_both_say_so(
    tmp_path: Path,
):
    nowhere = f"postgresql+psycopg://stillpoint:hunter2@127.0.0.1:{free_port()}/compute"
    refusals = [
        run_service(Service.COMPUTE, tmp_path, DATABASE_URL=nowhere),
        CommandLine(tmp_path, DATABASE_URL=nowhere)("migrate", "compute"),
    ]
    for ran in refusals:
        assert ran.code == 1
        assert "the database does not answer: connection failed" in ran.err
        assert "Traceback" not in ran.err
        assert "hunter2" not in ran.err


def test_a_migration_to_a_revision_that_is_not_there_changes_nothing_and_ends_with_1(tmp_path: Path):
    stillpoint = CommandLine(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path / 'snapshot.db'}")
    stillpoint.out("migrate", "snapshot")
    ran = stillpoint("migrate", "snapshot", "--to", "0000")
    assert ran.code == 1
    assert "there is no schema revision 0000" in ran.err
    assert " already" in stillpoint.out("migrate", "snapshot")
