"""The contract suite: what the comments in protos/ promise, asked of real servers through the generated clients.

    pytest tests/contract                      both databases, services started and stopped by the suite
    pytest tests/contract --database sqlite    one of them
    pytest tests/contract --target compute=host:port,disk=host:port,snapshot=host:port

Against a target, tests that need the internal ports, or a service that fails on purpose, are skipped and say so. The
suite leaves what it made there, under names that begin with `contract-`, but for policies, which would go on.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed
from tests.contract.inside import Inside
from tests.contract.troubled import TroubledCloud
from tests.support.databases import kinds_of
from tests.support.deployments import deployed, named_target
from tests.support.regions import NORTH, SOUTH, two_regions


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        kinds = ["target"] if named_target(metafunc.config) else kinds_of(metafunc.config)
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back at the whole run comes last."""
    items.sort(key=lambda item: item.path.name == "test_error_tables.py")


@pytest.fixture(scope="session")
def observed() -> Observed:
    """Every refusal of the session, by whom and why."""
    return Observed()


@pytest.fixture(scope="session")
def cloud(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """The deployment under test, at rest between tests."""
    target = named_target(request.config)
    if target is not None:
        with closing(Cloud(target, observed)) as cloud:
            yield cloud
            cloud.delete_policies()
        return
    folder = tmp_path_factory.mktemp(f"contract-{database_kind}")
    # Few slots, so that filling them is quick.
    environment = {"STILLPOINT_MANUAL_SNAPSHOTS_PER_DISK": "4"}
    with (
        deployed(request, folder, database_kind, environment=environment) as local,
        closing(Cloud(local.addresses, observed)) as cloud,
    ):
        yield cloud


@pytest.fixture(scope="session")
def inside(cloud: Cloud) -> Inside:
    """The internal ports, where a saga's steps are called."""
    if not cloud.addresses.compute.internal or not cloud.addresses.disk.internal:
        pytest.skip("needs the internal ports: name compute-internal and disk-internal in --target too")
    return Inside(cloud)


@pytest.fixture(scope="session")
def troubled(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TroubledCloud]:
    """A second deployment, whose block store fails when it is told to, whose clock moves and whose services may be
    killed.
    """
    if named_target(request.config) is not None:
        pytest.skip("needs services that fail on purpose, which a --target does not")
    folder = tmp_path_factory.mktemp(f"troubled-{database_kind}")
    with (
        deployed(
            request,
            folder,
            database_kind,
            environment=TroubledCloud.environment(folder),
            modules={
                Service.DISK: "tests.contract.failing_disk_svc",
                Service.SNAPSHOT: "tests.contract.snapshot_svc_on_a_clock",
            },
        ) as local,
        closing(TroubledCloud(local, observed)) as cloud,
    ):
        yield cloud


@dataclass(frozen=True, slots=True)
class TwoRegions:
    """Each of the two knows the other as a peer."""

    north: TroubledCloud
    south: TroubledCloud


@pytest.fixture(scope="session")
def regions(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TwoRegions]:
    """Two deployments, from one of which to the other things are copied; either can be in trouble."""
    if named_target(request.config) is not None:
        pytest.skip("needs two deployments that know each other, and a --target names one")
    folder = tmp_path_factory.mktemp(f"regions-{database_kind}")
    with (
        two_regions(
            request,
            folder,
            database_kind,
            environment=TroubledCloud.environment,
            modules={Service.DISK: "tests.contract.failing_disk_svc"},
        ) as local,
        closing(TroubledCloud(local[NORTH], observed)) as north,
        closing(TroubledCloud(local[SOUTH], observed)) as south,
    ):
        yield TwoRegions(north, south)
