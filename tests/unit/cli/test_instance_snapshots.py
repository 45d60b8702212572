import json
import re
from collections.abc import Callable

import grpc
import pytest
from typer.testing import Result

from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from tests.unit.cli.fake_services import FakeServices, Refusal, refuse, sent, serve_operation

Run = Callable[..., Result]


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
