"""Commands to go on with, as messages print them."""

from collections.abc import Iterator

import pytest

from stillpoint_cli.addresses import Chosen, Service
from stillpoint_cli.pasting import begin_as, command


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    yield
    begin_as(Chosen(), {})


def test_a_command_begins_with_the_region_and_the_addresses_that_were_typed():
    begin_as(Chosen("eu", {Service.DISK: "10.0.0.1:2"}), {})
    assert command("disk", "list") == "stillpoint --region eu --disk 10.0.0.1:2 disk list"


def test_what_the_environment_says_is_not_said_again():
    begin_as(
        Chosen("eu", {Service.DISK: "10.0.0.1:2"}), {"STILLPOINT_REGION": "eu", "STILLPOINT_DISK": "b:1"}
    )
    assert command("disk", "list") == "stillpoint --disk 10.0.0.1:2 disk list"


def test_words_are_quoted_as_a_shell_needs_them():
    begin_as(Chosen(), {})
    assert command("disk", "create", "two words") == "stillpoint disk create 'two words'"
