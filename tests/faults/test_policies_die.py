"""disk_svc is killed at each place of a policy's run: the slot is neither lost nor doubled, and nothing is left behind."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint_cli.addresses import Service
from tests.faults.positions import WHEN
from tests.faults.stage import REST_SECONDS, Machine, Stage
from tests.support.waiting import eventually

FIRST_SLOT = datetime(2031, 1, 6, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACES = [f"{when} store.{step}" for step in ("delete_snapshots", "cut", "seal") for when in WHEN]


def results_at(stage: Stage, policy_id: str, slot: datetime) -> Sequence[AutoSnapshotPolicy.Result]:
    def look() -> Sequence[AutoSnapshotPolicy.Result] | None:
        policy = stage.policy(policy_id)
        there = [result for result in policy.results if result.slot_time.ToDatetime(UTC) == slot]
        return there if len(there) == len(policy.disk_ids) else None

    return eventually(look, within_seconds=REST_SECONDS, what=f"the slot of {slot}")


def automatic(stage: Stage, machine: Machine) -> list[str]:
    """Each of which can be used."""
    found = [each for each in stage.disk_snapshots_of(machine) if each.kind == DiskSnapshot.KIND_AUTOMATIC]
    assert {snapshot.state for snapshot in found} <= {DiskSnapshot.STATE_AVAILABLE}
    return [snapshot.id for snapshot in found]


def kill_at(stage: Stage, place: str, slot: datetime) -> None:
    """Kill disk_svc in the run of this slot, and start it again."""
    gate, _ = stage.stopped_at(place, lambda: stage.put_clock(slot))
    stage.kill(Service.DISK)
    gate.lose()
    stage.restart(Service.DISK)


@pytest.mark.timeout(300)
def test_killed_at_each_place_of_a_run_it_ends_as_if_nothing_had_been(stage: Stage):
    stage.put_clock(FIRST_SLOT - HOUR)
    machine = stage.make_machine(data_disks=0)
    stage.fill(machine, "bytes")
    policy = stage.make_policy(machine.disk_ids, retention_count=1)
    stage.put_clock(FIRST_SLOT)
    results_at(stage, policy.id, FIRST_SLOT)
    for number, place in enumerate(PLACES, 1):
        slot = FIRST_SLOT + number * HOUR
        kill_at(stage, place, slot)
        [result] = results_at(stage, policy.id, slot)
        assert not result.HasField("error"), place
        assert result.pruned_count == 1, place
        assert automatic(stage, machine) == [result.snapshot_id], place
        assert stage.read(snapshot_id=result.snapshot_id) == "bytes 0"
    stage.delete_policy(policy.id)
    stage.assert_nothing_left()


@pytest.mark.timeout(300)
def test_killed_at_each_place_of_the_undoing_of_a_run_it_leaves_nothing(stage: Stage):
    stage.put_clock(FIRST_SLOT - HOUR)
    machine = stage.make_machine(data_disks=0)
    policy = stage.make_policy(machine.disk_ids, retention_count=1)
    stage.director.failing_seal = (0, "OutOfSpace")
    try:
        for number, place in enumerate(["before store.withdraw_cut", "after store.withdraw_cut"]):
            slot = FIRST_SLOT + number * HOUR
            kill_at(stage, place, slot)
            [result] = results_at(stage, policy.id, slot)
            assert result.error.reason == "STORE_FULL", place
            assert automatic(stage, machine) == [], place
    finally:
        stage.director.failing_seal = None
    stage.delete_policy(policy.id)
    stage.assert_nothing_left()
