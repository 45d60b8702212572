"""Settings of disk_svc."""

from pathlib import Path

from pydantic import Field

from svckit.settings import ListenAddress, ListenAddressOrNone, ServiceSettings


class Settings(ServiceSettings):
    """Those of every service, and its own.

    spec.md: "Each CDS disk supports up to 256 Automatic Snapshots and 256 Manual Snapshots."
    """

    database_url: str = "sqlite:///var/disk.db"
    public_address: ListenAddress = "127.0.0.1:50052"
    internal_address: ListenAddress = "127.0.0.1:50062"
    metrics_address: ListenAddressOrNone = "127.0.0.1:50072"
    store_path: Path = Field(
        default=Path("var/store"), description="the folder of the embedded block store; one process at a time"
    )
    manual_snapshots_per_disk: int = Field(
        default=256, ge=1, description="quota; members of instance snapshots too"
    )
    automatic_snapshots_per_disk: int = Field(default=256, ge=1, description="quota")
    round_seconds: float = Field(
        default=5.0,
        gt=0,
        description="how often the service looks for what has come due: slots of policies, snapshots that expire",
    )
    deadline_seconds: float = Field(
        default=30.0, gt=0, description="for another region to take on a copy; past it, the copy is undone"
    )
