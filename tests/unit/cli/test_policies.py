"""Automatic snapshot policies and expiry on the command line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import Result

from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as pb
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy, Weekday
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1.operation_pb2 import OperationError
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from tests.unit.cli.fake_services import FakeServices

Run = Callable[..., Result]

RAN = AutoSnapshotPolicy(
    id="asp-1",
    name="nightly",
    weekdays=[Weekday.values()[1], Weekday.values()[4]],
    hours=[2, 14],
    time_zone="Europe/Berlin",
    retention_count=7,
    disk_ids=["disk-1", "disk-2"],
    next_slot_time=Timestamp(seconds=1_900_000_000),
    results=[
        AutoSnapshotPolicy.Result(
            disk_id="disk-1", snapshot_id="snap-1", operation_id="op-d-1", pruned_count=3
        ),
        AutoSnapshotPolicy.Result(
            disk_id="disk-2",
            operation_id="op-d-2",
            error=OperationError(code=5, reason="DISK_NOT_FOUND", message="disk disk-2 does not exist"),
        ),
    ],
)


@pytest.fixture
def serving(services: FakeServices) -> FakeServices:
    """Whatever is made or changed is answered as it was sent."""
    service = "AutoSnapshotPolicyService"
    services.answer(
        f"{service}/CreateAutoSnapshotPolicy",
        pb.CreateAutoSnapshotPolicyRequest,
        lambda request: pb.CreateAutoSnapshotPolicyResponse(policy=request.policy),
    )
    services.answer(
        f"{service}/UpdateAutoSnapshotPolicy",
        pb.UpdateAutoSnapshotPolicyRequest,
        lambda request: pb.UpdateAutoSnapshotPolicyResponse(policy=request.policy),
    )
    services.answer(
        f"{service}/GetAutoSnapshotPolicy",
        pb.GetAutoSnapshotPolicyRequest,
        lambda _: pb.GetAutoSnapshotPolicyResponse(policy=RAN),
    )
    services.answer(
        f"{service}/ListAutoSnapshotPolicies",
        pb.ListAutoSnapshotPoliciesRequest,
        lambda _: pb.ListAutoSnapshotPoliciesResponse(policies=[RAN]),
    )
    services.answer(
        f"{service}/DeleteAutoSnapshotPolicy",
        pb.DeleteAutoSnapshotPolicyRequest,
        lambda _: pb.DeleteAutoSnapshotPolicyResponse(),
    )
    return services


def test_a_policy_is_made_of_days_hours_a_zone_disks_and_what_to_keep(serving: FakeServices, run: Run):
    result = run(
        *("policy", "create", "nightly", "--on", "mon-fri", "--at", "2,14:00"),
        *("--time-zone", "Europe/Berlin", "--keep-count", 7, "--disk", "disk-1", "--disk", "disk-2"),
    )
    assert result.exit_code == 0, result.output
    (request,) = serving.requests
    UUID(request.request_id)
    assert request.policy == AutoSnapshotPolicy(
        name="nightly",
        weekdays=Weekday.values()[1:6],
        hours=[2, 14],
        time_zone="Europe/Berlin",
        retention_count=7,
        disk_ids=["disk-1", "disk-2"],
    )
    assert "mon,tue,wed,thu,fri 02:00,14:00 Europe/Berlin" in result.stdout
    assert "the newest 7" in result.stdout


def test_a_policy_is_daily_and_keeps_all_when_nothing_else_is_said(serving: FakeServices, run: Run):
    assert run("policy", "create", "nightly", "--at", "0").exit_code == 0
    (request,) = serving.requests
    assert request.policy == AutoSnapshotPolicy(name="nightly", weekdays=Weekday.values()[1:], hours=[0])


@pytest.mark.parametrize(
    ("typed", "days"),
    [("daily", range(1, 8)), ("Mon", [1]), ("sat-mon", [6, 7, 1]), ("tue, fri-sat,tue", [2, 5, 6])],
)
def test_days_are_typed_as_people_say_them(serving: FakeServices, run: Run, typed: str, days: Any):
    assert run("policy", "create", "p", "--at", "1", "--on", typed).exit_code == 0
    assert list(serving.requests[0].policy.weekdays) == list(days)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--at", "24"],
        ["--at", "2:30"],
        ["--at", ""],
        ["--at", "-1"],
        ["--at", "1", "--on", "monday"],
        ["--at", "1", "--on", ""],
        ["--at", "1", "--on", "mon-"],
        ["--at", "1", "--keep-days", "1", "--keep-count", "1"],
        [],
    ],
)
def test_what_is_no_day_or_hour_is_a_usage_error(serving: FakeServices, run: Run, wrong: list[str]):
    assert run("policy", "create", "p", *wrong).exit_code == 2
    assert serving.requests == []


def test_show_says_what_came_of_each_disk(serving: FakeServices, run: Run):
    result = run("policy", "show", "asp-1")
    assert result.exit_code == 0, result.output
    assert "mon,thu 02:00,14:00 Europe/Berlin" in result.stdout
    assert "snap-1" in result.stdout
    assert "disk disk-2 does not exist (DISK_NOT_FOUND)" in result.stdout
    assert json.loads(run("policy", "show", "asp-1", "--json").stdout)["results"][0]["pruned_count"] == 3


def test_list_says_on_how_many_disks_the_latest_slot_failed(serving: FakeServices, run: Run):
    result = run("policy", "list", "--disk", "disk-1")
    assert serving.requests[0].filter.disk_id == "disk-1"
    header, row = result.stdout.splitlines()
    at = header.index("FAILED")
    assert row[at : at + 6].strip() == "1"


def test_update_sends_what_was_given_and_its_mask(serving: FakeServices, run: Run):
    assert run("policy", "update", "asp-1", "--name", "other", "--at", "3", "--disk", "disk-9").exit_code == 0
    (request,) = serving.requests
    assert request.policy == AutoSnapshotPolicy(id="asp-1", name="other", hours=[3], disk_ids=["disk-9"])
    assert list(request.update_mask.paths) == ["name", "hours", "disk_ids"]


def test_update_takes_the_retention_and_the_disks_away(serving: FakeServices, run: Run):
    assert run("policy", "update", "asp-1", "--keep-all", "--clear-disks").exit_code == 0
    (request,) = serving.requests
    assert request.policy == AutoSnapshotPolicy(id="asp-1")
    assert list(request.update_mask.paths) == ["disk_ids", "retention_days"]


@pytest.mark.parametrize(
    "wrong", [[], ["--clear-disks", "--disk", "disk-1"], ["--keep-all", "--keep-days", "1"]]
)
def test_an_update_of_nothing_or_of_contradictions_is_a_usage_error(
    serving: FakeServices, run: Run, wrong: list[str]
):
    assert run("policy", "update", "asp-1", *wrong).exit_code == 2
    assert serving.requests == []


def test_delete_says_that_the_snapshots_stay(serving: FakeServices, run: Run):
    result = run("policy", "delete", "asp-1")
    assert "asp-1 is deleted. Its snapshots stay." in result.stdout
    assert serving.requests[0].policy_id == "asp-1"


@pytest.fixture
def snapshots(services: FakeServices) -> FakeServices:
    """Answers with the time that was asked for."""
    services.answer(
        "DiskSnapshotService/CreateDiskSnapshot",
        disk_snapshot_pb2.CreateDiskSnapshotRequest,
        lambda request: disk_snapshot_pb2.CreateDiskSnapshotResponse(
            snapshot=DiskSnapshot(name="s", expire_time=request.expire_time)
        ),
    )
    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot",
        snapshot_pb2.CreateInstanceSnapshotRequest,
        lambda request: snapshot_pb2.CreateInstanceSnapshotResponse(
            instance_snapshot=InstanceSnapshot(name="s", expire_time=request.expire_time)
        ),
    )
    services.answer(
        "DiskSnapshotService/UpdateDiskSnapshot",
        disk_snapshot_pb2.UpdateDiskSnapshotRequest,
        lambda request: disk_snapshot_pb2.UpdateDiskSnapshotResponse(snapshot=request.snapshot),
    )
    services.answer(
        "InstanceSnapshotService/UpdateInstanceSnapshot",
        snapshot_pb2.UpdateInstanceSnapshotRequest,
        lambda request: snapshot_pb2.UpdateInstanceSnapshotResponse(
            instance_snapshot=request.instance_snapshot
        ),
    )
    return services


@pytest.mark.parametrize(
    "command",
    [
        ["snapshot", "create", "i-1", "--no-wait"],
        ["disk", "snapshot", "disk-1", "--no-wait"],
        ["disk", "snapshot", "disk-1", "--whole-instance", "--no-wait"],
    ],
)
def test_a_snapshot_is_kept_for_a_span_until_a_time_or_unless_said_for_ever(
    snapshots: FakeServices, run: Run, command: list[str]
):
    before = datetime.now(UTC)
    result = run(*command, "--keep", "7d")
    assert result.exit_code == 0, result.output
    assert "expires" in result.stdout
    run(*command, "--keep", "2040-12-31T18:00+00:00")
    run(*command)
    week, until, unsaid = snapshots.requests
    assert (
        timedelta(0) <= week.expire_time.ToDatetime(UTC) - before - timedelta(days=7) < timedelta(minutes=1)
    )
    assert until.expire_time.ToDatetime(UTC) == datetime(2040, 12, 31, 18, tzinfo=UTC)
    assert not unsaid.HasField("expire_time")
    assert run(*command, "--keep", "long").exit_code == 2


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (["snapshot", "update", "isnap-1"], "instance_snapshot"),
        (["snapshot", "disk-update", "snap-1"], "snapshot"),
    ],
)
def test_how_long_a_snapshot_is_kept_is_changed(
    snapshots: FakeServices, run: Run, command: list[str], field: str
):
    run(*command, "--keep", "12h")
    run(*command, "--keep", "forever")
    given, forever = snapshots.requests
    assert [list(each.update_mask.paths) for each in (given, forever)] == [["expire_time"]] * 2
    assert getattr(given, field).HasField("expire_time")
    assert not getattr(forever, field).HasField("expire_time")
