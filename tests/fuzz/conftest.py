"""How much is sent, and from which seed on."""

import random

import pytest

from tests.support.databases import kinds_of

FEW_REQUESTS = 2000
BY_HAND_REQUESTS = 100_000


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stillpoint")
    group.addoption(
        "--fuzz-requests",
        type=int,
        default=FEW_REQUESTS,
        metavar="COUNT",
        help=f"of tests/fuzz, how many are sent; from {BY_HAND_REQUESTS} on every method must also succeed once",
    )
    group.addoption(
        "--fuzz-seed",
        type=int,
        metavar="NUMBER",
        help="throw the dice of an earlier run, which has printed it",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.fuzz_seed is None:
        config.option.fuzz_seed = random.randrange(1 << 32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"fuzz: --fuzz-requests {config.option.fuzz_requests} --fuzz-seed {config.option.fuzz_seed}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", kinds_of(metafunc.config), indirect=True, scope="session")
