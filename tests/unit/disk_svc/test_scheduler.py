"""Slots are taken once, by whichever replica comes first."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import sqlalchemy as sa

from disk_svc.repository import policy_rows
from disk_svc.service.automatic_snapshots import KIND
from svckit.saga.journal import Event, Saga
from svckit.saga.journal import SagaState as State
from tests.support.waiting import eventually
from tests.unit.disk_svc.conftest import MakeReplica
from tests.unit.disk_svc.replica import BEGIN, Replica

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def slots_run(replica: Replica, disk_id: str) -> list[str]:
    """The slots of the runs on a disk, in the order in which they were accepted."""
    query = sa.select(Saga.input).where(Saga.kind == KIND, Saga.resource_id == disk_id).order_by(Saga.id)
    with replica.database.read() as session:
        return [arguments["slot_time"] for arguments in session.scalars(query)]


def wait_for_runs(replica: Replica) -> None:
    unfinished = sa.select(Saga.id).where(Saga.due_at.is_not(None))

    def at_rest() -> bool:
        with replica.database.read() as session:
            return session.scalar(unfinished.limit(1)) is None

    eventually(at_rest, what="the runs' ends")


def test_schedulers_that_race_take_each_slot_once(make_replica: MakeReplica):
    replicas = [make_replica() for _ in range(3)]
    first = replicas[0]
    disks = [first.a_disk() for _ in range(5)]
    policies = [first.a_policy(disk_id, hours=list(range(24)), keep_count=2) for disk_id in disks]
    start = threading.Barrier(len(replicas))

    def look(replica: Replica) -> None:
        start.wait()
        replica.scheduler.round()

    slots = [BEGIN + hours * HOUR for hours in range(1, 13)]
    with ThreadPoolExecutor(len(replicas)) as pool:
        for slot in slots:
            for replica in replicas:
                replica.now = slot
            list(pool.map(look, replicas))
            wait_for_runs(first)
    for disk_id in disks:
        assert slots_run(first, disk_id) == [slot.isoformat() for slot in slots]
    with first.database.read() as session:
        ends = session.execute(sa.select(Saga.state, sa.func.count()).group_by(Saga.state)).all()
        runs = session.scalars(sa.select(Event.resource_id).where(Event.type == "run_auto_snapshot_policy"))
        assert sorted(runs) == sorted(policies * len(slots))
    assert [(state, count) for state, count in ends] == [(State.SUCCEEDED, len(disks) * len(slots))]


def test_a_policy_that_cannot_be_run_keeps_no_other_from_its_slot(replica: Replica):
    broken_disk, disk_id = replica.a_disk(), replica.a_disk()
    broken = replica.a_policy(broken_disk, hours=[1])
    with replica.database.write() as session:
        policy_rows.change(session, broken, time_zone="Mars/Olympus")
    replica.a_policy(disk_id, hours=[1])
    replica.now = BEGIN + HOUR
    replica.scheduler.round()
    wait_for_runs(replica)
    assert slots_run(replica, broken_disk) == []
    assert slots_run(replica, disk_id) == [(BEGIN + HOUR).isoformat()]


def test_another_schedule_does_not_make_up_for_what_the_old_one_missed(replica: Replica):
    disk_id = replica.a_disk()
    policy_id = replica.a_policy(disk_id, hours=[1])
    replica.now = BEGIN + 2 * HOUR
    with replica.database.write() as session:
        replica.policies.update(session, policy_id, {"hours": [1, 3]})
    assert replica.policy(policy_id).next_slot_time == BEGIN + 3 * HOUR
    replica.scheduler.round()
    assert slots_run(replica, disk_id) == []
    replica.now = BEGIN + 3 * HOUR
    replica.scheduler.round()
    wait_for_runs(replica)
    assert slots_run(replica, disk_id) == [(BEGIN + 3 * HOUR).isoformat()]


def test_the_same_schedule_again_still_makes_up_for_what_it_missed(replica: Replica):
    disk_id = replica.a_disk()
    policy_id = replica.a_policy(disk_id, hours=[1])
    replica.now = BEGIN + 2 * HOUR
    with replica.database.write() as session:
        replica.policies.update(session, policy_id, {"hours": [1], "time_zone": "UTC", "name": "other"})
    replica.scheduler.round()
    wait_for_runs(replica)
    assert slots_run(replica, disk_id) == [(BEGIN + HOUR).isoformat()]


def test_a_slot_is_not_taken_again_when_the_rules_of_its_zone_have_changed_meanwhile(replica: Replica):
    """The slot it is at was computed by other rules: by today's, the latest until now is the one before, which was run."""
    disk_id = replica.a_disk()
    policy_id = replica.a_policy(disk_id, hours=[1])
    moved = BEGIN + DAY + timedelta(minutes=30)
    with replica.database.write() as session:
        assert policy_rows.move_on(session, policy_id, seen=BEGIN + HOUR, to=moved)
    replica.now = moved
    replica.scheduler.round()
    wait_for_runs(replica)
    assert slots_run(replica, disk_id) == [moved.isoformat()]
    assert replica.policy(policy_id).next_slot_time == BEGIN + DAY + HOUR


def test_a_result_of_an_earlier_slot_does_not_hide_a_later_ones(replica: Replica):
    disk_id = replica.a_disk()
    policy_id = replica.a_policy(disk_id, hours=[1])
    for slot in (BEGIN + DAY, BEGIN):
        with replica.database.write() as session:
            policy_rows.record_result(
                session,
                policy_id,
                disk_id,
                slot_time=slot,
                operation_id=f"op-d-{slot:%d}",
                snapshot_id="snap-1",
                error=None,
                pruned_count=0,
            )
    [disk] = replica.policy(policy_id).disks
    assert (disk.slot_time, disk.operation_id) == (BEGIN + DAY, f"op-d-{BEGIN + DAY:%d}")
