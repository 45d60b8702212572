"""What automatic snapshot policies do at their slots, by a clock that the tests move."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as pb
from stillpoint.disk.v1 import disk_service_pb2, disk_snapshot_service_pb2
from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import event_service_pb2
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, Cloud
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside
from tests.contract.refusals import refused
from tests.contract.troubled import TroubledCloud
from tests.support.waiting import eventually

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SLOT = datetime(2031, 1, 6, 2, tzinfo=UTC)
"""A Monday's, long before which the tests make their policies."""

PutClock = Callable[[datetime], None]
MakePolicy = Callable[..., str]


@pytest.fixture
def put_clock(troubled: TroubledCloud) -> Iterator[PutClock]:
    with troubled.clock() as put:
        put(SLOT - DAY)
        yield put


@pytest.fixture
def make_policy(troubled: TroubledCloud, put_clock: PutClock) -> Iterator[MakePolicy]:
    """Makes policies that are gone when the clock is moved by the next test."""
    made: list[str] = []

    def make(*disk_ids: str, **settings: Any) -> str:
        made.append(troubled.a_policy(*disk_ids, **settings).id)
        return made[-1]

    yield make
    for policy_id in made:
        delete(troubled, policy_id)


@pytest.fixture(scope="module")
def within(troubled: TroubledCloud) -> Inside:
    return Inside(troubled)


def delete(cloud: Cloud, policy_id: str) -> None:
    cloud.policies.DeleteAutoSnapshotPolicy(pb.DeleteAutoSnapshotPolicyRequest(policy_id=policy_id))


def results_at(cloud: Cloud, policy_id: str, slot: datetime) -> Sequence[AutoSnapshotPolicy.Result]:
    """What came of this slot, when it has ended on every disk."""

    def look() -> Sequence[AutoSnapshotPolicy.Result] | None:
        policy = cloud.policy(policy_id)
        there = [result for result in policy.results if result.slot_time.ToDatetime(UTC) == slot]
        return there if len(there) == len(policy.disk_ids) else None

    return eventually(look, what=f"the slot of {slot}")


def automatic(cloud: Cloud, disk_id: str) -> list[str]:
    """The ids of a disk's automatic snapshots, newest first."""
    snapshots = cloud.snapshots_of(disk_id=disk_id)
    return [snapshot.id for snapshot in snapshots if snapshot.kind == DiskSnapshot.KIND_AUTOMATIC]


def runs_of(cloud: Cloud, policy_id: str) -> int:
    return cloud.events_of(Service.DISK, policy_id).count("run_auto_snapshot_policy")


def wait_until_taken(cloud: Cloud, policy_id: str, *, slots: int) -> None:
    eventually(lambda: runs_of(cloud, policy_id) == slots, what=f"taking slot {slots}")


def the_run_on(cloud: Cloud, disk_id: str) -> Operation:
    """The operation of a policy that works on a disk now, or waits for it."""

    def look() -> Operation | None:
        runs = [
            operation
            for operation in cloud.operations_on(Service.DISK, disk_id)
            if operation.kind == "take_automatic_snapshot" and not operation.HasField("end_time")
        ]
        return runs[0] if runs else None

    return eventually(look, what="a run")


def waiting_run_on(cloud: Cloud, disk_id: str) -> Operation:
    """The same, when it has been tried twice."""

    def look() -> Operation | None:
        operation = the_run_on(cloud, disk_id)
        return operation if operation.attempts >= 2 else None

    return eventually(look, what="a second try")


def test_takes_an_automatic_snapshot_of_each_disk_at_its_slot(
    troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
):
    machine, alone = troubled.an_instance(), troubled.a_disk()
    disks = [machine.system_disk_id, alone]
    troubled.write(alone, (0, b"before"))
    policy_id = make_policy(*disks, name="nightly", hours=[2, 14])
    put_clock(SLOT + timedelta(minutes=20))
    results = results_at(troubled, policy_id, SLOT)
    troubled.write(alone, (0, b"after!"))
    for result in results:
        assert not result.HasField("error")
        assert result.pruned_count == 0
        assert result.HasField("end_time")
        snapshot = troubled.disk_snapshot(result.snapshot_id)
        assert snapshot.disk_id == result.disk_id
        assert (snapshot.state, snapshot.kind) == (DiskSnapshot.STATE_AVAILABLE, DiskSnapshot.KIND_AUTOMATIC)
        assert (snapshot.policy_id, snapshot.name) == (policy_id, "nightly-20310106T020000Z")
        assert not snapshot.HasField("expire_time")
        disk = troubled.disk(result.disk_id)
        assert (disk.automatic_snapshots.used, disk.manual_snapshots.used) == (1, 0)
        assert not disk.operation_id
        assert troubled.finish(result.operation_id).resource_id == result.disk_id
    of_alone = next(result.snapshot_id for result in results if result.disk_id == alone)
    assert troubled.read(of_alone, 0, 6) == b"before"
    assert troubled.policy(policy_id).next_slot_time.ToDatetime(UTC) == SLOT + 12 * HOUR


def test_its_runs_are_in_the_events_and_the_policy_is_who_asked(
    troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
):
    disk_id = troubled.a_disk()
    policy_id = make_policy(disk_id)
    put_clock(SLOT)
    [result] = results_at(troubled, policy_id, SLOT)

    def events(**wanted: str) -> list[tuple[str, str, str]]:
        request = event_service_pb2.ListEventsRequest()
        for field, value in wanted.items():
            setattr(request.filter, field, value)
        found = reversed(troubled.events[Service.DISK].ListEvents(request).events)
        return [(event.type, event.actor, event.account_id) for event in found]

    assert events(resource_id=policy_id) == [
        ("create_auto_snapshot_policy", "local", ACCOUNT),
        ("run_auto_snapshot_policy", "policy", ACCOUNT),
    ]
    assert events(operation_id=result.operation_id, resource_id=disk_id) == [
        (f"take_automatic_snapshot/{step}", "policy", ACCOUNT)
        for step in ("accepted", "prune", "cut", "seal", "succeeded")
    ]


def test_runs_each_slot_once(troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy):
    disk_id = troubled.a_disk()
    policy_id = make_policy(disk_id, hours=[2, 3, 4])
    for hours in range(3):
        put_clock(SLOT + hours * HOUR)
        results_at(troubled, policy_id, SLOT + hours * HOUR)
    assert len(automatic(troubled, disk_id)) == 3
    assert runs_of(troubled, policy_id) == 3


def test_of_the_slots_that_were_missed_only_the_latest_is_made_up_for(
    troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
):
    disk_id = troubled.a_disk()
    policy_id = make_policy(disk_id)
    with troubled.without(Service.DISK):
        put_clock(SLOT + 2 * DAY + 5 * HOUR)
    [result] = results_at(troubled, policy_id, SLOT + 2 * DAY)
    assert automatic(troubled, disk_id) == [result.snapshot_id]
    assert troubled.policy(policy_id).next_slot_time.ToDatetime(UTC) == SLOT + 3 * DAY


def test_a_service_that_dies_around_a_slot_neither_loses_nor_doubles_it(
    troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
):
    disks = [troubled.a_disk() for _ in range(3)]
    policy_id = make_policy(*disks, hours=[2, 3, 4, 5, 6], retention_count=2)
    for hours in range(5):
        slot = SLOT + hours * HOUR
        put_clock(slot)
        if hours % 2:  # otherwise it dies before it has taken the slot, or about then
            wait_until_taken(troubled, policy_id, slots=hours + 1)
        with troubled.without(Service.DISK):
            pass
        results = results_at(troubled, policy_id, slot)
        assert not [result for result in results if result.HasField("error")]
        newest = {result.disk_id: result.snapshot_id for result in results}
        assert {disk_id: automatic(troubled, disk_id)[0] for disk_id in disks} == newest
    assert runs_of(troubled, policy_id) == 5
    for disk_id in disks:
        assert len(automatic(troubled, disk_id)) == 2
        kinds = [each.kind for each in troubled.operations_on(Service.DISK, disk_id)]
        assert kinds.count("take_automatic_snapshot") == 5


class TestRetention:
    def test_a_count_makes_room_before_it_takes_the_new_one_in_slots_that_its_own_old_ones_filled(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id = troubled.a_disk()
        limit = troubled.disk(disk_id).automatic_snapshots.limit
        manual = troubled.a_disk_snapshot(disk_id)
        policy_id = make_policy(disk_id, retention_count=limit)
        taken: list[str] = []
        for days in range(limit + 2):
            put_clock(SLOT + days * DAY)
            [result] = results_at(troubled, policy_id, SLOT + days * DAY)
            assert not result.HasField("error")
            assert result.pruned_count == (1 if days >= limit else 0)
            taken.insert(0, result.snapshot_id)
            assert automatic(troubled, disk_id) == taken[:limit]
        disk = troubled.disk(disk_id)
        assert (disk.automatic_snapshots.used, disk.manual_snapshots.used) == (limit, 1)
        assert troubled.disk_snapshot(manual).state == DiskSnapshot.STATE_AVAILABLE

    def test_a_count_of_one_replaces_the_snapshot(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id = troubled.a_disk()
        policy_id = make_policy(disk_id, retention_count=1)
        for days in range(3):
            put_clock(SLOT + days * DAY)
            [result] = results_at(troubled, policy_id, SLOT + days * DAY)
            assert automatic(troubled, disk_id) == [result.snapshot_id]

    def test_days_delete_what_is_older(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        """What is taken here is taken today, whatever the clock shows."""
        now = datetime.now(UTC)
        put_clock(now)
        disk_id = troubled.a_disk()
        policy_id = make_policy(disk_id, retention_days=2)
        first = troubled.policy(policy_id).next_slot_time.ToDatetime(UTC)
        results: list[AutoSnapshotPolicy.Result] = []
        for days in range(3):
            put_clock(first + days * DAY)
            results += results_at(troubled, policy_id, first + days * DAY)
        assert [result.pruned_count for result in results] == [0, 0, 2]
        assert automatic(troubled, disk_id) == [results[-1].snapshot_id]

    def test_deletes_only_what_the_policy_itself_has_taken_of_the_disk(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id, other_disk = troubled.a_disk(), troubled.a_disk()
        keeping = make_policy(disk_id)
        replacing = make_policy(disk_id, other_disk, hours=[2, 3], retention_count=1)
        put_clock(SLOT)
        [kept] = results_at(troubled, keeping, SLOT)
        results_at(troubled, replacing, SLOT)
        put_clock(SLOT + HOUR)
        results = results_at(troubled, replacing, SLOT + HOUR)
        assert [result.pruned_count for result in results] == [1, 1]
        newest = next(result.snapshot_id for result in results if result.disk_id == disk_id)
        assert automatic(troubled, disk_id) == [newest, kept.snapshot_id]

    def test_what_a_disk_is_being_made_from_goes_at_the_next_slot(
        self, troubled: TroubledCloud, within: Inside, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id = troubled.a_disk()
        policy_id = make_policy(disk_id, retention_count=1)
        put_clock(SLOT)
        [first] = results_at(troubled, policy_id, SLOT)
        with within.being_made(first.snapshot_id):
            put_clock(SLOT + DAY)
            [second] = results_at(troubled, policy_id, SLOT + DAY)
            assert second.pruned_count == 0
            assert automatic(troubled, disk_id) == [second.snapshot_id, first.snapshot_id]
        put_clock(SLOT + 2 * DAY)
        [third] = results_at(troubled, policy_id, SLOT + 2 * DAY)
        assert third.pruned_count == 2
        assert automatic(troubled, disk_id) == [third.snapshot_id]


class TestWhatComesOfIt:
    def test_a_busy_disk_is_waited_for_and_nothing_is_deleted_meanwhile(
        self, troubled: TroubledCloud, within: Inside, put_clock: PutClock, make_policy: MakePolicy
    ):
        machine = troubled.an_instance()
        disk_id = machine.system_disk_id
        policy_id = make_policy(disk_id, retention_count=1)
        put_clock(SLOT)
        [first] = results_at(troubled, policy_id, SLOT)
        with within.snapshotting(machine.id):
            put_clock(SLOT + DAY)
            run = waiting_run_on(troubled, disk_id)
            assert (run.state, run.current_step) == (Operation.STATE_RUNNING, "prune")
            assert automatic(troubled, disk_id) == [first.snapshot_id]
        [second] = results_at(troubled, policy_id, SLOT + DAY)
        assert not second.HasField("error")
        assert automatic(troubled, disk_id) == [second.snapshot_id]

    def test_a_disk_that_is_gone_is_in_the_result_and_keeps_no_other_from_its_snapshot(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        gone, there = troubled.a_disk(), troubled.a_disk()
        policy_id = make_policy(gone, there)
        troubled.delete_disk(gone)
        put_clock(SLOT)
        results = {result.disk_id: result for result in results_at(troubled, policy_id, SLOT)}
        assert results[gone].error.reason == "DISK_NOT_FOUND"
        assert results[gone].snapshot_id == ""
        assert troubled.rest(results[gone].operation_id).state == Operation.STATE_FAILED
        assert automatic(troubled, there) == [results[there].snapshot_id]

    def test_slots_that_others_fill_are_in_the_result_and_nothing_is_deleted_for_that(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id = troubled.a_disk()
        full = troubled.disk(disk_id).automatic_snapshots.limit
        keeping = make_policy(disk_id, hours=range(2, 2 + full))
        for hours in range(full):
            put_clock(SLOT + hours * HOUR)
            results_at(troubled, keeping, SLOT + hours * HOUR)
        before = automatic(troubled, disk_id)
        late = SLOT + full * HOUR
        another = make_policy(disk_id, hours=[late.hour], retention_count=1)
        put_clock(late)
        [result] = results_at(troubled, another, late)
        assert result.error.reason == "SNAPSHOT_QUOTA_EXCEEDED"
        assert (result.pruned_count, result.snapshot_id) == (0, "")
        assert automatic(troubled, disk_id) == before
        assert troubled.disk(disk_id).manual_snapshots.used == 0
        troubled.a_disk_snapshot(disk_id)

    @pytest.mark.parametrize("failure", [("cut", "full", "STORE_FULL"), ("seal", "lost", "DATA_LOSS")])
    def test_a_store_that_refuses_is_in_the_result_and_leaves_nothing_of_the_new_snapshot(
        self,
        troubled: TroubledCloud,
        put_clock: PutClock,
        make_policy: MakePolicy,
        failure: tuple[str, str, str],
    ):
        method, how, reason = failure
        disk_id = troubled.a_disk()
        policy_id = make_policy(disk_id, retention_count=2)
        for days in range(2):
            put_clock(SLOT + days * DAY)
            results_at(troubled, policy_id, SLOT + days * DAY)
        _, first = taken = automatic(troubled, disk_id)
        with troubled.store_fails(method, how):
            put_clock(SLOT + 2 * DAY)
            [result] = results_at(troubled, policy_id, SLOT + 2 * DAY)
        assert (result.error.reason, result.snapshot_id) == (reason, "")
        assert result.pruned_count == 1
        assert automatic(troubled, disk_id) == [each for each in taken if each != first]
        assert not troubled.disk(disk_id).operation_id
        put_clock(SLOT + 3 * DAY)
        [result] = results_at(troubled, policy_id, SLOT + 3 * DAY)
        assert not result.HasField("error")
        assert result.pruned_count == 0

    def test_a_disk_cannot_be_deleted_while_it_is_being_snapshotted(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        disk_id = troubled.a_disk()
        policy_id = make_policy(disk_id)
        with troubled.store_fails("seal", "broken"):
            put_clock(SLOT)
            run = waiting_run_on(troubled, disk_id)
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                troubled.disks.DeleteDisk(disk_service_pb2.DeleteDiskRequest(disk_id=disk_id))
            assert refusal.metadata["operation_id"] == run.id
        results_at(troubled, policy_id, SLOT)
        troubled.delete_disk(disk_id)

    def test_a_policy_that_is_deleted_leaves_its_snapshots_and_a_run_under_way_ends(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        disk_id = troubled.a_disk()
        policy_id = troubled.a_policy(disk_id).id
        put_clock(SLOT)
        [first] = results_at(troubled, policy_id, SLOT)
        with troubled.store_fails("seal", "broken"):
            put_clock(SLOT + DAY)
            run = waiting_run_on(troubled, disk_id)
            delete(troubled, policy_id)
        troubled.finish(run.id)
        newest, oldest = automatic(troubled, disk_id)
        assert oldest == first.snapshot_id
        assert [troubled.disk_snapshot(each).policy_id for each in (newest, oldest)] == [policy_id] * 2
        with refused("NOT_FOUND", "AUTO_SNAPSHOT_POLICY_NOT_FOUND", DISK):
            troubled.policy(policy_id)

    def test_a_disk_that_a_policy_lets_go_of_takes_its_result_along(
        self, troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
    ):
        stays, goes = troubled.a_disk(), troubled.a_disk()
        policy_id = make_policy(stays, goes)
        put_clock(SLOT)
        results_at(troubled, policy_id, SLOT)
        request = pb.UpdateAutoSnapshotPolicyRequest(
            policy=AutoSnapshotPolicy(id=policy_id, disk_ids=[stays])
        )
        policy = troubled.policies.UpdateAutoSnapshotPolicy(request).policy
        assert [result.disk_id for result in policy.results] == [stays]


def test_its_snapshots_are_like_any_other(
    troubled: TroubledCloud, put_clock: PutClock, make_policy: MakePolicy
):
    disk_id = troubled.a_disk()
    troubled.write(disk_id, (0, b"slot"))
    policy_id = make_policy(disk_id)
    put_clock(SLOT)
    [result] = results_at(troubled, policy_id, SLOT)
    troubled.write(disk_id, (0, b"then"))
    assert troubled.read(troubled.a_disk(source_snapshot_id=result.snapshot_id), 0, 4) == b"slot"
    troubled.roll_back_disk(disk_id, result.snapshot_id)
    assert troubled.read(disk_id, 0, 4) == b"slot"
    request = disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(snapshot_id=result.snapshot_id)
    troubled.finish(troubled.disk_snapshots.DeleteDiskSnapshot(request).operation_id)
    assert automatic(troubled, disk_id) == []
