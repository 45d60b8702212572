"""StartCopy and GetCopy of disk_svc's ParticipantService: the members of an instance snapshot, copied together."""

import os

from stillpoint.disk.v1 import participant_service_pb2 as pb
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint_cli.addresses import Service
from svckit.errors import Refusal
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id
from tests.contract.conftest import TwoRegions
from tests.contract.error_tables import COMMON, DISK
from tests.contract.inside import Inside, an_operation_id, step_withdrawn
from tests.contract.refusals import invalid, refused
from tests.support.regions import NORTH, SOUTH
from tests.support.waiting import eventually


def a_whole(cloud: Cloud) -> InstanceSnapshot:
    """Of a machine with two disks that have something to say."""
    machine = cloud.an_instance(data_disks=1, size_bytes=2 * MIB)
    for disk_id in machine.disk_ids:
        cloud.write(disk_id, (MIB, os.urandom(4096)))
    return cloud.an_instance_snapshot(machine.id)


def copy_of(whole_id: str, member_ids: list[str], *, region: str = SOUTH) -> pb.StartCopyRequest:
    operation_id = an_operation_id()
    return pb.StartCopyRequest(
        key=f"{operation_id}/start_copy",
        operation_id=operation_id,
        account_id=ACCOUNT,
        destination_region=region,
        instance_snapshot_id=whole_id,
        copy_instance_snapshot_id=an_unknown_id("isnap"),
        copy_name=a_name("copy"),
        members=[
            pb.CopiedMember(snapshot_id=member_id, copy_snapshot_id=an_unknown_id("snap"))
            for member_id in member_ids
        ],
    )


def copy_of_whole(whole: InstanceSnapshot) -> pb.StartCopyRequest:
    return copy_of(whole.id, [member.snapshot_id for member in whole.members])


def at_rest(inside: Inside, operation_id: str) -> pb.GetCopyResponse:
    def look() -> pb.GetCopyResponse | None:
        found = inside.disk.GetCopy(pb.GetCopyRequest(copy_operation_id=operation_id))
        return found if found.state in (Operation.STATE_SUCCEEDED, Operation.STATE_FAILED) else None

    return eventually(look, within_seconds=30)


def test_members_are_copied_together_and_become_members_of_the_copy(regions: TwoRegions):
    inside, whole = Inside(regions.north), a_whole(regions.north)
    request = copy_of_whole(whole)
    operation_id = inside.disk.StartCopy(request).copy_operation_id
    ended = at_rest(inside, operation_id)
    assert (ended.state, ended.error) == (Operation.STATE_SUCCEEDED, b"")
    assert ended.progress.completed_bytes == ended.progress.total_bytes == 4 * MIB
    for member in request.members:
        copy = regions.south.disk_snapshot(member.copy_snapshot_id)
        assert (copy.source_region, copy.source_snapshot_id) == (NORTH, member.snapshot_id)
        assert (copy.instance_snapshot_id, copy.name) == (
            request.copy_instance_snapshot_id,
            request.copy_name,
        )
        assert copy.cut_time == whole.cut_time
        assert regions.south.read(copy.id) == regions.north.read(member.snapshot_id)
    listed = regions.south.snapshots_of(instance_snapshot_id=request.copy_instance_snapshot_id)
    assert {copy.id for copy in listed} == {member.copy_snapshot_id for member in request.members}


def test_the_same_key_again_answers_the_same_operation(regions: TwoRegions):
    inside, whole = Inside(regions.north), a_whole(regions.north)
    request = copy_of_whole(whole)
    first, second = inside.disk.StartCopy(request), inside.disk.StartCopy(request)
    assert first == second
    at_rest(inside, first.copy_operation_id)
    assert inside.disk.StartCopy(request) == first
    kinds = [each.kind for each in regions.north.operations_on(Service.DISK, whole.id)]
    assert kinds.count("copy_disk_snapshot") == 1


def test_fails_when_members_are_missing_or_being_made_and_names_all_of_them_for_good(regions: TwoRegions):
    inside, unknown = Inside(regions.north), an_unknown_id("snap")
    machine = regions.north.an_instance()
    with inside.snapshotting(machine.id) as point:
        being_made = point.members[0].snapshot_id
        both = copy_of(an_unknown_id("isnap"), [unknown, being_made])
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            inside.disk.StartCopy(both)
        assert set(refusal.violations) == {
            ("SNAPSHOT_NOT_FOUND", f"snapshot/{unknown}"),
            ("SNAPSHOT_STATE", f"snapshot/{being_made}"),
        }
        with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
            inside.disk.StartCopy(copy_of(an_unknown_id("isnap"), [being_made]))
    with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
        inside.disk.StartCopy(copy_of(an_unknown_id("isnap"), [unknown]))
    with step_withdrawn():
        inside.disk.StartCopy(both)


def test_fails_when_the_region_is_not_known(regions: TwoRegions):
    request = copy_of(an_unknown_id("isnap"), [regions.north.a_disk_snapshot()], region="atlantis")
    with refused("NOT_FOUND", "REGION_NOT_FOUND", COMMON):
        Inside(regions.north).disk.StartCopy(request)


def test_a_copy_that_failed_says_why_and_leaves_no_member_there(regions: TwoRegions):
    inside, whole = Inside(regions.north), a_whole(regions.north)
    request = copy_of_whole(whole)
    with regions.south.store_fails("seal", "full"):
        ended = at_rest(inside, inside.disk.StartCopy(request).copy_operation_id)
    assert ended.state == Operation.STATE_FAILED
    assert Refusal.from_bytes(ended.error).reason == "STORE_FULL"
    assert regions.south.snapshots_of(instance_snapshot_id=request.copy_instance_snapshot_id) == []


def test_fails_when_there_is_no_such_copy(regions: TwoRegions):
    inside = Inside(regions.north)
    disk_id = regions.north.a_disk()
    [made] = regions.north.operations_on(Service.DISK, disk_id)
    for operation_id in (an_unknown_id("op-d"), made.id):
        with refused("NOT_FOUND", "OPERATION_NOT_FOUND", COMMON):
            inside.disk.GetCopy(pb.GetCopyRequest(copy_operation_id=operation_id))


def test_no_member_and_one_member_twice_are_refused(regions: TwoRegions):
    inside, whole = Inside(regions.north), a_whole(regions.north)
    member_id = whole.members[0].snapshot_id
    for member_ids in ([], [member_id, member_id]):
        with invalid("members"):
            inside.disk.StartCopy(copy_of(whole.id, member_ids))
