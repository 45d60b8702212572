"""A deployment in containers, as deploy/ makes it, beside any other: a project, ports and secrets of its own."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Service
from stillpoint_cli.certs import Certs

ROOT = Path(__file__).resolve().parents[2]
_PORTS = {
    Service.COMPUTE: range(50610, 50614),
    Service.DISK: range(50620, 50621),
    Service.SNAPSHOT: range(50630, 50634),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    environment: Mapping[str, str]
    certs: Certs

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "deploy/compose", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=check,
        )

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).stdout.split()

    def client_environment(self, token_file: Path) -> dict[str, str]:
        """What leads a command of a client here."""
        token = self.certs.token("demo", ["user"], subject="tests", life=timedelta(hours=1))
        token_file.write_text(token)
        addresses = {
            f"STILLPOINT_{service.name}": ",".join(f"127.0.0.1:{port}" for port in ports)
            for service, ports in _PORTS.items()
        }
        return {
            **os.environ,
            **addresses,
            "STILLPOINT_CA": str(self.certs.ca),
            "STILLPOINT_TOKEN_FILE": str(token_file),
            "PYTHONUNBUFFERED": "1",
        }


def docker(*words: str) -> str:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def engine_answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two replicas of compute_svc and of snapshot_svc."""
    if shutil.which("docker") is None or not engine_answers():
        pytest.skip("no Docker engine answers")
    certs = Certs(tmp_path_factory.mktemp("deployment") / "secrets")
    ports = {
        f"STILLPOINT_{service.name}_PORT{'' if service is Service.DISK else 'S'}": f"{ports[0]}-{ports[-1]}"
        if len(ports) > 1
        else f"{ports[0]}"
        for service, ports in _PORTS.items()
    }
    environment = {
        **os.environ,
        **ports,
        "COMPOSE_PROJECT_NAME": f"stillpoint-test-{secrets.token_hex(3)}",
        "STILLPOINT_SECRETS": str(certs.folder),
        "STILLPOINT": str(Path(sys.executable).with_name("stillpoint")),
    }
    made = Deployment(environment, certs)
    scale = [f"--scale={service}=2" for service in ("compute_svc", "snapshot_svc")]
    try:
        subprocess.run([ROOT / "deploy/up.sh", *scale], env=environment, timeout=900, check=True)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "20", check=False)
