import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from typer.testing import Result

from stillpoint.compute.v1 import account_service_pb2 as account_pb2
from stillpoint.compute.v1 import instance_service_pb2 as instance_pb2
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from tests.unit.cli.fake_services import FakeServices, Refusal

Run = Callable[..., Result]


def refuse_once(answer: Any, *arguments: Any) -> Callable[[Any], Any]:
    refusals = [Refusal(*arguments)]

    def answer_once_refused(_request: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return answer

    return answer_once_refused


def test_create_instance_sends_sizes_and_snapshots_as_asked(services: FakeServices, run: Run):
    services.answer(
        "InstanceService/CreateInstance",
        instance_pb2.CreateInstanceRequest,
        lambda _: instance_pb2.CreateInstanceResponse(instance=Instance(id="i-1", name="web-1")),
    )
    result = run(
        "instance", "create", "web-1", "--system", "10GiB", "--data", "1MiB", "--data", "snap-7", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["instance"]["id"] == "i-1"
    (request,) = services.requests
    assert UUID(request.request_id).version == 4
    assert request.system_disk.size_bytes == 10 << 30
    assert [disk.size_bytes for disk in request.data_disks] == [1 << 20, 0]
    assert [disk.source_snapshot_id for disk in request.data_disks] == ["", "snap-7"]


def test_resize_sends_the_size_in_bytes_and_shows_the_disk(services: FakeServices, run: Run):
    services.answer(
        "DiskService/ResizeDisk",
        disk_pb2.ResizeDiskRequest,
        lambda request: disk_pb2.ResizeDiskResponse(
            disk=Disk(id=request.disk_id, name="d", size_bytes=request.size_bytes), operation_id="op-d-1"
        ),
    )
    result = run("disk", "resize", "disk-1", "20GiB")
    assert (result.exit_code, "20 GiB" in result.stdout) == (0, True), result.output
    (request,) = services.requests
    assert (request.disk_id, request.size_bytes) == ("disk-1", 20 << 30)
    UUID(request.request_id)
    assert json.loads(run("disk", "resize", "disk-1", "20GiB", "--json").stdout)["operation_id"] == "op-d-1"
    assert run("disk", "resize", "disk-1", "larger").exit_code == 2


def serve_rollback(services: FakeServices, **disk: Any) -> None:
    found = Disk(id="disk-1", name="data", **disk)
    services.answer(
        "DiskService/GetDisk", disk_pb2.GetDiskRequest, lambda _: disk_pb2.GetDiskResponse(disk=found)
    )
    services.answer(
        "DiskSnapshotService/GetDiskSnapshot",
        disk_snapshot_pb2.GetDiskSnapshotRequest,
        lambda request: disk_snapshot_pb2.GetDiskSnapshotResponse(
            snapshot=DiskSnapshot(
                id=request.snapshot_id, disk_id="disk-1", state=DiskSnapshot.STATE_AVAILABLE
            )
        ),
    )
    services.answer(
        "DiskService/RollbackDisk",
        disk_pb2.RollbackDiskRequest,
        lambda _: disk_pb2.RollbackDiskResponse(disk=found, operation_id="op-d-1"),
    )


def test_rollback_of_a_disk_asks_on_stderr_and_does_nothing_unless_told_yes(services: FakeServices, run: Run):
    serve_rollback(services)
    for typed in ("", "n\n"):
        refusing = run("disk", "rollback", "disk-1", "snap-7", typed=typed)
        assert refusing.exit_code != 0
        assert refusing.stdout == ""
        assert "disk-1 (data)" in refusing.stderr
    assert not [each for each in services.requests if isinstance(each, disk_pb2.RollbackDiskRequest)]
    assert run("disk", "rollback", "disk-1", "snap-7", typed="y\n").exit_code == 0
    assert services.requests[-1].snapshot_id == "snap-7"


def test_rollback_of_a_disk_with_yes_does_not_ask(services: FakeServices, run: Run):
    serve_rollback(services)
    result = run("disk", "rollback", "disk-1", "snap-7", "--yes", "--json")
    assert json.loads(result.stdout)["operation_id"] == "op-d-1"
    assert result.stderr == ""
    assert services.requests[-1].disk_id == "disk-1"
    assert UUID(services.requests[-1].request_id).version == 4


def test_rollback_of_a_disk_on_an_instance_is_asked_of_compute_svc(services: FakeServices, run: Run):
    serve_rollback(services, instance_id="i-1", state=Disk.STATE_MOUNTED)
    services.answer(
        "InstanceService/RollbackDisk",
        instance_pb2.RollbackDiskRequest,
        lambda _: instance_pb2.RollbackDiskResponse(operation_id="op-c-1"),
    )
    result = run("disk", "rollback", "disk-1", "snap-7", "--yes", "--json")
    assert json.loads(result.stdout)["operation_id"] == "op-c-1"
    request = services.requests[-1]
    assert (request.instance_id, request.disk_id, request.snapshot_id) == ("i-1", "disk-1", "snap-7")
    assert "MOUNTED" in run("disk", "rollback", "disk-1", "snap-7", "--yes").stdout


def test_rollback_of_a_disk_that_would_be_refused_says_everything_that_is_known_and_does_not_ask(
    services: FakeServices, run: Run
):
    serve_rollback(services, instance_id="i-1", state=Disk.STATE_SNAPSHOTTING, operation_id="op-d-9")
    services.answer(
        "InstanceService/GetInstance",
        instance_pb2.GetInstanceRequest,
        lambda _: instance_pb2.GetInstanceResponse(instance=Instance(id="i-1", state=Instance.STATE_RUNNING)),
    )
    services.answer(
        "DiskSnapshotService/GetDiskSnapshot",
        disk_snapshot_pb2.GetDiskSnapshotRequest,
        lambda _: disk_snapshot_pb2.GetDiskSnapshotResponse(
            snapshot=DiskSnapshot(id="snap-7", disk_id="disk-2", state=DiskSnapshot.STATE_CREATING)
        ),
    )
    result = run("--region", "eu", "disk", "rollback", "disk-1", "snap-7", typed="y\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "Error: disk-1 cannot be rolled back now",
        "  • instance i-1 is RUNNING: stop it first, stillpoint --region eu instance stop i-1",
        "  • operation op-d-9 holds the disk, which is SNAPSHOTTING",
        "  • snap-7 is a snapshot of disk-2, not of this disk",
        "  • snapshot snap-7 is CREATING; it must be AVAILABLE",
    ]


def test_a_disk_from_a_snapshot_needs_no_size_and_a_blank_one_does(services: FakeServices, run: Run):
    services.answer(
        "DiskService/CreateDisk",
        disk_pb2.CreateDiskRequest,
        lambda _: disk_pb2.CreateDiskResponse(disk=Disk(id="d")),
    )
    result = run("disk", "create", "clone", "--from", "snap-1")
    assert result.exit_code == 0, result.output
    assert (services.requests[0].size_bytes, services.requests[0].source_snapshot_id) == (0, "snap-1")
    assert run("disk", "create", "blank").exit_code == 2
    assert len(services.requests) == 1


def test_a_size_that_is_none_is_a_usage_error_and_nothing_is_sent(services: FakeServices, run: Run):
    result = run("instance", "create", "web-1", "--system", "10GB")
    assert result.exit_code == 2
    assert "512MiB" in result.stderr
    assert services.requests == []


def test_a_standing_is_set_by_its_typed_name(services: FakeServices, run: Run):
    services.answer(
        "AccountService/SetAccountStanding",
        account_pb2.SetAccountStandingRequest,
        lambda request: account_pb2.SetAccountStandingResponse(
            account=account_pb2.Account(id=request.account_id, standing=request.standing)
        ),
    )
    result = run("account", "set-standing", "in-debt")
    assert "IN_DEBT" in result.stdout
    assert services.requests[0].account_id == ""


@pytest.mark.parametrize(
    "refusal",
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            "disk_svc did not answer",
            ErrorInfo(reason="DEPENDENCY_UNAVAILABLE", domain="stillpoint"),
        ),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "too many requests",
            ErrorInfo(reason="OVERLOADED", domain="stillpoint"),
            RetryInfo(retry_delay=Duration(nanos=1_000_000)),
        ),
    ],
    ids=["unavailable", "overloaded"],
)
def test_what_is_refused_only_for_now_is_sent_again_with_the_same_request_id(
    refusal: tuple[Any, ...], services: FakeServices, run: Run
):
    response = disk_pb2.CreateDiskResponse(disk=Disk(id="disk-1", name="d"))
    services.answer("DiskService/CreateDisk", disk_pb2.CreateDiskRequest, refuse_once(response, *refusal))
    result = run("disk", "create", "d", "--size", "1MiB")
    assert result.exit_code == 0, result.output
    first, second = services.requests
    assert first.request_id == second.request_id != ""
