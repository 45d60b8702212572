"""The model's suite: one deployment for all histories. On SQLite, unless `--database postgresql` says otherwise."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed
from tests.model.machine import SLOTS
from tests.model.product import Product
from tests.support.databases import kinds_of
from tests.support.deployments import deployed

STEPS_IN_CI = 500


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stillpoint")
    group.addoption(
        "--model-steps",
        type=int,
        default=STEPS_IN_CI,
        help="of tests/model: how many steps to compare, at least",
    )
    group.addoption(
        "--model-seed", type=int, default=None, help="of tests/model: the seed that a run has printed"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        kinds = kinds_of(metafunc.config)[:1]
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def observed() -> Observed:
    return Observed()


@pytest.fixture(scope="session")
def product(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Product]:
    """Few slots, so that they are full now and then; a saga is taken over soon after a death."""
    environment = {
        "STILLPOINT_MANUAL_SNAPSHOTS_PER_DISK": str(SLOTS),
        "STILLPOINT_AUTOMATIC_SNAPSHOTS_PER_DISK": str(SLOTS),
        "STILLPOINT_SAGA_LEASE_SECONDS": "1",
    }
    folder = tmp_path_factory.mktemp("model")
    with (
        deployed(request, folder, database_kind, environment=environment) as local,
        closing(Cloud(local.addresses, observed)) as cloud,
        closing(Product(cloud, local)) as product,
    ):
        yield product
