"""Deployments under load: real processes with the product's own limits, unless a test sets them lower to reach them sooner.

In a CI, where two slow cores carry the services and their clients, only what holds at any speed is asked; `make load` asks
the rest, on both databases.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stillpoint_cli.local import LocalDeployment
from tests.support.databases import kinds_of
from tests.support.deployments import deployed

# As many threads as three services may have with one PostgreSQL server's hundred connections.
_THREADS = {"sqlite": "16", "postgresql": "12"}

Start = Callable[..., LocalDeployment]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        kinds = kinds_of(metafunc.config)
        if len(kinds) > 1 and not metafunc.config.getoption("by_hand"):
            kinds = ["sqlite"]
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.fixture
def start(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> Iterator[Start]:
    """Starts three services: with settings by their names in small letters, and whatever else `deployed` takes."""
    threads = _THREADS[database_kind]

    def begin(settings: dict[str, str] | None = None, **how: Any) -> LocalDeployment:
        named = {"handler_threads": threads, "saga_workers": threads, **(settings or {})}
        environment = {f"STILLPOINT_{name.upper()}": value for name, value in named.items()}
        return held.enter_context(
            deployed(request, tmp_path / "d", database_kind, environment=environment, **how)
        )

    with ExitStack() as held:
        yield begin
