"""Two deployments side by side, each a region of its own, whose services know each other as peers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment, addresses_for
from tests.support.deployments import deployed

NORTH, SOUTH = "north", "south"

# Two deployments beside those of other fixtures.
_VERY_FEW_THREADS = {"STILLPOINT_HANDLER_THREADS": "4", "STILLPOINT_SAGA_WORKERS": "4"}


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
    addresses = dict(zip((NORTH, SOUTH), addresses_for(2, free_ports=True), strict=True))
    with ExitStack() as held:
        regions: dict[str, LocalDeployment] = {}
        for own, peer in ((NORTH, SOUTH), (SOUTH, NORTH)):
            home = folder / own
            home.mkdir()
            regions[own] = held.enter_context(
                deployed(
                    request,
                    home,
                    database_kind,
                    environment={**_VERY_FEW_THREADS, **environment(home)},
                    modules=modules,
                    region=own,
                    addresses=addresses[own],
                    peers={peer: addresses[peer]},
                )
            )
        yield regions
