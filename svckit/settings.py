"""Settings that every service has, read from the environment with the prefix STILLPOINT_."""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from svckit.validation import is_region_name


def _loopback(address: str) -> str:
    """design.md §9: "Without authentication a service binds loopback only, and refuses any other address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    host = host.strip("[]")
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"{host} is not a loopback address; without authentication a service binds loopback only"
        )
    return address


def _otlp_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^/\s]+", url):
        raise ValueError(f"{url!r} is not the URL of an OTLP/gRPC collector, such as http://localhost:4317")
    return url


def _region_name(name: str) -> str:
    if not is_region_name(name):
        raise ValueError(
            f"{name!r} is not a region's name: a small letter, then up to 62 small letters, digits or hyphens"
        )
    return name


RegionName = Annotated[str, AfterValidator(_region_name)]
LoopbackAddress = Annotated[str, AfterValidator(_loopback)]
LoopbackAddressOrNone = Annotated[str, AfterValidator(lambda address: address and _loopback(address))]


class ServiceSettings(BaseSettings):
    """`STILLPOINT_REGION=…` sets `region`, and so on."""

    model_config = SettingsConfigDict(env_prefix="STILLPOINT_", frozen=True)

    region: RegionName = "local"
    peers: dict[RegionName, str] = Field(
        default={}, description="the same service of other regions: JSON, region to internal address"
    )
    database_url: str
    migrate_at_start: bool = Field(
        default=False, description="bring the database's schema up to date instead of refusing to start"
    )
    public_address: LoopbackAddress
    internal_address: LoopbackAddress
    metrics_address: LoopbackAddressOrNone = Field(
        default="", description="for Prometheus; empty for nowhere"
    )
    traces_endpoint: Annotated[str, AfterValidator(_otlp_url)] = Field(
        default="", description="where spans are sent, OTLP over gRPC; empty for nowhere"
    )
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    handler_threads: int = Field(default=16, ge=1, description="requests worked on at once")
    saga_workers: int = Field(default=16, ge=1, description="sagas that step at once")
    requests_admitted: int = Field(
        default=512, ge=1, description="requests held at once; more are OVERLOADED"
    )
    saga_lease_seconds: float = Field(
        default=5.0, gt=0, description="how long after a crash another worker takes a saga over"
    )
    answer_seconds: float = Field(
        default=60.0,
        gt=0,
        description="how long a mutation waits for its operation before it answers UNAVAILABLE",
    )
    shutdown_grace_seconds: float = Field(default=5.0, ge=0)

    @property
    def database_connections(self) -> int:
        return self.handler_threads + self.saga_workers + 2
