"""Where the three services are.

Kept free of grpc, so that the root command can note what its caller chose before any command has been imported.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

DEFAULT_FOLDER = Path("var")
DEFAULT_REGION = "local"
FOLDERS_OF_ITS_OWN = frozenset({"logs", "store"})
"""What a deployment keeps in its folder, where the folders of other regions are too."""


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
    """The addresses of one service, each `host:port`; `metrics` is empty where nobody needs it."""

    public: str
    internal: str
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a deployment."""

    compute: Endpoint
    disk: Endpoint
    snapshot: Endpoint

    @classmethod
    def on_loopback(cls, ports: Mapping[Service, tuple[int, int, int]]) -> Self:
        return cls(
            **{
                service.value: Endpoint(*(f"127.0.0.1:{port}" for port in of_service))
                for service, of_service in ports.items()
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
    Service.COMPUTE: (50051, 50061, 50071),
    Service.DISK: (50052, 50062, 50072),
    Service.SNAPSHOT: (50053, 50063, 50073),
}
DEFAULT_ADDRESSES = Addresses.on_loopback(DEFAULT_PORTS)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a caller of the command line has chosen; empty where nothing."""

    region: str = ""
    public: Mapping[Service, str] = field(default_factory=dict)


def folder_of(folder: Path, region: str) -> Path:
    """Where a region keeps everything: the one that is there without a name in the folder itself, any other under it. So
    who starts with one region gives it a neighbour later, and finds everything again.
    """
    return folder if region == DEFAULT_REGION else folder / region


def running_regions(folder: Path) -> dict[str, Addresses]:
    """The regions whose `stillpoint up` runs on that folder."""
    names = [DEFAULT_REGION, *sorted(file.parent.name for file in folder.glob("*/addresses.json"))]
    found = {name: Addresses.read(folder_of(folder, name)) for name in names}
    return {name: addresses for name, addresses in found.items() if addresses is not None}
