"""Deployments for tests: three real services in a folder of their own, on each kind of database, or those that `--target`
names.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stillpoint_cli.addresses import DEFAULT_REGION, Addresses, Endpoint, Service
from stillpoint_cli.certs import Certs
from stillpoint_cli.local import LocalDeployment
from tests.support.databases import PostgresqlDatabases

# Several deployments stand at once, on two cores and one PostgreSQL server.
_FEW_THREADS = {"STILLPOINT_HANDLER_THREADS": "8", "STILLPOINT_SAGA_WORKERS": "6"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("stillpoint").addoption(
        "--target",
        type=_addresses,
        metavar="SERVICE=HOST:PORT,…",
        help="run tests/contract against these services instead of starting some: compute=…,disk=…,snapshot=… and, "
        "for the tests that need them, compute-internal=…, disk-internal=… and snapshot-internal=…",
    )


def named_target(config: pytest.Config) -> Addresses | None:
    """What `--target` names; an internal address that it does not name is empty."""
    target: Addresses | None = config.getoption("target")
    return target


def _addresses(text: str) -> Addresses:
    named = dict(part.partition("=")[::2] for part in text.split(","))
    required = {service.value for service in Service}
    optional = {f"{service}-internal" for service in Service}
    if not required <= {name for name, address in named.items() if address} <= required | optional:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not name compute, disk and snapshot, and perhaps the internal address of each"
        )
    return Addresses(
        **{
            service.value: Endpoint(named[service], named.get(f"{service}-internal", ""))
            for service in Service
        }
    )


@contextmanager
def deployed(
    request: pytest.FixtureRequest,
    folder: Path,
    database_kind: str,
    *,
    environment: Mapping[str, str],
    modules: Mapping[Service, str] | None = None,
    region: str = DEFAULT_REGION,
    addresses: Addresses | None = None,
    peers: Mapping[str, Addresses] | None = None,
    certs: Certs | None = None,
) -> Iterator[LocalDeployment]:
    """Three services with their rows in databases of this kind, `sqlite` or `postgresql`, until the block ends. They
    serve at `addresses`, or on free ports where there are none.
    """
    with ExitStack() as held:
        of_each: dict[Service, dict[str, str]] = {}
        if database_kind == "postgresql":
            server: PostgresqlDatabases = request.getfixturevalue("postgresql")
            for service in Service:
                url = held.enter_context(server.fresh(makes_its_own_tables))
                of_each[service] = {"STILLPOINT_DATABASE_URL": url}
        deployment = LocalDeployment(
            folder,
            region=region,
            addresses=addresses,
            peers=peers,
            free_ports=True,
            environment={**_FEW_THREADS, **environment},
            service_environment=of_each,
            modules=modules,
            certs=certs,
        )
        yield held.enter_context(deployment)


def makes_its_own_tables(_url: str) -> None:
    """A service that starts on an empty database makes its tables."""
