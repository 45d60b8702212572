"""What the console shows before one acts, as the command line shows it; and the way back that a rollback leaves."""

import json
import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, PreconditionFailure
from typer.testing import Result

from stillpoint.compute.v1 import instance_service_pb2 as instance_pb2
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from tests.unit.cli.fake_services import FakeServices, Refusal

Run = Callable[..., Result]
GIB = 1 << 30


def blocked(*descriptions: str, reason: str = "PRECONDITIONS") -> Refusal:
    violations = [PreconditionFailure.Violation(description=each) for each in descriptions]
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        "; ".join(descriptions),
        ErrorInfo(reason=reason),
        PreconditionFailure(violations=violations),
    )


class Machine:
    """i-1, stopped, and a snapshot of it, whose data disk is larger now, and detached. Another was attached since."""

    def __init__(self, services: FakeServices) -> None:
        self.services = services
        self.disks = {
            "disk-1": Disk(id="disk-1", state=Disk.STATE_RUNNING, instance_id="i-1", size_bytes=GIB),
            "disk-2": Disk(id="disk-2", state=Disk.STATE_DETACHED, size_bytes=3 * GIB),
        }
        members = [
            Member(disk_id="disk-1", snapshot_id="snap-1", size_bytes=GIB, device="vda", is_system_disk=True),
            Member(disk_id="disk-2", snapshot_id="snap-2", size_bytes=2 * GIB, device="vdb"),
        ]
        self.snapshot = InstanceSnapshot(id="isnap-1", name="good", instance_id="i-1", members=members)
        self.snapshot.cut_time.seconds = 1
        self.refusals: dict[str, Refusal] = {}
        """By the name of the request that is refused."""
        self.failing_operations: set[str] = set()
        answers = {
            "InstanceSnapshotService/GetInstanceSnapshot": snapshot_pb2.GetInstanceSnapshotRequest,
            "InstanceSnapshotService/RollbackInstanceSnapshot": snapshot_pb2.RollbackInstanceSnapshotRequest,
            "InstanceSnapshotService/CreateInstanceSnapshot": snapshot_pb2.CreateInstanceSnapshotRequest,
            "DiskSnapshotService/ListDiskSnapshots": disk_snapshot_pb2.ListDiskSnapshotsRequest,
            "DiskSnapshotService/CreateDiskSnapshot": disk_snapshot_pb2.CreateDiskSnapshotRequest,
            "DiskService/GetDisk": disk_pb2.GetDiskRequest,
            "DiskService/ListDisks": disk_pb2.ListDisksRequest,
        }
        for method, request in answers.items():
            services.answer(method, request, self._answer)
        services.stream("OperationService/WatchOperation", operation_pb2.WatchOperationRequest, self._watch)

    def _answer(self, request: Any) -> Any:  # noqa: PLR0911 - one for each request
        if refusal := self.refusals.get(type(request).__name__):
            raise refusal
        match request:
            case snapshot_pb2.GetInstanceSnapshotRequest():
                return snapshot_pb2.GetInstanceSnapshotResponse(instance_snapshot=self.snapshot)
            case snapshot_pb2.RollbackInstanceSnapshotRequest():
                return snapshot_pb2.RollbackInstanceSnapshotResponse(
                    instance_snapshot=self.snapshot,
                    operation_id="" if request.validate_only else "op-s-rollback",
                    untouched_disk_ids=["disk-9"],
                )
            case snapshot_pb2.CreateInstanceSnapshotRequest():
                return snapshot_pb2.CreateInstanceSnapshotResponse(
                    instance_snapshot=InstanceSnapshot(
                        id="isnap-2", members=[self.snapshot.members[0], Member(disk_id="disk-9")]
                    ),
                    operation_id="op-s-whole",
                )
            case disk_snapshot_pb2.CreateDiskSnapshotRequest():
                return disk_snapshot_pb2.CreateDiskSnapshotResponse(
                    snapshot=DiskSnapshot(id=f"snap-of-{request.disk_id}"), operation_id="op-d-single"
                )
            case disk_snapshot_pb2.ListDiskSnapshotsRequest():
                snapshots = [
                    DiskSnapshot(id=each, state=DiskSnapshot.STATE_AVAILABLE) for each in ("snap-2", "snap-1")
                ]
                return disk_snapshot_pb2.ListDiskSnapshotsResponse(snapshots=snapshots)
            case disk_pb2.ListDisksRequest():
                disks = [each for each in self.disks.values() if each.instance_id]
                return disk_pb2.ListDisksResponse(disks=disks)
            case disk_pb2.GetDiskRequest():
                if request.disk_id not in self.disks:
                    raise Refusal(grpc.StatusCode.NOT_FOUND, "no such disk")
                return disk_pb2.GetDiskResponse(disk=self.disks[request.disk_id])
            case _:
                raise AssertionError(request)

    def _watch(self, request: operation_pb2.WatchOperationRequest) -> Any:
        failed = request.operation_id in self.failing_operations
        state = Operation.STATE_FAILED if failed else Operation.STATE_SUCCEEDED
        operation = Operation(id=request.operation_id, state=state)
        operation.error.message = "the block store is full" if failed else ""
        yield operation_pb2.WatchOperationResponse(operation=operation)

    def add_a_member_whose_disk_was_deleted(self) -> None:
        self.snapshot.members.add(disk_id="disk-3", snapshot_id="snap-3", size_bytes=2 * GIB, device="vdc")

    def changes(self) -> list[str]:
        """What was asked for that changes something, and what was waited for, in order."""
        names = []
        for request in self.services.requests:
            if isinstance(request, operation_pb2.WatchOperationRequest):
                names.append(f"wait for {request.operation_id}")
            elif getattr(request, "request_id", "") and not getattr(request, "validate_only", False):
                names.append(type(request).__name__.removesuffix("Request"))
        return names


@pytest.fixture
def machine(services: FakeServices) -> Machine:
    return Machine(services)


# What a snapshot could be taken of


def serve_instances(services: FakeServices, verdicts: dict[str, Refusal | None]) -> None:
    services.answer(
        "InstanceService/ListInstances",
        instance_pb2.ListInstancesRequest,
        lambda _: instance_pb2.ListInstancesResponse(
            instances=[Instance(id=each, name=f"name-of-{each}") for each in verdicts]
        ),
    )
    disks = [
        Disk(id=f"disk-{device}-of-{each}", instance_id=each, device=device, state=Disk.STATE_MOUNTED)
        for each in verdicts
        for device in ("vdaa", "vdb", "vda")
    ]
    services.answer(
        "DiskService/ListDisks",
        disk_pb2.ListDisksRequest,
        lambda _: disk_pb2.ListDisksResponse(disks=[*disks, Disk(id="disk-on-none")]),
    )

    def validate(request: snapshot_pb2.CreateInstanceSnapshotRequest) -> Any:
        assert request.validate_only
        if refusal := verdicts[request.instance_id]:
            raise refusal
        return snapshot_pb2.CreateInstanceSnapshotResponse()

    services.answer(
        "InstanceSnapshotService/CreateInstanceSnapshot", snapshot_pb2.CreateInstanceSnapshotRequest, validate
    )


def test_create_without_an_instance_lists_each_with_its_disks_and_every_reason_against_it(
    services: FakeServices, run: Run
):
    serve_instances(services, {"i-1": None, "i-2": blocked("the account is in debt", "disk-7 is RESIZING")})
    result = run("snapshot", "create")
    assert result.exit_code == 0, result.output
    first, second = re.split(r"(?=name-of-i-2)", result.stdout)
    assert "can be taken now" in first
    assert [line.split()[0] for line in first.splitlines() if line.startswith("disk-")] == [
        "disk-vda-of-i-1",
        "disk-vdb-of-i-1",
        "disk-vdaa-of-i-1",
    ]
    assert "not now" in second
    assert "  • the account is in debt\n  • disk-7 is RESIZING\n" in second
    assert "disk-on-none" not in result.stdout
    assert "stillpoint snapshot create INSTANCE" in result.stderr


def test_create_without_an_instance_as_json_has_disks_and_obstacles_of_each(services: FakeServices, run: Run):
    serve_instances(services, {"i-1": None, "i-2": blocked("disk-7 is RESIZING", reason="DISK_BUSY")})
    rows = [json.loads(line) for line in run("snapshot", "create", "--json").stdout.splitlines()]
    assert [(row["id"], row["obstacles"]) for row in rows] == [("i-1", []), ("i-2", ["disk-7 is RESIZING"])]
    assert [disk["device"] for disk in rows[1]["disks"]] == ["vda", "vdb", "vdaa"]


def test_an_instance_that_vanishes_while_it_is_asked_about_is_left_out(services: FakeServices, run: Run):
    gone = Refusal(grpc.StatusCode.NOT_FOUND, "no such instance", ErrorInfo(reason="INSTANCE_NOT_FOUND"))
    serve_instances(services, {f"i-{number}": gone if number % 2 else None for number in range(60)})
    result = run("snapshot", "create", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [
        f"i-{number}" for number in range(0, 60, 2)
    ]


def test_what_cannot_be_found_out_about_an_instance_is_said_of_that_one_alone(
    services: FakeServices, run: Run
):
    late = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")
    serve_instances(services, {"i-1": late, "i-2": None})
    rows = [json.loads(line) for line in run("snapshot", "create", "--json").stdout.splitlines()]
    assert "did not answer in time" in rows[0]["obstacles"][0]
    assert rows[1]["obstacles"] == []


@pytest.mark.parametrize("option", ["--name=n", "--label=a=1", "--keep=7d", "--no-wait"])
def test_what_a_snapshot_shall_be_without_an_instance_is_a_usage_error_and_nothing_is_asked(
    services: FakeServices, run: Run, option: str
):
    result = run("snapshot", "create", option)
    assert (result.exit_code, services.requests) == (2, [])
    assert "name the instance" in result.stderr


# One snapshot


def test_show_has_of_each_member_its_snapshot_and_its_disk_as_they_are_now(machine: Machine, run: Run):
    machine.add_a_member_whose_disk_was_deleted()
    result = run("snapshot", "show", "isnap-1")
    assert result.exit_code == 0, result.output
    assert re.search(r"disk-1 +system +vda +1 GiB +snap-1 +AVAILABLE +RUNNING", result.stdout)
    assert re.search(r"disk-2 +data +vdb +2 GiB +snap-2 +AVAILABLE +DETACHED 3 GiB", result.stdout)
    assert re.search(r"disk-3 +data +vdc +2 GiB +snap-3 +deleted +deleted", result.stdout)
    shown = json.loads(run("snapshot", "show", "isnap-1", "--json").stdout)
    assert [each["device"] for each in shown["members"]] == ["vda", "vdb", "vdc"]
    assert [each["id"] for each in shown["disk_snapshots"]] == ["snap-1", "snap-2"]
    assert [each["id"] for each in shown["disks"]] == ["disk-1", "disk-2"]


def test_disk_snapshots_are_listed_of_one_instance_snapshot(machine: Machine, run: Run):
    result = run("snapshot", "disk-list", "--snapshot", "isnap-1")
    assert result.exit_code == 0, result.output
    [request] = machine.services.requests
    assert (request.filter.instance_snapshot_id, request.filter.disk_id) == ("isnap-1", "")


# Rolling back


def test_a_rollback_that_could_not_work_is_refused_with_every_reason_before_anything_is_asked(
    machine: Machine, run: Run
):
    machine.refusals["RollbackInstanceSnapshotRequest"] = blocked("i-1 is RUNNING", "disk-3 does not exist")
    for options in ([], ["--snapshot-first", "--yes"]):
        result = run("snapshot", "rollback", "isnap-1", *options, typed="y\n")
        assert result.exit_code == 1
        assert "  • i-1 is RUNNING\n  • disk-3 does not exist\n" in result.stderr
        assert "[y/N]" not in result.stderr
    assert machine.changes() == []


def test_snapshots_are_taken_first_and_awaited_before_anything_is_rolled_back(machine: Machine, run: Run):
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", typed="y\n")
    assert result.exit_code == 0, result.output
    assert machine.changes() == [
        "CreateInstanceSnapshot",
        "wait for op-s-whole",
        "CreateDiskSnapshot",
        "wait for op-d-single",
        "RollbackInstanceSnapshot",
        "wait for op-s-rollback",
    ]
    [whole] = sent(machine.services, snapshot_pb2.CreateInstanceSnapshotRequest)
    [single] = sent(machine.services, disk_snapshot_pb2.CreateDiskSnapshotRequest)
    assert whole.instance_id == "i-1"
    assert single.disk_id == "disk-2"
    assert whole.name == single.name
    assert re.fullmatch(r"before-rollback-\d{8}T\d{6}Z", whole.name)
    assert "kept in new snapshots first" in result.stderr
    assert "  stillpoint snapshot rollback isnap-2 --disk disk-1\n" in result.stderr
    assert "  stillpoint disk rollback disk-2 snap-of-disk-2\n" in result.stderr


@pytest.mark.parametrize(
    ("disk", "way_back"),
    [
        ("disk-1", ["stillpoint snapshot rollback isnap-2 --disk disk-1"]),
        ("disk-2", ["stillpoint disk rollback disk-2 snap-of-disk-2"]),
    ],
)
def test_the_way_back_from_a_rollback_of_some_disks_is_of_these_alone(
    machine: Machine, run: Run, disk: str, way_back: list[str]
):
    result = run("snapshot", "rollback", "isnap-1", "--disk", disk, "--snapshot-first", "--yes")
    assert result.exit_code == 0, result.output
    printed = [line.strip() for line in result.stderr.splitlines() if line.startswith("  stillpoint")]
    assert printed == way_back
    taken = "snap-of-disk-2" if disk == "disk-2" else "isnap-2"
    assert f"Snapshots that were taken first: {taken}." in result.stderr


def test_what_would_not_be_taken_does_not_stand_in_the_way(machine: Machine, run: Run):
    machine.refusals["CreateInstanceSnapshotRequest"] = blocked("disk-1 has 256 of 256 manual snapshots")
    options = ("--disk", "disk-2", "--snapshot-first", "--yes")
    assert run("snapshot", "rollback", "isnap-1", *options, "--dry-run").exit_code == 0
    result = run("snapshot", "rollback", "isnap-1", *options)
    assert result.exit_code == 0, result.output


def test_the_way_back_of_a_machine_without_other_disks_is_its_whole_snapshot(machine: Machine, run: Run):
    machine.disks["disk-2"].instance_id = "i-1"
    machine.snapshot.members[1].disk_id = "disk-9"
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes")
    assert "  stillpoint snapshot rollback isnap-2\n" in result.stderr


def test_the_commands_of_the_way_back_begin_with_the_root_options_that_were_typed(machine: Machine, run: Run):
    address = machine.services.address
    root = ["--region", "eu", "--disk", address]
    result = run(*root, "snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes")
    # The environment says where disk_svc is, and goes on saying it.
    assert "  stillpoint --region eu snapshot rollback isnap-2 --disk disk-1\n" in result.stderr
    assert "  stillpoint --region eu disk rollback disk-2 snap-of-disk-2\n" in result.stderr


def test_snapshots_that_were_taken_first_are_in_the_json(machine: Machine, run: Run):
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes", "--json")
    assert json.loads(result.stdout)["taken_first"] == ["isnap-2", "snap-of-disk-2"]
    assert json.loads(run("snapshot", "rollback", "isnap-1", "--yes", "--json").stdout)["taken_first"] == []


def test_nothing_is_rolled_back_when_a_snapshot_is_refused_and_what_was_taken_is_named(
    machine: Machine, run: Run
):
    machine.refusals["CreateDiskSnapshotRequest"] = blocked("disk-2 has 256 of 256 manual snapshots")
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "Error: disk-2 has 256 of 256 manual snapshots (PRECONDITIONS)",
        "Nothing was rolled back.",
        "Snapshots that were taken first: isnap-2.",
    ]
    assert "RollbackInstanceSnapshot" not in machine.changes()


def test_nothing_is_rolled_back_when_a_snapshot_fails_after_its_moment(machine: Machine, run: Run):
    machine.failing_operations.add("op-s-whole")
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes")
    assert result.exit_code == 1
    assert "the block store is full" in result.stderr
    assert result.stderr.endswith("Nothing was rolled back.\n")
    assert machine.changes() == ["CreateInstanceSnapshot", "wait for op-s-whole"]


def test_a_rollback_that_fails_names_the_snapshots_that_were_taken_first(machine: Machine, run: Run):
    machine.failing_operations.add("op-s-rollback")
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--yes")
    assert result.exit_code == 1
    assert "Snapshots that were taken first: isnap-2, snap-of-disk-2." in result.stderr
    assert "Nothing was rolled back" not in result.stderr


def test_a_dry_run_with_snapshots_first_says_when_they_could_not_be_taken(machine: Machine, run: Run):
    assert run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--dry-run").exit_code == 0
    machine.refusals["CreateInstanceSnapshotRequest"] = blocked("disk-1 has 256 of 256 manual snapshots")
    result = run("snapshot", "rollback", "isnap-1", "--snapshot-first", "--dry-run")
    assert result.exit_code == 1
    assert "disk-1 has 256 of 256 manual snapshots" in result.stderr
    assert machine.changes() == []


# Deleting


def test_a_deletion_lists_every_disk_snapshot_it_will_delete_and_takes_no_for_an_answer(
    machine: Machine, run: Run
):
    result = run("snapshot", "delete", "isnap-1", typed="n\n")
    assert result.exit_code == 1
    assert re.search(r"isnap-1 +disk-2 +data +vdb +2 GiB +snap-2 +AVAILABLE +DETACHED 3 GiB", result.stderr)
    assert "Delete isnap-1 with 2 disk snapshots? They cannot be restored." in result.stderr
    assert machine.changes() == []


# A whole new machine


def serve_creation(services: FakeServices) -> None:
    services.answer(
        "InstanceService/CreateInstance",
        instance_pb2.CreateInstanceRequest,
        lambda _: instance_pb2.CreateInstanceResponse(instance=Instance(id="i-2")),
    )


def test_an_instance_from_an_instance_snapshot_has_a_disk_from_each_member(machine: Machine, run: Run):
    serve_creation(machine.services)
    machine.add_a_member_whose_disk_was_deleted()
    result = run(
        "instance", "create", "web-2", "--from", "isnap-1", "--data", "0", "--data", "5GiB", "--json"
    )
    assert result.exit_code == 0, result.output
    [request] = sent(machine.services, instance_pb2.CreateInstanceRequest)
    made = [(disk.source_snapshot_id, disk.size_bytes) for disk in [request.system_disk, *request.data_disks]]
    assert made == [("snap-1", 0), ("snap-2", 0), ("snap-3", 5 * GIB)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "isnap-1", "--data", "0", "--data", "1GiB"], "isnap-1 has 1 data disk(s)"),
        (["--from", "isnap-1", "--system", "snap-7"], "name sizes"),
        ([], "an instance needs one"),
    ],
)
def test_disks_that_no_instance_can_have_are_a_usage_error(
    machine: Machine, run: Run, options: list[str], message: str
):
    serve_creation(machine.services)
    result = run("instance", "create", "web-2", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert machine.changes() == []


def test_a_snapshot_that_failed_has_nothing_to_make_an_instance_from(machine: Machine, run: Run):
    del machine.snapshot.members[:]
    machine.snapshot.state_reason = "the block store was full"
    result = run("instance", "create", "web-2", "--from", "isnap-1")
    assert result.exit_code == 1
    assert "isnap-1 has no members to make disks from: the block store was full" in result.stderr


def sent(services: FakeServices, kind: type[Any]) -> list[Any]:
    return [request for request in services.requests if isinstance(request, kind)]
