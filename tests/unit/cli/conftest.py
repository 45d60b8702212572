import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from typer.testing import CliRunner, Result

from stillpoint_cli.main import app
from tests.unit.cli.fake_services import FakeServices


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a developer has set or kept for a deployment of their own."""
    for name in [name for name in os.environ if name.startswith("STILLPOINT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is away is soon given up."""
    monkeypatch.setattr("stillpoint_cli.patience._PATIENT_SECONDS", (0.01,))


@pytest.fixture
def services() -> Iterator[FakeServices]:
    fake = FakeServices()
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((fake,))
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    server.stop(0).wait()


@pytest.fixture
def run(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command line against the fake services."""
    for name in ("COMPUTE", "DISK", "SNAPSHOT"):
        monkeypatch.setenv(f"STILLPOINT_{name}", services.address)
        monkeypatch.setenv(f"STILLPOINT_{name}_INTERNAL", services.address)
    return lambda *arguments, typed="": CliRunner().invoke(
        app, [str(each) for each in arguments], input=typed
    )
