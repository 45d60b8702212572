"""Other regions, as the settings name them."""

import pytest

from svckit.calls import Unanswered
from svckit.errors import RegionNotFound
from svckit.peers import Peers


def test_nothing_is_begun_with_a_region_that_the_settings_do_not_name():
    peers = Peers({"north": "127.0.0.1:1", "east": "127.0.0.1:2"})
    peers.must_know("north")
    with pytest.raises(RegionNotFound) as refused:
        peers.must_know("south")
    assert refused.value.metadata == {"region": "south", "known_regions": "east,north"}


def test_a_region_that_was_taken_out_of_the_settings_while_a_copy_runs_is_unanswered_and_no_refusal():
    with pytest.raises(Unanswered, match="region south any more"):
        Peers({}).channel("south")
