"""What a run has tried, counted, and told at its end: the figures of docs/reliability.md.

A test that asks for `tally` adds to it: `tally["services killed at a place of a saga"] += 1`.
"""

from collections import Counter

import pytest

_tally = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_tally] = Counter()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Counter[str]:
    return pytestconfig.stash[_tally]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_tally]:
        terminalreporter.section("tried")
        for what, count in sorted(config.stash[_tally].items()):
            terminalreporter.write_line(f"{count:>9,}  {what}")
