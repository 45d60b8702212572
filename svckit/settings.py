"""Settings that every service has, read from the environment with the prefix STILLPOINT_, or from files of secrets: a
setting can be the content of a file that has its variable's name in small letters, in the folder that
STILLPOINT_SECRETS_DIR names (else /run/secrets, where containers get them).
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import grpc
import sqlalchemy as sa
from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from svckit.auth.identity import Certificate, Identity
from svckit.validation import is_region_name

_SECRETS = Path("/run/secrets")
_DOOR = (
    "public_certificate",
    "public_key",
    "internal_certificate",
    "internal_key",
    "internal_ca",
    "token_keys",
)
"""What authentication needs, all of it."""


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    if host != "localhost":
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(f"{host!r} is neither localhost nor the number of an interface") from None
    return address


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


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
ListenAddress = Annotated[str, AfterValidator(_host_and_port)]
ListenAddressOrNone = Annotated[str, AfterValidator(lambda address: address and _host_and_port(address))]


class ServiceSettings(BaseSettings):
    """`STILLPOINT_REGION=…` sets `region`, and so on."""

    model_config = SettingsConfigDict(env_prefix="STILLPOINT_", frozen=True)

    region: RegionName = Field(
        default="local", description="the region that this deployment serves; every row carries it"
    )
    peers: dict[RegionName, str] = Field(
        default={}, description="the same service of other regions: JSON, region to internal address"
    )
    database_url: str = Field(description="SQLAlchemy's: `sqlite:///…` or `postgresql+psycopg://…`")
    database_password: SecretStr = Field(
        default=SecretStr(""), description="of the URL's user, where the URL is not to say it"
    )
    migrate_at_start: bool = Field(
        default=False, description="bring the database's schema up to date instead of refusing to start"
    )
    public_address: ListenAddress = Field(description="where clients are served")
    internal_address: ListenAddress = Field(description="where the other services, and doctor, are served")
    metrics_address: ListenAddressOrNone = Field(default="", description="for Prometheus; empty for nowhere")
    public_certificate: FilePath | None = Field(
        default=None, description="TLS of the public port: a PEM file with the certificate and its chain"
    )
    public_key: FilePath | None = Field(default=None, description="its private key, PEM")
    internal_certificate: FilePath | None = Field(
        default=None,
        description="mutual TLS between services: what this one shows, to clients of its internal port and to the others",
    )
    internal_key: FilePath | None = Field(default=None, description="its private key, PEM")
    internal_ca: FilePath | None = Field(
        default=None, description="the CA of every service, and of nobody else"
    )
    token_keys: FilePath | None = Field(
        default=None,
        description="public keys of the issuer of bearer tokens: a JWKS file, read again when it changes",
    )
    token_issuer: str = Field(default="", description="claim `iss` of every token; empty lets any pass")
    token_audience: str = Field(default="stillpoint", min_length=1, description="claim `aud` of every token")
    traces_endpoint: Annotated[str, AfterValidator(_otlp_url)] = Field(
        default="", description="where spans are sent, OTLP over gRPC; empty for nowhere"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="`console` for people, `json` for programs: a line for each event"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="what is less is not logged"
    )
    handler_threads: int = Field(default=16, ge=1, description="requests worked on at once")
    saga_workers: int = Field(default=16, ge=1, description="sagas that step at once")
    requests_admitted: int = Field(
        default=512,
        ge=1,
        description="requests held at once, and operations that run or wait for a worker; more are OVERLOADED",
    )
    operations_admitted: int = Field(
        default=10_000,
        ge=1,
        description="operations that have not come to rest, of all replicas; while it is reached, more are OVERLOADED",
    )
    saga_lease_seconds: float = Field(
        default=5.0, gt=0, description="how long after a crash another worker takes a saga over"
    )
    answer_seconds: float = Field(
        default=60.0,
        gt=0,
        description="how long a mutation waits for its operation before it answers UNAVAILABLE",
    )
    shutdown_notice_seconds: float = Field(
        default=1.0,
        ge=0,
        description="how long a service that is to stop goes on while health says NOT_SERVING: clients go elsewhere",
    )
    shutdown_grace_seconds: float = Field(
        default=5.0,
        ge=0,
        description="what requests in progress then have to end; after it they are UNAVAILABLE",
    )

    def __init__(self, **values: Any) -> None:
        folder = Path(os.environ.get("STILLPOINT_SECRETS_DIR", _SECRETS))
        super().__init__(_secrets_dir=folder if folder.is_dir() else None, **values)

    @model_validator(mode="after")
    def _locked_or_on_loopback(self) -> Self:
        """design.md §9: "Without authentication a service binds loopback only, and refuses any other address."""
        missing = [name for name in _DOOR if getattr(self, name) is None]
        if missing and len(missing) < len(_DOOR):
            names = ", ".join(f"STILLPOINT_{name.upper()}" for name in missing)
            raise ValueError(f"authentication needs all its settings; not set: {names}")
        if missing:
            open_to_others = [
                address
                for address in (self.public_address, self.internal_address, self.metrics_address)
                if address and not _is_loopback(address)
            ]
            if open_to_others:
                raise ValueError(
                    f"{' and '.join(open_to_others)}: not on loopback; without authentication a service binds loopback "
                    f"only (authentication is: {', '.join(f'STILLPOINT_{name.upper()}' for name in _DOOR)})"
                )
        return self

    @property
    def database(self) -> sa.URL:
        url = sa.make_url(self.database_url)
        password = self.database_password.get_secret_value()
        return url.set(password=password) if password else url

    @property
    def database_connections(self) -> int:
        return self.handler_threads + self.saga_workers + 2

    @property
    def certificate(self) -> Certificate | None:
        """Of the public port; None without authentication."""
        if self.public_certificate is None or self.public_key is None:
            return None
        return Certificate(self.public_certificate, self.public_key)

    @property
    def identity(self) -> Identity | None:
        """Among services; None without authentication."""
        if self.internal_certificate is None or self.internal_key is None or self.internal_ca is None:
            return None
        return Identity(Certificate(self.internal_certificate, self.internal_key), self.internal_ca)

    @property
    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For calls to other services; None without authentication."""
        return None if self.identity is None else self.identity.channel_credentials()
