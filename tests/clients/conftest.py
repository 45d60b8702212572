"""A deployment for generated clients: a `stillpoint up` of their own, or the services that `--target` names."""

import os
from collections.abc import Iterator

import pytest

from stillpoint_cli.addresses import Addresses, Service
from tests.e2e.processes import environment, running_up
from tests.support.deployments import named_target


@pytest.fixture(scope="session")
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment that leads a client to the services. With `--target`, STILLPOINT_CA and STILLPOINT_TOKEN are the
    caller's, and the target may have its door locked.
    """
    if target := named_target(request.config):
        yield {**os.environ, **_addresses(target)}
        return
    with running_up(tmp_path_factory.mktemp("up") / "var") as up:
        yield {**environment(), **_addresses(up.addresses)}


def _addresses(addresses: Addresses) -> dict[str, str]:
    return {f"STILLPOINT_{service.name}": addresses.of(service).public for service in Service}
