from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure
from typer.testing import Result

from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from tests.unit.cli.fake_services import FakeServices, refuse

Run = Callable[..., Result]


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


@pytest.mark.usefixtures("impatient")
def test_a_service_that_is_not_there_is_named_with_its_address(run: Run):
    result = run("--disk", "127.0.0.1:1", "disk", "list")
    assert result.exit_code == 1
    assert "cannot reach disk_svc at 127.0.0.1:1 " in result.stderr
    assert "`stillpoint up`" in result.stderr
