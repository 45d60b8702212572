"""Copies to another region, while either region dies in the middle of them, or the network between them misbehaves."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from stillpoint_cli.addresses import Service
from tests.faults.gates import Gate, Gates
from tests.faults.positions import WHEN
from tests.faults.regions import MIB, Regions
from tests.faults.stage import Stage, new_request_id
from tests.support.waiting import eventually

WINDOW_BYTES = 32 * MIB
STEPS = ("BeginImport", "WriteImport", "DigestImport", "FinishImport")


@dataclass(frozen=True, slots=True)
class Position:
    """A copy that stands at a gate."""

    data: bytes
    snapshot_id: str
    request_id: str
    gate: Gate
    call: Any
    """Kept, because gRPC cancels a call that nobody has a hold of."""


def bring_into_position(regions: Regions, places: Mapping[str, Gates]) -> dict[str, Position]:
    """A copy at each place; the places are on the way to the south, or in its store."""
    positions: dict[str, Position] = {}
    for place, gates in places.items():
        data = os.urandom(MIB)
        snapshot_id, request_id = regions.a_snapshot(data), new_request_id()
        gate = gates.close(place)
        call = regions.copy(snapshot_id, request_id)
        gate.wait_for_call()
        positions[place] = Position(data, snapshot_id, request_id, gate, call)
    return positions


def at(steps: Sequence[str], gates: Gates) -> dict[str, Gates]:
    return {f"{when} {step}": gates for step in steps for when in WHEN}


def die(stage: Stage, positions: Mapping[str, Position]) -> None:
    """Kill disk_svc; what stands at a gate is lost with it."""
    stage.kill(Service.DISK)
    for position in positions.values():
        position.gate.lose()
    stage.restart(Service.DISK)


@pytest.mark.parametrize("who", ["north", "south"])
def test_disk_svc_of_either_region_dies_before_and_after_each_step_and_every_copy_is_made_once(
    regions: Regions, who: str
):
    earlier = regions.copies_in_the_south()
    places = at(STEPS, regions.gates)
    if who == "south":
        # The import's own steps in the store; the volume goes once the copy is sealed.
        places |= at(
            ["store.create_volume", "store.cut", "store.seal", "store.delete_volume"], regions.south.gates
        )
    positions = bring_into_position(regions, places)
    die(regions.north if who == "north" else regions.south, positions)
    copies = set()
    for place, position in positions.items():
        answer = regions.copy(position.snapshot_id, position.request_id).result()
        assert regions.north.outcome(answer.operation_id) == "SUCCEEDED", place
        assert regions.read_in_the_south(answer.copy_snapshot_id) == position.data, place
        copies.add(answer.copy_snapshot_id)
    assert regions.copies_in_the_south() - earlier == copies
    regions.assert_nothing_left()


@pytest.mark.parametrize("who", ["north", "south"])
def test_disk_svc_of_either_region_dies_in_the_middle_of_an_undo_and_the_undo_is_finished(
    regions: Regions, who: str
):
    earlier = regions.copies_in_the_south()
    places = at(["WithdrawImport"], regions.gates)
    if who == "south":
        places |= at(["store.withdraw_cut", "store.delete_snapshots"], regions.south.gates)
    regions.south.director.failing_seal = (0, "OutOfSpace")
    positions = bring_into_position(regions, places)
    regions.south.director.failing_seal = None
    die(regions.north if who == "north" else regions.south, positions)
    regions.assert_nothing_left()
    assert regions.copies_in_the_south() == earlier


@pytest.mark.parametrize("who", ["north", "south"])
def test_a_copy_is_carried_on_where_it_was_when_either_region_died_in_the_middle_of_it(
    regions: Regions, who: str
):
    data = os.urandom(3 * WINDOW_BYTES)
    snapshot_id = regions.a_snapshot(data)
    carried_before = regions.proxy.streamed_bytes
    answer, done = stopped_when_done(regions, snapshot_id, 2 * WINDOW_BYTES)
    die(regions.north if who == "north" else regions.south, {})
    regions.gates.lose_all()
    assert regions.north.operation(answer.operation_id).progress.completed_bytes >= done
    assert regions.north.outcome(answer.operation_id) == "SUCCEEDED"
    assert regions.read_in_the_south(answer.copy_snapshot_id) == data
    # A window may go twice; begun anew, two more would have.
    carried = regions.proxy.streamed_bytes - carried_before
    assert carried < len(data) + WINDOW_BYTES + 2 * MIB
    regions.assert_nothing_left()


def stopped_when_done(regions: Regions, snapshot_id: str, done_bytes: int) -> tuple[Any, int]:
    """Copies window by window until so much is done, and leaves the next one standing before its gate. Returns the answer
    and how much was done.
    """
    gate = regions.gates.close("before WriteImport")
    answer = regions.copy(snapshot_id).result()
    while True:
        gate.wait_for_call()
        done = regions.north.operation(answer.operation_id).progress.completed_bytes
        if done >= done_bytes:
            return answer, done
        following = regions.gates.close("before WriteImport")
        gate.let_go()
        gate = following


def test_the_other_region_is_away_when_a_copy_begins_and_takes_it_on_when_it_is_back(regions: Regions):
    data = os.urandom(MIB)
    snapshot_id = regions.a_snapshot(data)
    regions.gates.lose_every("before BeginImport")
    call = regions.copy(snapshot_id)
    eventually(lambda: [each for each in regions.north.unfinished(Service.DISK) if each.attempts])
    regions.gates.mend()
    answer = call.result()
    assert regions.north.outcome(answer.operation_id) == "SUCCEEDED"
    assert regions.read_in_the_south(answer.copy_snapshot_id) == data
    regions.assert_nothing_left()


def test_a_byte_that_flips_under_way_is_found_and_what_differs_is_sent_again(regions: Regions):
    data = os.urandom(2 * MIB)
    snapshot_id = regions.a_snapshot(data)
    regions.proxy.messages_to_damage = 1
    answer = regions.copy(snapshot_id).result()
    assert regions.north.outcome(answer.operation_id) == "SUCCEEDED"
    assert regions.read_in_the_south(answer.copy_snapshot_id) == data
    assert regions.north.operation(answer.operation_id).progress.sent_bytes == 2 * len(data)
    regions.assert_nothing_left()


def test_a_network_that_flips_a_byte_in_every_message_makes_the_copy_fail_and_leaves_nothing(
    regions: Regions,
):
    earlier = regions.copies_in_the_south()
    snapshot_id = regions.a_snapshot(os.urandom(MIB))
    regions.proxy.messages_to_damage = 1_000
    answer = regions.copy(snapshot_id).result()
    assert regions.north.outcome(answer.operation_id) == "FAILED"
    assert regions.north.operation(answer.operation_id).error.reason == "COPY_DIFFERS"
    assert regions.copies_in_the_south() == earlier
    regions.assert_nothing_left()


def test_a_copy_that_was_refused_after_its_answer_leaves_the_answer_and_no_copy(regions: Regions):
    earlier = regions.copies_in_the_south()
    snapshot_id, request_id = regions.a_snapshot(os.urandom(MIB)), new_request_id()
    regions.south.director.failing_seal = (0, "DataLoss")
    answer = regions.copy(snapshot_id, request_id).result()
    assert regions.north.outcome(answer.operation_id) == "FAILED"
    operation = regions.north.operation(answer.operation_id)
    assert operation.error.reason == "DATA_LOSS"
    assert regions.copy(snapshot_id, request_id).result() == answer
    assert regions.copies_in_the_south() == earlier
    regions.assert_nothing_left()
