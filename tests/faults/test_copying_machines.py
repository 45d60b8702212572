"""Copies of whole instance snapshots, while snapshot_svc or disk_svc of either region is killed in the middle of every step:
before the other side has seen the call, and after it has had its effect. disk_svc's own steps are in test_copying.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint_cli.addresses import Service
from svckit.clock import utc_now
from tests.faults.gates import WAIT_SECONDS, Gate, Gates
from tests.faults.positions import WHEN
from tests.faults.regions import Regions
from tests.faults.stage import DatabaseUrls, Stage, new_request_id, refusal_of, state_name
from tests.support.waiting import eventually

SHORT_SECONDS = 8.0
"""Long enough to bring the copies into position on a busy machine."""


def places_of(regions: Regions) -> dict[str, Gates]:
    """The steps of the saga, each on its way."""
    ways = {
        "BeginImport": regions.whole_gates,
        "StartCopy": regions.north.gates,
        "GetCopy": regions.north.gates,
        "FinishImport": regions.whole_gates,
    }
    return {f"{when} {step}": gates for step, gates in ways.items() for when in WHEN}


@dataclass(frozen=True, slots=True)
class Position:
    """A copy of a machine's snapshot that stands at a gate."""

    source: instance_snapshot_pb2.InstanceSnapshot
    gate: Gate
    again: Callable[[], Any]
    """Sends the very same request again."""
    call: Any
    """Kept, because gRPC cancels a call that nobody has a hold of."""


def bring_into_position(regions: Regions, places: Mapping[str, Gates]) -> dict[str, Position]:
    machine = regions.north.make_machine()
    sources = []
    for place in places:
        regions.north.fill(machine, place.replace(" ", "-"))
        sources.append(regions.north.take_snapshot(machine))
    positions: dict[str, Position] = {}
    for (place, gates), source in zip(places.items(), sources, strict=True):
        gate = gates.close(place)
        again = partial(regions.copy_whole, source.id, new_request_id())
        call = again()
        gate.wait_for_call()
        positions[place] = Position(source, gate, again, call)
    return positions


def copies_of(regions: Regions, position: Position) -> list[instance_snapshot_pb2.InstanceSnapshot]:
    return [
        each
        for each in regions.south.snapshots_of_instance(position.source.instance_id)
        if each.source_instance_snapshot_id == position.source.id
    ]


def states(regions: Regions, positions: Mapping[str, Position]) -> dict[str, str]:
    """The states of each one's copies."""
    return {
        place: " ".join(state_name(each) for each in copies_of(regions, position))
        for place, position in positions.items()
    }


def come_to_rest(regions: Regions) -> None:
    # The north first: its operations are what the south waits for.
    for stage in (regions.north, regions.south):
        stage.come_to_rest()


def must_be_whole(regions: Regions, positions: Mapping[str, Position]) -> None:
    """Each has one copy, with the bytes of its moment on every disk."""
    for place, position in positions.items():
        [copy] = copies_of(regions, position)
        assert position.again().result().copy_instance_snapshot_id == copy.id
        said = [regions.south.read(snapshot_id=member.snapshot_id) for member in copy.members]
        assert said == [f"{place.replace(' ', '-')} {number}" for number in range(len(copy.members))]


@pytest.mark.parametrize("service", [Service.SNAPSHOT, Service.DISK])
@pytest.mark.parametrize("who", ["north", "south"])
def test_a_service_of_either_region_dies_before_and_after_each_step_and_every_copy_is_made_once(
    regions: Regions, who: str, service: Service
):
    positions = bring_into_position(regions, places_of(regions))
    stage: Stage = getattr(regions, who)
    stage.kill(service)
    for position in positions.values():
        position.gate.lose()
    stage.restart(service)
    come_to_rest(regions)
    assert states(regions, positions) == dict.fromkeys(positions, "AVAILABLE")
    must_be_whole(regions, positions)
    regions.assert_nothing_left()


def test_calls_of_a_snapshot_svc_that_died_come_late_and_do_nothing(regions: Regions):
    positions = bring_into_position(regions, places_of(regions))
    regions.north.kill(Service.SNAPSHOT)
    regions.north.restart(Service.SNAPSHOT)
    come_to_rest(regions)
    for place in ("after BeginImport", "after FinishImport"):
        [copy] = copies_of(regions, positions[place])
        assert (
            regions.south.outcome(regions.south.begin_deletion(copy.id).result().operation_id) == "SUCCEEDED"
        )
    before = states(regions, positions)
    for place, position in positions.items():
        position.gate.let_go()
        if place.startswith("before"):
            position.gate.ended.result(WAIT_SECONDS)
    assert states(regions, positions) == before
    regions.assert_nothing_left()


@pytest.mark.parametrize("who", ["north", "south"])
def test_snapshot_svc_of_either_region_dies_in_the_middle_of_an_undo_and_the_undo_is_finished(
    regions: Regions, who: str
):
    """What there is to undo in the south is the listed copy: disk_svc has failed, and undone its own."""
    regions.south.director.failing_seal = (0, "OutOfSpace")
    places = {f"{when} WithdrawImport": regions.whole_gates for when in WHEN}
    positions = bring_into_position(regions, places)
    stage: Stage = getattr(regions, who)
    stage.kill(Service.SNAPSHOT)
    for position in positions.values():
        position.gate.lose()
    stage.restart(Service.SNAPSHOT)
    come_to_rest(regions)
    assert states(regions, positions) == dict.fromkeys(positions, "")
    for position in positions.values():
        answer = position.again().result()
        operation = regions.north.operation(answer.operation_id)
        assert operation.error.reason == "STORE_FULL"
    regions.assert_nothing_left()


@pytest.fixture
def hasty(
    tmp_path_factory: pytest.TempPathFactory, database_urls: Callable[[], DatabaseUrls]
) -> Iterator[Regions]:
    regions = Regions(
        tmp_path_factory.mktemp("h"), deadline_seconds=SHORT_SECONDS, database_urls=database_urls
    )
    yield regions
    regions.close()


def test_what_snapshot_svc_finds_too_late_is_undone_until_the_other_region_has_taken_it_on_and_carried_on_after(
    hasty: Regions,
):
    positions = bring_into_position(hasty, places_of(hasty))
    last = utc_now()
    hasty.north.kill(Service.SNAPSHOT)
    eventually(lambda: utc_now() > last + timedelta(seconds=SHORT_SECONDS), what="the deadline")
    hasty.north.restart(Service.SNAPSHOT)
    come_to_rest(hasty)
    undone = {f"{when} BeginImport" for when in WHEN}
    expected = {place: "" if place in undone else "AVAILABLE" for place in positions}
    assert states(hasty, positions) == expected
    for position in positions.values():
        position.gate.let_go()
    assert positions["before BeginImport"].gate.ended.result(WAIT_SECONDS).startswith("ABORTED")
    assert states(hasty, positions) == expected
    hasty.assert_nothing_left()


def test_a_copy_is_refused_when_the_deletion_of_its_source_is_faster_and_nothing_is_left(regions: Regions):
    machine = regions.north.make_machine()
    source = regions.north.take_snapshot(machine)
    gate = regions.north.gates.close("before StartCopy")
    call = regions.copy_whole(source.id)
    gate.wait_for_call()
    deletion = regions.north.begin_deletion(source.id).result()
    assert regions.north.outcome(deletion.operation_id) == "SUCCEEDED"
    gate.let_go()
    assert refusal_of(call).reason == "PRECONDITIONS"
    assert regions.south.snapshots_of_instance(source.instance_id) == []
    regions.assert_nothing_left()
