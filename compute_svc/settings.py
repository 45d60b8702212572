"""Settings of compute_svc."""

from pydantic import Field

from svckit.settings import ListenAddress, ListenAddressOrNone, ServiceSettings


class Settings(ServiceSettings):
    """Those of every service, and its own."""

    database_url: str = "sqlite:///var/compute.db"
    public_address: ListenAddress = "127.0.0.1:50051"
    internal_address: ListenAddress = "127.0.0.1:50061"
    metrics_address: ListenAddressOrNone = "127.0.0.1:50071"
    disk_address: str = Field(default="127.0.0.1:50062", description="disk_svc's internal address")
    deadline_seconds: float = Field(
        default=30.0, gt=0, description="for making the disks of a new instance; past it, it is undone"
    )
