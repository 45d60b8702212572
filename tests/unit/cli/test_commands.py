import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo
from typer.testing import Result

from stillpoint.compute.v1 import account_service_pb2 as account_pb2
from stillpoint.compute.v1 import instance_service_pb2 as instance_pb2
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import event_service_pb2 as event_pb2
from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation, OperationError, OperationStep, OperationViolation
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from tests.unit.cli.fake_services import FakeServices, Refusal

Run = Callable[..., Result]


def refuse(*arguments: Any) -> Callable[[Any], Any]:
    def answer(_request: Any) -> Any:
        raise Refusal(*arguments)

    return answer


def refuse_once(answer: Any, *arguments: Any) -> Callable[[Any], Any]:
    refusals = [Refusal(*arguments)]

    def answer_once_refused(_request: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return answer

    return answer_once_refused


def serve_disks(services: FakeServices, count: int) -> None:
    disks = [Disk(id=f"disk-{number}", name=f"d{number}", size_bytes=1 << 30) for number in range(count)]

    def answer(request: disk_pb2.ListDisksRequest) -> disk_pb2.ListDisksResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        token = str(end) if end < count else ""
        return disk_pb2.ListDisksResponse(disks=disks[begin:end], next_page_token=token)

    services.answer("DiskService/ListDisks", disk_pb2.ListDisksRequest, answer)


# Lists


def test_a_list_asks_for_no_page_beyond_its_limit(services: FakeServices, run: Run):
    serve_disks(services, 1200)
    result = run("disk", "list", "--limit", 2)
    assert [request.page_size for request in services.requests] == [3]
    assert "disk-1" in result.stdout
    assert "disk-2" not in result.stdout
    assert "--limit 0" in result.stderr


def test_a_list_without_limit_walks_all_pages(services: FakeServices, run: Run):
    serve_disks(services, 1200)
    result = run("disk", "list", "--limit", 0, "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [
        f"disk-{n}" for n in range(1200)
    ]
    assert len(services.requests) == 3


def test_json_has_the_names_of_the_proto_and_every_field(services: FakeServices, run: Run):
    serve_disks(services, 1)
    disk = json.loads(run("disk", "list", "--json").stdout)
    assert disk["size_bytes"] == str(1 << 30)
    assert disk["operation_id"] == ""


def test_an_empty_list_leaves_stdout_empty(services: FakeServices, run: Run):
    serve_disks(services, 0)
    result = run("disk", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No disks.\n")


def test_control_characters_in_a_name_do_not_reach_the_terminal(services: FakeServices, run: Run):
    services.answer(
        "InstanceService/ListInstances",
        instance_pb2.ListInstancesRequest,
        lambda _: instance_pb2.ListInstancesResponse(instances=[Instance(id="i-1", name="\x1b[2Jweb [red]")]),
    )
    result = run("instance", "list")
    assert "\x1b" not in result.stdout
    assert "�[2Jweb [red]" in result.stdout


def test_operations_of_all_services_are_merged_newest_first(services: FakeServices, run: Run):
    def answer(_request: Any) -> Any:
        # The fake answers for all three: each service's list is the same one.
        operations = [Operation(id=f"op-s-{n}", create_time=Timestamp(seconds=n)) for n in (5, 3, 1)]
        return operation_pb2.ListOperationsResponse(operations=operations)

    services.answer("OperationService/ListOperations", operation_pb2.ListOperationsRequest, answer)
    lines = run("operation", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["id"][-1] for line in lines] == list("555333111")


def test_events_say_which_service_recorded_them(services: FakeServices, run: Run):
    services.answer(
        "EventService/ListEvents",
        event_pb2.ListEventsRequest,
        lambda _: event_pb2.ListEventsResponse(events=[event_pb2.Event(sequence=1, type="start_instance")]),
    )
    lines = [json.loads(line) for line in run("events", "--resource", "i-1", "--json").stdout.splitlines()]
    assert [line["service"] for line in lines] == ["compute", "disk", "snapshot"]
    assert services.requests[0].filter.resource_id == "i-1"


# Mutations


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
    assert services.requests[0].account_id == "local"


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


# Refusals


def in_progress(disk_id: str) -> PreconditionFailure.Violation:
    description = f"disk {disk_id} is SNAPSHOTTING"
    return PreconditionFailure.Violation(type="DISK_BUSY", subject=f"disk/{disk_id}", description=description)


def test_every_thing_that_blocks_is_printed_once(services: FakeServices, run: Run):
    busy = [in_progress(f"disk-{n}") for n in range(3)]
    full = QuotaFailure.Violation(subject="disk/disk-9", description="256 of 256 manual snapshots")
    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot",
        snapshot_pb2.CreateInstanceSnapshotRequest,
        refuse(
            grpc.StatusCode.FAILED_PRECONDITION,
            "the disks do not allow this",
            ErrorInfo(reason="PRECONDITIONS", domain="snapshot.stillpoint"),
            PreconditionFailure(violations=busy),
            QuotaFailure(violations=[full]),
        ),
    )
    result = run("snapshot", "create", "i-1")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: the disks do not allow this (PRECONDITIONS)",
        "  • disk disk-0 is SNAPSHOTTING",
        "  • disk disk-1 is SNAPSHOTTING",
        "  • disk disk-2 is SNAPSHOTTING",
        "  • disk-9: 256 of 256 manual snapshots",
    ]


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (1, ["Error: disk disk-0 is SNAPSHOTTING (DISK_BUSY)"]),
        (
            2,
            [
                "Error: 2 things stand in the way (DISK_BUSY)",
                "  • disk disk-0 is SNAPSHOTTING",
                "  • disk disk-1 is SNAPSHOTTING",
            ],
        ),
    ],
)
def test_a_message_that_only_repeats_what_blocks_is_not_printed_as_well(
    count: int, printed: list[str], services: FakeServices, run: Run
):
    busy = [in_progress(f"disk-{n}") for n in range(count)]
    services.answer(
        "DiskService/DeleteDisk",
        disk_pb2.DeleteDiskRequest,
        refuse(
            grpc.StatusCode.FAILED_PRECONDITION,
            "; ".join(each.description for each in busy),
            ErrorInfo(reason="DISK_BUSY", domain="disk.stillpoint"),
            PreconditionFailure(violations=busy),
        ),
    )
    assert run("disk", "delete", "disk-0").stderr.splitlines() == printed


def test_every_malformed_field_is_printed(services: FakeServices, run: Run):
    fields = [
        BadRequest.FieldViolation(field="name", description="is longer than 65 characters"),
        BadRequest.FieldViolation(field="size_bytes", description="is no multiple of 4096"),
    ]
    services.answer(
        "DiskService/CreateDisk",
        disk_pb2.CreateDiskRequest,
        refuse(
            grpc.StatusCode.INVALID_ARGUMENT, "2 fields are malformed", BadRequest(field_violations=fields)
        ),
    )
    result = run("disk", "create", "x", "--size", 5)
    assert "  • name is longer than 65 characters\n  • size_bytes is no multiple of 4096\n" in result.stderr


def test_one_malformed_field_is_one_line(services: FakeServices, run: Run):
    field = BadRequest.FieldViolation(field="name", description="is empty")
    services.answer(
        "DiskService/CreateDisk",
        disk_pb2.CreateDiskRequest,
        refuse(
            grpc.StatusCode.INVALID_ARGUMENT,
            "name is empty",
            ErrorInfo(reason="INVALID_REQUEST", domain="stillpoint"),
            BadRequest(field_violations=[field]),
        ),
    )
    assert run("disk", "create", "", "--size", "1MiB").stderr == "Error: name is empty (INVALID_REQUEST)\n"


def test_an_unforeseen_error_is_printed_with_its_incident_id(services: FakeServices, run: Run):
    info = ErrorInfo(reason="INTERNAL", domain="stillpoint", metadata={"incident_id": "abc123"})
    services.answer(
        "DiskService/GetDisk", disk_pb2.GetDiskRequest, refuse(grpc.StatusCode.INTERNAL, "unforeseen", info)
    )
    assert "Incident abc123" in run("disk", "show", "disk-1").stderr


def test_a_full_quota_is_not_tried_again(services: FakeServices, run: Run):
    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot",
        snapshot_pb2.CreateInstanceSnapshotRequest,
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", ErrorInfo(reason="SNAPSHOT_QUOTA_EXCEEDED")),
    )
    run("snapshot", "create", "i-1")
    assert len(services.requests) == 1


def test_no_answer_in_time_says_that_the_work_may_go_on(services: FakeServices, run: Run):
    services.answer(
        "DiskService/GetDisk", disk_pb2.GetDiskRequest, refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    )
    assert "`stillpoint operation list --unfinished`" in run("disk", "show", "disk-1").stderr


def test_a_service_that_is_not_there_is_named_with_its_address(run: Run):
    result = run("--disk", "127.0.0.1:1", "disk", "list")
    assert result.exit_code == 1
    assert "cannot reach disk_svc at 127.0.0.1:1 " in result.stderr
    assert "`stillpoint up`" in result.stderr


# Snapshots of machines


def serve_snapshot(services: FakeServices) -> None:
    members = [
        Member(
            disk_id="disk-1",
            disk_name="root",
            is_system_disk=True,
            snapshot_id="snap-1",
            size_bytes=1 << 30,
            device="vda",
        ),
        Member(disk_id="disk-2", disk_name="data", snapshot_id="snap-2", size_bytes=2 << 30, device="vdb"),
    ]
    services.answer(
        "InstanceSnapshotService/GetInstanceSnapshot",
        snapshot_pb2.GetInstanceSnapshotRequest,
        lambda request: snapshot_pb2.GetInstanceSnapshotResponse(
            instance_snapshot=InstanceSnapshot(id=request.instance_snapshot_id, name="s", members=members)
        ),
    )
    services.answer(
        "InstanceSnapshotService/RollbackInstanceSnapshot",
        snapshot_pb2.RollbackInstanceSnapshotRequest,
        lambda request: snapshot_pb2.RollbackInstanceSnapshotResponse(
            instance_snapshot=InstanceSnapshot(id="isnap-1", name="s", members=members),
            operation_id="" if request.validate_only else "op-s-1",
            untouched_disk_ids=["disk-3"],
        ),
    )

    def delete(
        request: snapshot_pb2.BatchDeleteInstanceSnapshotsRequest,
    ) -> snapshot_pb2.BatchDeleteInstanceSnapshotsResponse:
        answer = snapshot_pb2.BatchDeleteInstanceSnapshotsResponse()
        for snapshot_id in request.instance_snapshot_ids:
            result = answer.results.add(instance_snapshot_id=snapshot_id)
            if snapshot_id == "isnap-busy":
                result.error.reason = "INSTANCE_SNAPSHOT_STATE"
                result.error.message = "an operation works on it"
            else:
                result.operation_id = "op-s-1"
        return answer

    services.answer(
        "InstanceSnapshotService/BatchDeleteInstanceSnapshots",
        snapshot_pb2.BatchDeleteInstanceSnapshotsRequest,
        delete,
    )

    def get_disk(request: disk_pb2.GetDiskRequest) -> disk_pb2.GetDiskResponse:
        if request.disk_id == "disk-2":
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such disk")
        return disk_pb2.GetDiskResponse(disk=Disk(id=request.disk_id, state=Disk.STATE_RUNNING))

    services.answer("DiskService/GetDisk", disk_pb2.GetDiskRequest, get_disk)
    services.answer(
        "DiskSnapshotService/ListDiskSnapshots",
        disk_snapshot_pb2.ListDiskSnapshotsRequest,
        lambda _: disk_snapshot_pb2.ListDiskSnapshotsResponse(
            snapshots=[DiskSnapshot(id="snap-1", state=DiskSnapshot.STATE_AVAILABLE)]
        ),
    )
    serve_operation(services, Operation(id="op-s-1", state=Operation.STATE_SUCCEEDED))


def serve_operation(services: FakeServices, *states: Operation) -> None:
    services.stream(
        "OperationService/WatchOperation",
        operation_pb2.WatchOperationRequest,
        lambda _: (operation_pb2.WatchOperationResponse(operation=state) for state in states),
    )


def sent(services: FakeServices, kind: type[Any]) -> list[Any]:
    return [request for request in services.requests if isinstance(request, kind)]


def test_a_rollback_lists_every_disk_with_its_state_and_takes_no_for_an_answer(
    services: FakeServices, run: Run
):
    serve_snapshot(services)
    result = run("snapshot", "rollback", "isnap-1", typed="n\n")
    assert result.exit_code == 1
    assert re.search(r"disk-1 +root +system +vda +1 GiB +snap-1 +AVAILABLE +RUNNING", result.stderr)
    assert re.search(r"disk-2 +data +data +vdb +2 GiB +snap-2 +deleted +deleted", result.stderr)
    assert "disk-3 is on the instance and does not go back: it will be left alone." in result.stderr
    assert "What they hold now is lost." in result.stderr
    requests = sent(services, snapshot_pb2.RollbackInstanceSnapshotRequest)
    assert [request.validate_only for request in requests] == [True]


def test_a_rollback_of_some_disks_lists_and_sends_these_and_no_others(services: FakeServices, run: Run):
    serve_snapshot(services)
    result = run("snapshot", "rollback", "isnap-1", "--disk", "disk-2", "--disk", "disk-2", typed="y\n")
    assert result.exit_code == 0, result.output
    asked, _, _ = result.stderr.partition("[y/N]")
    assert "disk-2" in asked
    assert "disk-1" not in asked
    assert "Roll this disk back" in asked
    asked_first, done = sent(services, snapshot_pb2.RollbackInstanceSnapshotRequest)
    assert (asked_first.validate_only, done.validate_only) == (True, False)
    assert list(asked_first.disk_ids) == list(done.disk_ids) == ["disk-2"]


def test_a_rollback_of_a_disk_that_is_no_members_is_refused_without_a_question(
    services: FakeServices, run: Run
):
    serve_snapshot(services)
    services.answer(
        "InstanceSnapshotService/RollbackInstanceSnapshot",
        snapshot_pb2.RollbackInstanceSnapshotRequest,
        refuse(grpc.StatusCode.INVALID_ARGUMENT, "disk_ids has disk-9"),
    )
    result = run("snapshot", "rollback", "isnap-1", "--disk", "disk-9", "--disk", "disk-1")
    assert result.exit_code == 1
    assert "disk_ids has disk-9" in result.stderr
    assert "[y/N]" not in result.stderr


def test_a_rollback_with_yes_asks_nothing_and_waits_for_its_end(services: FakeServices, run: Run):
    serve_snapshot(services)
    result = run("snapshot", "rollback", "isnap-1", "--yes")
    assert result.exit_code == 0, result.output
    assert len(sent(services, snapshot_pb2.RollbackInstanceSnapshotRequest)) == 1
    assert len(sent(services, operation_pb2.WatchOperationRequest)) == 1
    assert "disk-3 is on the instance and does not go back: it was left alone." in result.stderr


def test_a_dry_run_of_a_creation_says_what_would_be_cut_and_waits_for_nothing(
    services: FakeServices, run: Run
):
    would_be = InstanceSnapshot(name="web-1-now", members=[Member(disk_id="disk-1", disk_name="root")])
    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot",
        snapshot_pb2.CreateInstanceSnapshotRequest,
        lambda _: snapshot_pb2.CreateInstanceSnapshotResponse(instance_snapshot=would_be),
    )
    result = run("snapshot", "create", "i-1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert [request.validate_only for request in services.requests] == [True]
    assert "disk-1" in result.stdout
    assert "UNSPECIFIED" not in result.stdout
    assert "A dry run: nothing was changed." in result.stderr


def test_a_snapshot_of_a_disks_whole_instance_names_the_disk_and_waits(services: FakeServices, run: Run):
    serve_snapshot(services)
    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot",
        snapshot_pb2.CreateInstanceSnapshotRequest,
        lambda _: snapshot_pb2.CreateInstanceSnapshotResponse(
            instance_snapshot=InstanceSnapshot(id="isnap-1"), operation_id="op-s-1"
        ),
    )
    result = run("disk", "snapshot", "disk-1", "--whole-instance", "--name", "s")
    assert result.exit_code == 0, result.output
    [request] = sent(services, snapshot_pb2.CreateInstanceSnapshotRequest)
    assert (request.disk_id, request.name) == ("disk-1", "s")
    assert len(sent(services, operation_pb2.WatchOperationRequest)) == 1
    assert "disk-2" in result.stdout


def test_a_dry_run_of_a_rollback_asks_nothing_and_waits_for_nothing(services: FakeServices, run: Run):
    serve_snapshot(services)
    result = run("snapshot", "rollback", "isnap-1", "--dry-run")
    assert result.exit_code == 0, result.output
    assert [request.validate_only for request in services.requests] == [True]
    assert "disk-3 is on the instance and does not go back: it would be left alone." in result.stderr
    assert "A dry run: nothing was changed." in result.stderr


def test_a_deletion_that_is_refused_does_not_stop_the_others(services: FakeServices, run: Run):
    serve_snapshot(services)
    result = run("snapshot", "delete", "isnap-1", "isnap-busy", "isnap-2", typed="y\n")
    assert result.exit_code == 1
    assert "Delete these 3 instance snapshots with 6 disk snapshots?" in result.stderr
    assert "Error: isnap-busy: an operation works on it (INSTANCE_SNAPSHOT_STATE)" in result.stderr
    assert "isnap-1 is deleted." in result.stdout
    assert "isnap-2 is deleted." in result.stdout


def test_many_deletions_go_in_batches_of_a_hundred_each_id_once(services: FakeServices, run: Run):
    serve_snapshot(services)
    ids = [f"isnap-{number}" for number in range(101)]
    result = run("snapshot", "delete", "--yes", "--no-wait", "--json", *ids, ids[0])
    assert result.exit_code == 0, result.output
    batches = sent(services, snapshot_pb2.BatchDeleteInstanceSnapshotsRequest)
    assert [list(batch.instance_snapshot_ids) for batch in batches] == [ids[:100], ids[100:]]
    assert len({batch.request_id for batch in batches} - {""}) == 2
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    assert printed == [{"instance_snapshot_id": each, "operation_id": "op-s-1"} for each in ids]


@pytest.mark.parametrize(("options", "done"), [((), "is copied"), (("--no-wait",), "is being copied")])
def test_a_copy_names_the_other_region_and_its_id_there(
    services: FakeServices, run: Run, options: tuple[str, ...], done: str
):
    serve_operation(services, Operation(id="op-s-1", state=Operation.STATE_SUCCEEDED))
    services.answer(
        "InstanceSnapshotService/CopyInstanceSnapshot",
        snapshot_pb2.CopyInstanceSnapshotRequest,
        lambda _: snapshot_pb2.CopyInstanceSnapshotResponse(
            copy_instance_snapshot_id="isnap-2", operation_id="op-s-1"
        ),
    )
    result = run("snapshot", "copy", "isnap-1", "--to", "eu", "--name", "there", *options)
    assert result.exit_code == 0, result.output
    [request] = sent(services, snapshot_pb2.CopyInstanceSnapshotRequest)
    assert (request.instance_snapshot_id, request.destination_region, request.name) == (
        "isnap-1",
        "eu",
        "there",
    )
    assert request.request_id
    assert f"isnap-1 {done} to eu." in result.stdout
    assert "isnap-2" in result.stdout


def test_a_copied_snapshot_shows_where_it_comes_from(services: FakeServices, run: Run):
    services.answer(
        "InstanceSnapshotService/GetInstanceSnapshot",
        snapshot_pb2.GetInstanceSnapshotRequest,
        lambda _: snapshot_pb2.GetInstanceSnapshotResponse(
            instance_snapshot=InstanceSnapshot(
                id="isnap-2",
                source_region="eu",
                source_instance_snapshot_id="isnap-1",
                members=[Member(disk_id="disk-1", disk_name="root", snapshot_id="snap-2")],
            )
        ),
    )
    services.answer(
        "DiskSnapshotService/ListDiskSnapshots",
        disk_snapshot_pb2.ListDiskSnapshotsRequest,
        lambda _: disk_snapshot_pb2.ListDiskSnapshotsResponse(
            snapshots=[DiskSnapshot(id="snap-2", state=DiskSnapshot.STATE_AVAILABLE)]
        ),
    )
    shown = run("snapshot", "show", "isnap-2").stdout
    assert "isnap-1 in eu" in shown
    assert re.search(r"disk-1 +root .*snap-2 +AVAILABLE +in eu", shown)


# Operations


def step(name: str, *, undo: bool = False) -> OperationStep:
    return OperationStep(name=name, undo=undo, attempt=1)


def test_watch_prints_each_step_once(services: FakeServices, run: Run):
    steps = [step("accepted"), step("lease"), step("point"), step("succeeded")]
    serve_operation(
        services,
        Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=steps[:1]),
        Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=steps[:3]),
        Operation(id="op-s-1", state=Operation.STATE_SUCCEEDED, steps=steps),
    )
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 0, result.output
    assert re.findall(r"^[\d:.]+  (\w+)$", result.stdout, re.MULTILINE) == [
        "accepted",
        "lease",
        "point",
        "succeeded",
    ]


def test_watch_opens_a_stream_that_broke_again(services: FakeServices, run: Run):
    begun = Operation(id="op-s-1", state=Operation.STATE_RUNNING, steps=[step("accepted")])
    ended = Operation(
        id="op-s-1", state=Operation.STATE_SUCCEEDED, steps=[step("accepted"), step("succeeded")]
    )
    streams: list[list[Any]] = [[begun, Refusal(grpc.StatusCode.UNAVAILABLE, "going down")], [ended]]

    def answer(_request: Any) -> Any:
        for item in streams.pop(0):
            if isinstance(item, Refusal):
                raise item
            yield operation_pb2.WatchOperationResponse(operation=item)

    services.stream("OperationService/WatchOperation", operation_pb2.WatchOperationRequest, answer)
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("accepted") == 1
    assert "succeeded" in result.stdout


def test_an_operation_that_was_undone_says_why_and_ends_with_1(services: FakeServices, run: Run):
    error = OperationError(
        code=8,
        reason="STORE_FULL",
        message="the block store is full",
        violations=[OperationViolation(description="disk-1 is full")],
    )
    serve_operation(
        services,
        Operation(id="op-s-1", kind="create_instance_snapshot", state=Operation.STATE_FAILED, error=error),
    )
    result = run("operation", "watch", "op-s-1")
    assert result.exit_code == 1
    assert (
        "operation op-s-1 (create_instance_snapshot) failed: the block store is full (STORE_FULL)"
        in result.stderr
    )
    assert "  • disk-1 is full" in result.stderr


def test_an_id_that_names_no_service_is_refused_before_anything_is_sent(services: FakeServices, run: Run):
    result = run("operation", "show", "disk-1")
    assert result.exit_code == 1
    assert "op-c-, op-d-, op-s-" in result.stderr
    assert services.requests == []
