"""Which deployment a command talks to."""

from collections.abc import Mapping
from pathlib import Path

from stillpoint_cli.addresses import (
    DEFAULT_ADDRESSES,
    DEFAULT_FOLDER,
    Addresses,
    Chosen,
    Endpoint,
    Service,
    running_regions,
)
from stillpoint_cli.errors import Failure


def find_addresses(chosen: Chosen, environment: Mapping[str, str]) -> Addresses:
    """Each address from the first that has it: the caller's choice, addresses.json of the region, the default port.

    The environment names what has no option of its own: the folder, and the internal addresses that only `doctor`
    asks.
    """
    fallback = DEFAULT_ADDRESSES
    if any(service not in chosen.public for service in Service):
        fallback = _of_region(Path(environment.get("STILLPOINT_DIR") or DEFAULT_FOLDER), chosen.region)
    return Addresses(
        **{
            service.value: Endpoint(
                public=chosen.public.get(service, fallback.of(service).public),
                internal=environment.get(f"STILLPOINT_{service.name}_INTERNAL")
                or fallback.of(service).internal,
            )
            for service in Service
        }
    )


def _of_region(folder: Path, region: str) -> Addresses:
    """Of the named one, or of the only one that runs; the default ports when none runs and none is named."""
    running = running_regions(folder)
    if region in running:
        return running[region]
    regions = ", ".join(running) or "none"
    if region:
        raise Failure(f"region {region} does not run on {folder}. Running there: {regions}.")
    if len(running) > 1:
        raise Failure(f"several regions run on {folder}: {regions}. Name one: --region {next(iter(running))}")
    return next(iter(running.values()), DEFAULT_ADDRESSES)
