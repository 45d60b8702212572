"""Settings of compute_svc."""

from svckit.settings import LoopbackAddress, ServiceSettings


class Settings(ServiceSettings):
    """`disk_address` is disk_svc's internal address."""

    database_url: str = "sqlite:///var/compute.db"
    public_address: LoopbackAddress = "127.0.0.1:50051"
    internal_address: LoopbackAddress = "127.0.0.1:50061"
    disk_address: str = "127.0.0.1:50062"
