"""Which deployment a command talks to."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stillpoint_cli.addresses import (
    DEFAULT_ADDRESSES,
    DEFAULT_FOLDER,
    DEFAULT_REGION,
    Addresses,
    Chosen,
    Service,
    running_regions,
)
from stillpoint_cli.errors import Failure


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses of a deployment, and which of them are but a guess: default ports that nothing speaks for."""

    addresses: Addresses
    guessed: frozenset[str]


def find_deployment(chosen: Chosen, environment: Mapping[str, str], login: Addresses | None = None) -> Found:
    """Each address from the first that has it: the caller's choice, addresses.json of the region, the login, the default
    port.

    The environment names what has no option of its own: the folder, and the internal addresses that only `doctor`
    asks.
    """
    fallback = login or DEFAULT_ADDRESSES
    if any(service not in chosen.public for service in Service):
        named = environment.get("STILLPOINT_DIR")
        fallback = _of_region(
            Path(named or DEFAULT_FOLDER), chosen.region, fallback, folder_is_named=bool(named)
        )
    guessed: set[str] = set()

    def address(chosen: str | None, otherwise: str) -> str:
        if not chosen and fallback is DEFAULT_ADDRESSES:
            guessed.add(otherwise)
        return chosen or otherwise

    addresses = Addresses(
        **{
            service.value: replace(
                fallback.of(service),
                public=address(chosen.public.get(service), fallback.of(service).public),
                internal=address(
                    environment.get(f"STILLPOINT_{service.name}_INTERNAL"), fallback.of(service).internal
                ),
            )
            for service in Service
        }
    )
    return Found(addresses, frozenset(guessed))


def _of_region(folder: Path, region: str, otherwise: Addresses, *, folder_is_named: bool) -> Addresses:
    """Of the named one, or of the only one that runs; `otherwise` when none runs, and nothing is named."""
    running = running_regions(folder)
    if region in running:
        return running[region]
    regions = ", ".join(running) or "none"
    if region and DEFAULT_REGION in running and folder.resolve().name == region:
        raise Failure(
            f"{folder} is no folder of regions. If it is region {region}'s own, name the one that it is in: "
            f"export STILLPOINT_DIR={shlex.quote(str(folder.resolve().parent))}"
        )
    if region:
        raise Failure(f"region {region} does not run on {folder}. Running there: {regions}.")
    if len(running) > 1:
        raise Failure(f"several regions run on {folder}: {regions}. Name one: --region {next(iter(running))}")
    if folder_is_named and not running:
        raise Failure(
            f"nothing runs on {folder}, which STILLPOINT_DIR names. `stillpoint up` starts it there."
        )
    return next(iter(running.values()), otherwise)
