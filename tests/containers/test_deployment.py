"""The deployment of deploy/, with two replicas of the services that may have them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Service
from tests.containers.conftest import ROOT, Deployment, docker

pytestmark = pytest.mark.timeout(1500)


def inspected(container: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(docker("inspect", container))[0]
    return found


def test_the_demo_proves_a_machines_snapshot_while_a_replica_of_each_is_killed(
    deployment: Deployment, tmp_path: Path
):
    doomed = {
        "Start a writer": deployment.containers("compute_svc")[0],
        "Take a snapshot": deployment.containers("snapshot_svc")[0],
    }
    said = []
    with subprocess.Popen(
        [sys.executable, ROOT / "demo/run.py", "--deployment"],
        env=deployment.client_environment(tmp_path / "token"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            for step in [step for step in doomed if step in line]:
                docker("kill", doomed.pop(step))
    assert demo.returncode == 0, "".join(said)
    assert not doomed
    assert "Proved" in said[-1], "".join(said)


def test_a_second_disk_svc_on_the_same_store_refuses_to_start_and_says_so(deployment: Deployment):
    second = deployment.compose("run", "--rm", "--no-deps", "-T", "disk_svc", check=False)
    assert second.returncode != 0
    assert "/var/lib/stillpoint/store is in use by process" in second.stdout + second.stderr
    [first] = deployment.containers("disk_svc")
    assert docker("inspect", "--format", "{{.State.Running}}", first) == "true"


@pytest.mark.parametrize("service", Service)
def test_a_service_runs_without_root_without_a_compiler_and_with_a_limit(
    deployment: Deployment, service: Service
):
    container = deployment.containers(service.module)[-1]
    assert docker("exec", container, "id", "-u") == "10001"
    assert docker("exec", container, "sh", "-c", "command -v cc gcc c++ make || echo none") == "none"
    host = inspected(container)["HostConfig"]
    assert isinstance(host, dict)
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["ReadonlyRootfs"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_public_ports_are_published_and_on_loopback_alone(deployment: Deployment):
    published = []
    for service in ("postgres", *(service.module for service in Service)):
        for container in deployment.containers(service):
            ports = inspected(container)["NetworkSettings"]
            assert isinstance(ports, dict)
            for inner, bound in ports["Ports"].items():
                published += [(service, inner, where["HostIp"]) for where in bound or ()]
    assert {host for _, _, host in published} == {"127.0.0.1"}
    assert {(service, inner) for service, inner, _ in published} <= {
        ("compute_svc", "50051/tcp"),
        ("disk_svc", "50052/tcp"),
        ("snapshot_svc", "50053/tcp"),
    }


def test_a_services_role_reads_its_own_database_and_no_other(deployment: Deployment):
    [postgres] = deployment.containers("postgres")

    def may(role: str, database: str) -> str:
        question = f"SELECT has_database_privilege('{role}', '{database}', 'CONNECT')"
        return docker(
            "exec", postgres, "psql", "--username=postgres", "--no-align", "--tuples-only", "-c", question
        )

    services = [service.module for service in Service]
    allowed = {(role, database) for role in services for database in services if may(role, database) == "t"}
    assert allowed == {(service, service) for service in services}


def test_no_secret_is_in_what_the_containers_are_started_with_or_have_said(deployment: Deployment):
    kept = [
        file.read_text().strip()
        for file in deployment.certs.folder.iterdir()
        if file.suffix in {".key", ""} and file.is_file()
    ]
    assert len(kept) >= 8
    for service in ("postgres", *(service.module for service in Service)):
        for container in deployment.containers(service):
            shown = json.dumps(inspected(container)) + docker("logs", container)
            assert not [secret for secret in kept if secret in shown]
