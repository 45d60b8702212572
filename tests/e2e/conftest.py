"""The product as its users have it: one `stillpoint up` for the whole session, and the command line beside it."""

from collections.abc import Iterator

import pytest

from tests.e2e.processes import CommandLine, Up, running_up


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Ends as a service manager ends it, with SIGTERM: cleanly, and nothing is left running."""
    with running_up(tmp_path_factory.mktemp("up") / "var") as up:
        yield up
        code = up.terminate()
        assert code == 0, up.output
        assert up.services_left() == []
        assert not (up.folder / "addresses.json").exists()


@pytest.fixture(scope="session")
def stillpoint(up: Up) -> CommandLine:
    return CommandLine(up.folder)
