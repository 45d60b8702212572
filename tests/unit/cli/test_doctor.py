import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import Result

from stillpoint.compute.v1 import participant_service_pb2 as compute_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk_pb2
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import (
    GetDiskSnapshotRequest,
    GetDiskSnapshotResponse,
    ListDiskSnapshotsRequest,
    ListDiskSnapshotsResponse,
)
from stillpoint.operation.v1.operation_pb2 import Operation, OperationError
from stillpoint.operation.v1.operation_service_pb2 import (
    GetOperationRequest,
    GetOperationResponse,
    ListOperationsRequest,
    ListOperationsResponse,
)
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot, Member
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    GetInstanceSnapshotRequest,
    GetInstanceSnapshotResponse,
    ListInstanceSnapshotsRequest,
    ListInstanceSnapshotsResponse,
)
from stillpoint_cli.doctor import Channels, examine
from stillpoint_cli.values import format_in_full
from tests.unit.cli.fake_services import FakeServices, Refusal


class Deployment:
    """What the fake services hold; a test puts in what is wrong."""

    def __init__(self, services: FakeServices) -> None:
        self.operations: dict[str, Operation] = {}
        self.leases: list[compute_pb2.Lease] = []
        self.holds: list[disk_pb2.Hold] = []
        self.disk_snapshots: list[DiskSnapshot] = []
        self.instance_snapshots: dict[str, InstanceSnapshot] = {}
        self.differences: list[disk_pb2.CheckStoreResponse] = []
        self.scrubbed = [disk_pb2.ScrubStoreResponse(checked_bytes=4096)]
        services.answer(
            "ParticipantService/ListLeases",
            compute_pb2.ListLeasesRequest,
            lambda request: _page(compute_pb2.ListLeasesResponse, "leases", self.leases, request),
        )
        services.answer(
            "ParticipantService/ListHolds",
            disk_pb2.ListHoldsRequest,
            lambda request: _page(disk_pb2.ListHoldsResponse, "holds", self.holds, request),
        )
        services.answer(
            "DiskSnapshotService/ListDiskSnapshots", ListDiskSnapshotsRequest, self._list_disk_snapshots
        )
        services.answer(
            "DiskSnapshotService/GetDiskSnapshot",
            GetDiskSnapshotRequest,
            lambda request: GetDiskSnapshotResponse(
                snapshot=_find({each.id: each for each in self.disk_snapshots}, request.snapshot_id)
            ),
        )
        services.answer(
            "InstanceSnapshotService/ListInstanceSnapshots",
            ListInstanceSnapshotsRequest,
            lambda _: ListInstanceSnapshotsResponse(instance_snapshots=self.instance_snapshots.values()),
        )
        services.answer(
            "InstanceSnapshotService/GetInstanceSnapshot",
            GetInstanceSnapshotRequest,
            lambda request: GetInstanceSnapshotResponse(
                instance_snapshot=_find(self.instance_snapshots, request.instance_snapshot_id)
            ),
        )
        services.answer(
            "OperationService/GetOperation",
            GetOperationRequest,
            lambda request: GetOperationResponse(operation=_find(self.operations, request.operation_id)),
        )
        services.answer("OperationService/ListOperations", ListOperationsRequest, self._list_operations)
        services.stream(
            "ParticipantService/CheckStore", disk_pb2.CheckStoreRequest, lambda _: iter(self.differences)
        )
        services.stream(
            "ParticipantService/ScrubStore", disk_pb2.ScrubStoreRequest, lambda _: iter(self.scrubbed)
        )

    def add_operation(self, state: "Operation.State.ValueType", **fields: Any) -> str:
        operation_id = f"op-s-{len(self.operations)}"
        self.operations[operation_id] = Operation(id=operation_id, state=state, **fields)
        return operation_id

    def add_whole(self, *member_ids: str, operation_id: str = "") -> None:
        members = [Member(snapshot_id=member_id) for member_id in member_ids]
        self.instance_snapshots["isnap-1"] = InstanceSnapshot(
            id="isnap-1", state=InstanceSnapshot.STATE_AVAILABLE, members=members, operation_id=operation_id
        )

    def add_member(
        self, snapshot_id: str, state: "DiskSnapshot.State.ValueType" = DiskSnapshot.STATE_AVAILABLE
    ) -> None:
        self.disk_snapshots.append(DiskSnapshot(id=snapshot_id, instance_snapshot_id="isnap-1", state=state))

    def _list_disk_snapshots(self, request: ListDiskSnapshotsRequest) -> ListDiskSnapshotsResponse:
        whole = request.filter.instance_snapshot_id
        return ListDiskSnapshotsResponse(
            snapshots=[each for each in self.disk_snapshots if whole in ("", each.instance_snapshot_id)]
        )

    def _list_operations(self, request: ListOperationsRequest) -> ListOperationsResponse:
        assert request.filter.unfinished
        live = (Operation.STATE_RUNNING, Operation.STATE_COMPENSATING)
        return ListOperationsResponse(
            operations=[each for each in self.operations.values() if each.state in live]
        )


def _find(things: dict[str, Any], wanted: str) -> Any:
    if wanted not in things:
        raise Refusal(grpc.StatusCode.NOT_FOUND, "not there")
    return things[wanted]


def _page(response: type[Any], field: str, items: list[Any], request: Any) -> Any:
    """One item a page, so that every check has to turn pages."""
    begin = int(request.page_token or 0)
    token = str(begin + 1) if begin + 1 < len(items) else ""
    return response(**{field: items[begin : begin + 1], "next_page_token": token})


@pytest.fixture
def deployment(services: FakeServices) -> Deployment:
    return Deployment(services)


@pytest.fixture
def channel(services: FakeServices) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(services.address) as channel:
        yield channel


@pytest.fixture
def problems(deployment: Deployment, channel: grpc.Channel) -> Callable[[], list[str]]:
    channels = Channels(channel, channel, channel, channel, channel)
    return lambda: [
        finding.problem for result in examine(channels, pause_seconds=0.01) for finding in result.findings
    ]


Problems = Callable[[], list[str]]


def remedy(operation_id: str) -> str:
    return f"`stillpoint operation abandon {operation_id} --reason '…'`"


def test_nothing_at_all_is_well(problems: Problems):
    assert problems() == []


def test_what_a_live_operation_holds_is_in_progress(deployment: Deployment, problems: Problems):
    running = deployment.add_operation(Operation.STATE_RUNNING)
    undoing = deployment.add_operation(Operation.STATE_COMPENSATING, attempts=3)
    deployment.leases.append(compute_pb2.Lease(instance_id="i-1", operation_id=running))
    deployment.holds.append(disk_pb2.Hold(kind="point", resource_id="p", operation_id=undoing))
    deployment.add_whole("snap-1", operation_id=running)
    assert problems() == []


def test_what_an_operation_holds_that_one_account_cannot_see_may_be_another_accounts(
    deployment: Deployment, channel: grpc.Channel
):
    ended = deployment.add_operation(Operation.STATE_SUCCEEDED)
    deployment.leases += [
        compute_pb2.Lease(instance_id="i-1", operation_id=ended),
        compute_pb2.Lease(instance_id="i-2", operation_id="op-c-of-another"),
    ]
    channels = Channels(channel, channel, channel, channel, channel, one_account=True)
    found = [finding for result in examine(channels, pause_seconds=0.01) for finding in result.findings]
    assert [finding.resource_id for finding in found] == ["i-1"]


def test_what_an_ended_or_unknown_operation_holds_is_a_fault(deployment: Deployment, problems: Problems):
    ended = deployment.add_operation(Operation.STATE_SUCCEEDED)
    deployment.leases += [
        compute_pb2.Lease(instance_id="i-1", operation_id=ended),
        compute_pb2.Lease(instance_id="i-2", operation_id="op-c-unknown"),
    ]
    deployment.holds += [
        disk_pb2.Hold(kind="task", resource_id="disk-1", operation_id="nonsense"),
        disk_pb2.Hold(kind="point", resource_id="p", operation_id=""),
    ]
    assert problems() == [
        f"i-1: its lease is held by operation {ended}, which is not running; {remedy(ended)} ends that",
        f"i-2: its lease is held by operation op-c-unknown, which is not running; {remedy('op-c-unknown')} ends that",
        "disk-1: its task is held by operation nonsense, which is not running",
        "p: its point is held by no operation",
    ]


def test_what_an_abandoned_operation_holds_is_a_fault(deployment: Deployment, problems: Problems):
    abandoned = deployment.add_operation(Operation.STATE_ABANDONED)
    deployment.leases.append(compute_pb2.Lease(instance_id="i-1", operation_id=abandoned))
    [problem] = problems()
    assert problem.startswith(f"i-1: its lease is held by operation {abandoned}, which is not running")


def test_what_is_held_for_an_operation_of_another_region_is_for_that_regions_doctor_to_judge(
    deployment: Deployment, problems: Problems
):
    deployment.disk_snapshots.append(
        DiskSnapshot(
            id="snap-1",
            region="here",
            source_region="there",
            state=DiskSnapshot.STATE_CREATING,
            instance_snapshot_id="isnap-of-another-day",
        )
    )
    for kind in ("import", "snapshot"):
        deployment.holds.append(
            disk_pb2.Hold(
                kind=kind, resource_id="snap-1", operation_id="op-d-there", operation_region="there"
            )
        )
    assert problems() == []


def test_what_is_held_for_an_operation_of_this_region_is_judged_though_it_is_a_copy(
    deployment: Deployment, problems: Problems
):
    deployment.disk_snapshots.append(
        DiskSnapshot(id="snap-1", region="here", source_region="there", state=DiskSnapshot.STATE_DELETING)
    )
    deployment.holds.append(
        disk_pb2.Hold(
            kind="snapshot", resource_id="snap-1", operation_id="op-d-lost", operation_region="here"
        )
    )
    [problem] = problems()
    assert problem.startswith("snap-1: its snapshot is held by operation op-d-lost, which is not running")


def test_what_is_gone_at_a_second_look_was_no_fault(
    deployment: Deployment, services: FakeServices, problems: Problems
):
    # Listed before its operation ended, asked for after: the first look cannot tell this from a lost lease.
    ended = deployment.add_operation(Operation.STATE_SUCCEEDED)
    leases = [[compute_pb2.Lease(instance_id="i-1", operation_id=ended)], []]
    services.answer(
        "ParticipantService/ListLeases",
        compute_pb2.ListLeasesRequest,
        lambda _: compute_pb2.ListLeasesResponse(leases=leases.pop(0)),
    )
    assert problems() == []
    assert leases == []


def test_a_disk_snapshot_that_its_whole_does_not_list_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.add_whole("snap-1")
    deployment.add_member("snap-1")
    deployment.add_member("snap-2")
    assert problems() == ["snap-2 names instance snapshot isnap-1, which does not list it"]


def test_a_disk_snapshot_whose_whole_is_gone_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.add_member("snap-1")
    assert problems() == ["snap-1 names instance snapshot isnap-1, which is not there"]


def test_an_available_whole_with_a_member_that_is_not_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.add_whole("snap-1", "snap-2", "snap-3")
    deployment.add_member("snap-1")
    deployment.add_member("snap-2", DiskSnapshot.STATE_ERROR)
    assert problems() == [
        "isnap-1 is AVAILABLE, and its member snap-2 is ERROR",
        "isnap-1 is AVAILABLE, and its member snap-3 is not there",
    ]


def test_a_whole_that_nobody_works_on_any_more_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.instance_snapshots["isnap-1"] = InstanceSnapshot(
        id="isnap-1", state=InstanceSnapshot.STATE_CREATING
    )
    assert problems() == ["isnap-1 is CREATING and no operation works on it"]


def test_a_whole_that_another_regions_operation_works_on_is_no_fault_by_itself(
    deployment: Deployment, problems: Problems
):
    deployment.instance_snapshots["isnap-1"] = InstanceSnapshot(
        id="isnap-1",
        state=InstanceSnapshot.STATE_CREATING,
        operation_id="op-s-elsewhere",
        source_region="eu",
    )
    assert problems() == []


def test_an_undo_that_keeps_failing_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.add_operation(Operation.STATE_COMPENSATING, attempts=50, kind="create", current_step="point")
    # The fake answers for all three services.
    [problem] = set(problems())
    assert problem == (
        "op-s-0 (create) cannot be undone: point was tried 50 times, last: no reason given; "
        f"where what it waits for is gone for good, {remedy('op-s-0')} ends it"
    )


def test_a_step_that_keeps_failing_is_a_fault_also_forwards(deployment: Deployment, problems: Problems):
    failing = OperationError(message="disk_svc did not answer")
    deployment.add_operation(
        Operation.STATE_RUNNING, attempts=10, kind="delete", current_step="release", error=failing
    )
    deployment.add_operation(Operation.STATE_RUNNING, attempts=9, kind="delete", current_step="release")
    [problem] = set(problems())
    assert problem == (
        "op-s-0 (delete) cannot go on: release was tried 10 times, last: disk_svc did not answer; "
        f"where what it waits for is gone for good, {remedy('op-s-0')} ends it"
    )


def test_whatever_is_in_progress_for_longer_than_was_asked_for_is_a_fault(
    deployment: Deployment, run: Callable[..., Result]
):
    long_ago = Timestamp(seconds=1_700_000_000)
    deployment.add_operation(
        Operation.STATE_RUNNING, create_time=long_ago, kind="copy", current_step="send", resource_id="snap-1"
    )
    now = Timestamp()
    now.GetCurrentTime()
    deployment.add_operation(Operation.STATE_RUNNING, create_time=now, resource_id="snap-2")
    deployment.instance_snapshots["isnap-1"] = InstanceSnapshot(
        id="isnap-1", state=InstanceSnapshot.STATE_CREATING, source_region="eu", update_time=long_ago
    )
    deployment.disk_snapshots.append(
        DiskSnapshot(id="snap-3", region="us", source_region="eu", state=DiskSnapshot.STATE_CREATING)
    )
    deployment.holds.append(
        disk_pb2.Hold(
            kind="import", resource_id="snap-3", operation_id="op-d-eu", operation_region="eu", since=long_ago
        )
    )
    assert run("doctor").exit_code == 0

    result = run("doctor", "--older-than", "1h", "--json")
    assert result.exit_code == 1
    found = {
        finding["resource_id"]: finding["problem"]
        for line in map(json.loads, result.stdout.splitlines())
        for finding in line["findings"]
    }
    since = format_in_full(long_ago)
    assert found == {
        "snap-1": f"op-s-0 (copy) has not ended since {since}; it is at send",
        "isnap-1": f"isnap-1 is being copied from region eu, and has not changed since {since}",
        "snap-3": f"snap-3: its import has been held since {since} by operation op-d-eu of region eu",
    }


def test_a_difference_between_store_and_rows_is_a_fault(deployment: Deployment, problems: Problems):
    deployment.differences.append(disk_pb2.CheckStoreResponse(object_id="vol-1", problem="no row names it"))
    assert problems() == ["vol-1: no row names it"]


def test_the_command_ends_with_0_when_all_is_well(deployment: Deployment, run: Callable[..., Result]):
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "✓ leases on instances: 0\n" in result.stdout


def test_the_command_ends_with_1_and_a_line_of_json_for_each_check(
    deployment: Deployment, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    deployment.add_member("snap-1")
    result = run("doctor", "--json")
    lines = {line["check"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert lines["disk snapshots"]["findings"][0]["resource_id"] == "snap-1"
    assert lines["disk snapshots"]["looked_at"] == 1
    assert lines["leases on instances"]["findings"] == []


@pytest.mark.usefixtures("impatient")
def test_the_command_ends_with_2_when_a_service_cannot_be_asked(
    deployment: Deployment, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STILLPOINT_COMPUTE_INTERNAL", "127.0.0.1:1")
    result = run("doctor")
    assert result.exit_code == 2
    assert (
        "? leases on instances: could not be checked\n    cannot reach compute_svc at 127.0.0.1:1"
        in result.stdout
    )


def test_with_scrub_every_byte_is_read_and_each_damage_named_with_its_place(
    deployment: Deployment, run: Callable[..., Result]
):
    whole = run("doctor", "--scrub")
    assert whole.exit_code == 0
    assert "✓ bytes in the block store: 4096\n" in whole.stdout

    damage = disk_pb2.Damage(object_id="disk-1", offset_bytes=16384)
    deployment.scrubbed.append(disk_pb2.ScrubStoreResponse(checked_bytes=8192, damages=[damage]))
    damaged = run("doctor", "--scrub")
    assert damaged.exit_code == 1
    assert (
        "✗ bytes in the block store: 12288, 1 at fault\n"
        "    disk-1: what is stored from byte 16384 on is not what was written\n"
    ) in damaged.stdout


def test_without_scrub_no_byte_is_read(
    deployment: Deployment, services: FakeServices, run: Callable[..., Result]
):
    run("doctor")
    assert not [request for request in services.requests if isinstance(request, disk_pb2.ScrubStoreRequest)]
