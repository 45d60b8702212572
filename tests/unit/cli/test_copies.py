"""What the command line shows of copies between regions, and of whatever else moves bytes."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console
from typer.testing import Result

from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation, OperationProgress, OperationStep
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint_cli import bars, following
from tests.unit.cli.fake_services import FakeServices

Run = Callable[..., Result]
GIB = 1 << 30


def at(done: int, state: "Operation.State.ValueType" = Operation.STATE_RUNNING) -> Operation:
    """A copy of 10 GiB."""
    return Operation(
        id="op-d-1",
        kind="copy_disk_snapshot",
        state=state,
        current_step="transfer",
        steps=[OperationStep(name="begin")],
        progress=OperationProgress(
            completed_bytes=done * GIB, total_bytes=10 * GIB, sent_bytes=done * GIB // 2
        ),
    )


def serve_copy(services: FakeServices, *states: Operation) -> None:
    services.answer(
        "DiskSnapshotService/CopyDiskSnapshot",
        disk_snapshot_pb2.CopyDiskSnapshotRequest,
        lambda _: disk_snapshot_pb2.CopyDiskSnapshotResponse(
            copy_snapshot_id="snap-2", operation_id="op-d-1"
        ),
    )
    services.stream(
        "OperationService/WatchOperation",
        operation_pb2.WatchOperationRequest,
        lambda _: (operation_pb2.WatchOperationResponse(operation=state) for state in states),
    )


def watched(services: FakeServices) -> int:
    return sum(isinstance(each, operation_pb2.WatchOperationRequest) for each in services.requests)


def test_a_copy_names_the_region_and_waits_for_its_end(services: FakeServices, run: Run):
    serve_copy(services, at(4), at(10, Operation.STATE_SUCCEEDED))
    result = run("snapshot", "disk-copy", "snap-1", "--to", "eu", "--name", "kept")
    assert result.exit_code == 0, result.output
    request = services.requests[0]
    assert (request.snapshot_id, request.destination_region, request.name) == ("snap-1", "eu", "kept")
    UUID(request.request_id)
    assert watched(services) == 1
    assert "snap-1 is copied to eu." in result.stdout
    assert "5 GiB of 10 GiB" in result.stdout
    assert "snap-2" in result.stdout


def test_a_copy_of_a_whole_machine_says_how_much_was_sent(services: FakeServices, run: Run):
    serve_copy(services, at(10, Operation.STATE_SUCCEEDED))
    services.answer(
        "InstanceSnapshotService/CopyInstanceSnapshot",
        snapshot_pb2.CopyInstanceSnapshotRequest,
        lambda _: snapshot_pb2.CopyInstanceSnapshotResponse(
            copy_instance_snapshot_id="isnap-2", operation_id="op-s-1"
        ),
    )
    result = run("snapshot", "copy", "isnap-1", "--to", "eu")
    assert "isnap-1 is copied to eu." in result.stdout
    assert "5 GiB of 10 GiB" in result.stdout


def test_a_copy_that_is_not_waited_for_is_only_accepted(services: FakeServices, run: Run):
    serve_copy(services)
    result = run("snapshot", "disk-copy", "snap-1", "--to", "eu", "--no-wait", "--json")
    assert json.loads(result.stdout) == {"copy_snapshot_id": "snap-2", "operation_id": "op-d-1"}
    assert watched(services) == 0


def test_a_copy_without_a_region_is_not_asked_for(services: FakeServices, run: Run):
    assert run("snapshot", "disk-copy", "snap-1").exit_code == 2
    assert services.requests == []


def test_waiting_shows_a_bar_on_a_terminal_from_when_there_is_progress(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch
):
    screen = StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, highlight=False)
    for module in (bars, following):
        monkeypatch.setattr(module, "live", lambda: terminal)
    begun = Operation(
        id="op-d-1", kind="copy_disk_snapshot", current_step="begin", state=Operation.STATE_RUNNING
    )
    serve_copy(services, begun, at(4), at(10, Operation.STATE_SUCCEEDED))
    assert run("snapshot", "disk-copy", "snap-1", "--to", "eu").exit_code == 0
    shown = screen.getvalue()
    assert "transfer" in shown
    assert "10.0/10.0 GiB" in shown
    assert "━" in shown


def test_show_says_how_far_an_operation_is(services: FakeServices, run: Run):
    services.answer(
        "OperationService/GetOperation",
        operation_pb2.GetOperationRequest,
        lambda _: operation_pb2.GetOperationResponse(operation=at(4)),
    )
    assert "4 GiB of 10 GiB, 2 GiB sent" in run("operation", "show", "op-d-1").stdout


def test_watch_prints_a_line_for_each_tenth_and_none_for_less(services: FakeServices, run: Run):
    half = at(4)
    half.progress.completed_bytes += GIB // 2
    serve_copy(services, at(4), half, at(10, Operation.STATE_SUCCEEDED))
    printed = run("operation", "watch", "op-d-1").stdout.splitlines()
    assert [line.strip() for line in printed if "sent" in line] == [
        "4 GiB of 10 GiB, 2 GiB sent",
        "10 GiB of 10 GiB, 5 GiB sent",
    ]


def test_an_operation_that_moves_no_bytes_shows_no_progress(services: FakeServices, run: Run):
    services.answer(
        "OperationService/GetOperation",
        operation_pb2.GetOperationRequest,
        lambda _: operation_pb2.GetOperationResponse(operation=Operation(id="op-d-1", kind="create_disk")),
    )
    assert "sent" not in run("operation", "show", "op-d-1").stdout


def test_the_list_says_where_a_copy_is_from(services: FakeServices, run: Run):
    def answer(_request: Any) -> disk_snapshot_pb2.ListDiskSnapshotsResponse:
        return disk_snapshot_pb2.ListDiskSnapshotsResponse(
            snapshots=[
                DiskSnapshot(id="snap-2", name="kept", source_region="eu", source_snapshot_id="snap-1")
            ]
        )

    services.answer(
        "DiskSnapshotService/ListDiskSnapshots", disk_snapshot_pb2.ListDiskSnapshotsRequest, answer
    )
    heading, row = run("snapshot", "disk-list").stdout.splitlines()
    assert "FROM REGION" in heading
    assert "eu" in row.split()
