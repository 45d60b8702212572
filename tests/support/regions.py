"""Two deployments side by side, each a region of its own, whose services know each other as peers."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Addresses, Service
from stillpoint_cli.local import LocalDeployment, free_ports
from tests.support.deployments import deployed

NORTH, SOUTH = "north", "south"

# Two deployments share a PostgreSQL server of a hundred connections with those of other fixtures.
_VERY_FEW_CONNECTIONS = {"STILLPOINT_HANDLER_THREADS": "4", "STILLPOINT_SAGA_WORKERS": "4"}


@contextmanager
def two_regions(
    request: pytest.FixtureRequest,
    folder: Path,
    database_kind: str,
    *,
    environment: Callable[[Path], Mapping[str, str]] = lambda _folder: {},
    modules: Mapping[Service, str] | None = None,
) -> Iterator[dict[str, LocalDeployment]]:
    """The deployments of NORTH and SOUTH, until the block ends. `environment` is asked once for each, with its folder."""
    ports = {region: free_ports() for region in (NORTH, SOUTH)}
    with ExitStack() as held:
        regions: dict[str, LocalDeployment] = {}
        for own, peer in ((NORTH, SOUTH), (SOUTH, NORTH)):
            home = folder / own
            home.mkdir()
            settings = {**_VERY_FEW_CONNECTIONS, **environment(home), "STILLPOINT_REGION": own}
            regions[own] = held.enter_context(
                deployed(
                    request,
                    home,
                    database_kind,
                    environment=settings,
                    service_environment=peers({peer: Addresses.on_loopback(ports[peer])}),
                    modules=modules,
                    ports=ports[own],
                )
            )
        yield regions


def peers(regions: Mapping[str, Addresses]) -> dict[Service, dict[str, str]]:
    """The setting by which each service knows the same one of these regions."""
    return {
        service: {
            "STILLPOINT_PEERS": json.dumps(
                {region: addresses.of(service).internal for region, addresses in regions.items()}
            )
        }
        for service in Service
    }
