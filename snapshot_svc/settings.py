"""Settings of snapshot_svc."""

from pydantic import Field

from svckit.settings import ListenAddress, ListenAddressOrNone, ServiceSettings


class Settings(ServiceSettings):
    """Those of every service, and its own."""

    database_url: str = "sqlite:///var/snapshot.db"
    public_address: ListenAddress = "127.0.0.1:50053"
    internal_address: ListenAddress = "127.0.0.1:50063"
    metrics_address: ListenAddressOrNone = "127.0.0.1:50073"
    compute_address: str = Field(
        default="127.0.0.1:50061",
        description="compute_svc's internal address: of several replicas a DNS name, or a list with commas",
    )
    disk_address: str = Field(default="127.0.0.1:50062", description="disk_svc's internal address")
    deadline_seconds: float = Field(
        default=30.0, gt=0, description="from the request to the point of no return; past it a saga is undone"
    )
    round_seconds: float = Field(
        default=5.0, gt=0, description="how often the service looks for instance snapshots that expire"
    )
