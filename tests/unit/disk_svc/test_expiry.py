"""Disk snapshots that expire, at moments that processes hit only by chance."""

from datetime import timedelta

import pytest

from disk_svc.errors import ExpiryNotOwn
from disk_svc.service.points import Points
from disk_svc.states import Kind
from svckit.errors import InvalidRequest
from tests.unit.disk_svc.replica import ACCOUNT, BEGIN, Replica

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def take(replica: Replica, disk_id: str, kind: Kind = Kind.MANUAL, **what: str) -> str:
    """An AVAILABLE snapshot that does not expire."""
    key = f"op-d-{disk_id}-{kind}/cut"
    with replica.database.write() as session:
        disk = replica.disks.get(session, disk_id, account_id=ACCOUNT, lock=True)
        prepared = {"name": "s", "instance_snapshot_id": "", **what}
        [snapshot_id] = Points.prepare(replica.points, session, key, key[:-4], [disk], kind, **prepared)
        replica.points.finish(session, key)
    return snapshot_id


def test_a_snapshot_gets_more_time_less_or_for_ever(replica: Replica):
    snapshot_id = take(replica, replica.a_disk())
    for expire_time in (BEGIN + DAY, BEGIN + HOUR, None):
        with replica.database.write() as session:
            replica.snapshots.set_expiry(session, snapshot_id, expire_time)
            assert replica.snapshots.get(session, snapshot_id).expire_time == expire_time


def test_a_time_that_has_passed_is_refused(replica: Replica):
    snapshot_id = take(replica, replica.a_disk())
    with pytest.raises(InvalidRequest) as refusal, replica.database.write() as session:
        replica.snapshots.set_expiry(session, snapshot_id, BEGIN)
    assert [problem.field for problem in refusal.value.fields] == ["snapshot.expire_time"]


def test_a_member_and_an_automatic_snapshot_are_refused_a_time_of_their_own(replica: Replica):
    member = take(replica, replica.a_disk(), instance_snapshot_id="isnap-1")
    automatic = take(replica, replica.a_disk(), Kind.AUTOMATIC, policy_id="asp-1")
    for snapshot_id, owner in (
        (member, {"instance_snapshot_id": "isnap-1"}),
        (automatic, {"policy_id": "asp-1"}),
    ):
        for expire_time in (BEGIN + DAY, None):
            with pytest.raises(ExpiryNotOwn) as refusal, replica.database.write() as session:
                replica.snapshots.set_expiry(session, snapshot_id, expire_time)
            assert refusal.value.metadata == {"snapshot_id": snapshot_id, **owner}


def test_a_snapshot_that_got_more_time_after_it_was_found_stays(replica: Replica):
    disk_id = replica.a_disk()
    with replica.database.write() as session:
        start = replica.snapshots.create(session, "op-d-1", disk_id, "s", BEGIN + HOUR)
        replica.points.finish(session, "op-d-1/cut")
    replica.now = BEGIN + 2 * HOUR
    with replica.database.read() as session:
        found = replica.snapshots.get(session, start.resource_id)
    with replica.database.write() as session:
        replica.snapshots.set_expiry(session, found.id, BEGIN + DAY)
    replica.expiry._delete(found)
    with replica.database.read() as session:
        assert replica.snapshots.get(session, found.id).state == "AVAILABLE"
