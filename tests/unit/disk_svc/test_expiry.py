"""Disk snapshots that expire, at a moment that processes hit only by chance."""

from datetime import timedelta

from tests.unit.disk_svc.replica import BEGIN, Replica

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_snapshot_that_got_more_time_after_it_was_found_stays(replica: Replica):
    disk_id = replica.a_disk()
    with replica.database.write() as session:
        start = replica.snapshots.create(
            session,
            "op-d-1",
            disk_id,
            name="s",
            description="",
            labels={},
            expire_time=BEGIN + HOUR,
        )
        replica.points.finish(session, "op-d-1/cut")
    replica.now = BEGIN + 2 * HOUR
    with replica.database.read() as session:
        found = replica.snapshots.get(session, start.resource_id)
    with replica.database.write() as session:
        replica.snapshots.update(session, found.id, {"expire_time": BEGIN + DAY})
    replica.expiry._delete(found)
    with replica.database.read() as session:
        assert replica.snapshots.get(session, found.id).state == "AVAILABLE"
