"""What disk_svc tells of its quotas."""

from dataclasses import replace

import pytest

from disk_svc.metrics import QuotaUse
from disk_svc.repository import snapshot_rows
from disk_svc.states import Kind, SnapshotState
from svckit.ids import new_id
from tests.unit.disk_svc.replica import ACCOUNT, Replica

AVAILABLE, ERROR = SnapshotState.AVAILABLE, SnapshotState.ERROR


def snapshots(replica: Replica, disk_id: str, *states: SnapshotState, kind: Kind = Kind.MANUAL) -> None:
    with replica.database.write() as session:
        snapshot_rows.add_snapshots(
            session,
            [
                {
                    "id": new_id("snap"),
                    "name": "s",
                    "description": "",
                    "labels": {},
                    "account_id": ACCOUNT,
                    "region": "local",
                    "disk_id": disk_id,
                    "state": state,
                    "kind": kind,
                    "size_bytes": 1 << 20,
                    "instance_snapshot_id": "",
                    "point_key": "",
                    "operation_id": "",
                }
                for state in states
            ],
        )


def told(use: QuotaUse) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("stillpoint_quota_"), sample.labels["kind"]): sample.value
        for metric in use.metrics()
        for sample in metric.samples
    }


def use_of(replica: Replica) -> QuotaUse:
    return QuotaUse(replace(replica.realm, quotas={Kind.MANUAL: 5, Kind.AUTOMATIC: 2}))


def test_disks_are_told_of_that_have_four_of_five_snapshots_and_all_of_them(replica: Replica):
    for taken in (3, 4, 4, 5):
        snapshots(replica, replica.a_disk(), *[AVAILABLE] * taken)
    assert told(use_of(replica)) == {
        ("snapshots_per_disk_limit", "MANUAL"): 5,
        ("disks_nearly_full", "MANUAL"): 3,
        ("disks_full", "MANUAL"): 1,
        ("fullest_disk_snapshots", "MANUAL"): 5,
        ("snapshots_per_disk_limit", "AUTOMATIC"): 2,
        ("disks_nearly_full", "AUTOMATIC"): 0,
        ("disks_full", "AUTOMATIC"): 0,
        ("fullest_disk_snapshots", "AUTOMATIC"): 0,
    }


def test_what_holds_no_slot_of_a_disk_that_is_here_does_not_count(replica: Replica):
    disk = replica.a_disk()
    snapshots(replica, disk, AVAILABLE, *[ERROR] * 4)
    snapshots(replica, disk, *[AVAILABLE] * 2, kind=Kind.AUTOMATIC)
    snapshots(replica, "", *[AVAILABLE] * 5)  # copies from another region
    snapshots(replica, "disk-that-is-gone", *[AVAILABLE] * 5)
    found = told(use_of(replica))
    assert found["fullest_disk_snapshots", "MANUAL"] == 1
    assert found["disks_nearly_full", "MANUAL"] == 0
    assert found["disks_full", "AUTOMATIC"] == 1


def test_snapshots_are_counted_again_only_after_a_while(replica: Replica, monkeypatch: pytest.MonkeyPatch):
    use, disk = use_of(replica), replica.a_disk()
    assert told(use)["fullest_disk_snapshots", "MANUAL"] == 0
    snapshots(replica, disk, AVAILABLE)
    assert told(use)["fullest_disk_snapshots", "MANUAL"] == 0
    monkeypatch.setattr("disk_svc.metrics._REMEMBERED_SECONDS", 0.0)
    assert told(use)["fullest_disk_snapshots", "MANUAL"] == 1
