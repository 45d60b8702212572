"""Where the three services are.

Kept free of grpc, so that the root command can resolve addresses before any command has been imported.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

DEFAULT_FOLDER = Path("var")


class Service(enum.StrEnum):
    """The three services, as options and addresses.json name them."""

    COMPUTE = "compute"
    DISK = "disk"
    SNAPSHOT = "snapshot"

    @property
    def module(self) -> str:
        return f"{self}_svc"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The two addresses of one service, each `host:port`."""

    public: str
    internal: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a deployment."""

    compute: Endpoint
    disk: Endpoint
    snapshot: Endpoint

    @classmethod
    def on_loopback(cls, ports: Mapping[Service, tuple[int, int]]) -> Self:
        return cls(
            **{
                service.value: Endpoint(f"127.0.0.1:{public}", f"127.0.0.1:{internal}")
                for service, (public, internal) in ports.items()
            }
        )

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What a running `stillpoint up` wrote; None when none runs on that folder."""
        try:
            found = json.loads((folder / "addresses.json").read_text())
        except FileNotFoundError:
            return None
        return cls(**{service.value: Endpoint(**found[service]) for service in Service})

    def write(self, folder: Path) -> None:
        """Appear whole: a client that reads meanwhile finds the file complete, or none."""
        new = folder / ".addresses.json.new"
        new.write_text(json.dumps(asdict(self), indent=2) + "\n")
        new.replace(folder / "addresses.json")

    def of(self, service: Service) -> Endpoint:
        endpoint: Endpoint = getattr(self, service.value)
        return endpoint


DEFAULT_PORTS = {
    Service.COMPUTE: (50051, 50061),
    Service.DISK: (50052, 50062),
    Service.SNAPSHOT: (50053, 50063),
}
DEFAULT_ADDRESSES = Addresses.on_loopback(DEFAULT_PORTS)


def find_addresses(chosen: Mapping[Service, str | None], environment: Mapping[str, str]) -> Addresses:
    """Each address from the first that has it: the caller's choice, addresses.json, the default port.

    The environment names what has no option of its own: the folder, and the internal addresses that only `doctor`
    asks.
    """
    folder = Path(environment.get("STILLPOINT_DIR") or DEFAULT_FOLDER)
    fallback = Addresses.read(folder) or DEFAULT_ADDRESSES
    return Addresses(
        **{
            service.value: Endpoint(
                public=chosen.get(service) or fallback.of(service).public,
                internal=environment.get(f"STILLPOINT_{service.name}_INTERNAL")
                or fallback.of(service).internal,
            )
            for service in Service
        }
    )
