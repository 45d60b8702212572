"""DiskSnapshotService.CopyDiskSnapshot, from one region to another."""

import os
from datetime import timedelta
from functools import partial

import pytest

from stillpoint.disk.v1 import disk_snapshot_pb2, participant_service_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as pb
from stillpoint.disk.v1.participant_service_pb2_grpc import ParticipantServiceStub
from stillpoint.operation.v1 import operation_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id
from tests.contract.conftest import TwoRegions
from tests.contract.error_tables import COMMON, DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud
from tests.support.regions import NORTH, SOUTH
from tests.support.waiting import eventually

State = disk_snapshot_pb2.DiskSnapshot
CHUNK = 16 * 1024


def begin_copy(
    source: Cloud, snapshot_id: str, *, to: str = SOUTH, name: str = "", request_id: str = ""
) -> pb.CopyDiskSnapshotResponse:
    return source.disk_snapshots.CopyDiskSnapshot(
        pb.CopyDiskSnapshotRequest(
            request_id=request_id, snapshot_id=snapshot_id, destination_region=to, name=name
        )
    )


def copy(source: Cloud, snapshot_id: str, *, to: str = SOUTH) -> tuple[str, operation_pb2.OperationProgress]:
    """The copy, AVAILABLE, and what its operation said of itself in the end."""
    answer = begin_copy(source, snapshot_id, to=to)
    return answer.copy_snapshot_id, source.finish(answer.operation_id).progress


def delete(cloud: Cloud, snapshot_id: str) -> None:
    answer = cloud.disk_snapshots.DeleteDiskSnapshot(pb.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id))
    cloud.finish(answer.operation_id)


def assert_nothing_is_left(regions: TwoRegions, copy_snapshot_id: str = "") -> None:
    """Neither rows nor bytes of a copy that failed, nor anything that keeps its source."""
    if copy_snapshot_id:
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            regions.south.disk_snapshot(copy_snapshot_id)
    for cloud in (regions.north, regions.south):
        disk = Inside(cloud).disk
        eventually(partial(_holds_nothing, disk), what="the end of all holds")
        assert list(disk.CheckStore(participant_service_pb2.CheckStoreRequest())) == []


def lasts_longer_than_the_deadline(cloud: Cloud, snapshot_id: str) -> bool:
    """Of the copy, while it is tried again and again."""
    operation, _creation = cloud.operations_on(Service.DISK, snapshot_id)
    lasted = operation.update_time.ToDatetime() - operation.create_time.ToDatetime()
    return lasted > timedelta(seconds=TroubledCloud.DEADLINE_SECONDS)


def _holds_nothing(disk: ParticipantServiceStub) -> bool:
    return not disk.ListHolds(participant_service_pb2.ListHoldsRequest()).holds


class TestWhatACopyIs:
    def test_a_copy_is_taken_on_as_creating_and_has_the_same_bytes_when_its_operation_has_ended(
        self, regions: TwoRegions
    ):
        disk_id, data = regions.north.a_disk(size_bytes=8 * MIB), os.urandom(3 * MIB)
        regions.north.write(disk_id, (MIB + 4096, data))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        answer = begin_copy(regions.north, snapshot_id)
        taken_on = regions.south.disk_snapshot(answer.copy_snapshot_id)
        assert taken_on.state in (State.STATE_CREATING, State.STATE_AVAILABLE)
        regions.north.finish(answer.operation_id)

        original = regions.north.disk_snapshot(snapshot_id)
        found = regions.south.disk_snapshot(answer.copy_snapshot_id)
        assert (found.state, found.operation_id) == (State.STATE_AVAILABLE, "")
        assert (found.source_region, found.source_snapshot_id) == (NORTH, snapshot_id)
        assert (found.region, found.disk_id, found.account_id) == (SOUTH, "", ACCOUNT)
        assert (found.name, found.size_bytes, found.kind) == (original.name, 8 * MIB, State.KIND_MANUAL)
        assert found.cut_time == original.cut_time
        assert not original.source_region
        assert regions.south.read(found.id) == regions.north.read(snapshot_id)
        assert_nothing_is_left(regions)

    def test_a_copy_gets_the_name_that_is_asked_for(self, regions: TwoRegions):
        name = a_name("copy")
        answer = begin_copy(regions.north, regions.north.a_disk_snapshot(), name=name)
        assert regions.south.disk_snapshot(answer.copy_snapshot_id).name == name
        regions.north.finish(answer.operation_id)

    def test_a_copy_of_a_member_of_an_instance_snapshot_stands_alone(self, regions: TwoRegions):
        [member] = regions.north.an_instance_snapshot(regions.north.an_instance().id).members
        copy_id, _ = copy(regions.north, member.snapshot_id)
        assert regions.south.disk_snapshot(copy_id).instance_snapshot_id == ""
        delete(regions.south, copy_id)

    def test_a_copy_is_independent_of_its_source(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"kept"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        copy_id, _ = copy(regions.north, snapshot_id)
        delete(regions.north, snapshot_id)
        regions.north.delete_disk(disk_id)
        assert regions.south.read(copy_id, 0, 4) == b"kept"
        assert regions.south.disk_snapshot(copy_id).source_snapshot_id == snapshot_id

    def test_a_copy_becomes_new_disks_and_may_go_while_they_stay(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"made of a copy"))
        copy_id, _ = copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        made = regions.south.a_disk(source_snapshot_id=copy_id)
        delete(regions.south, copy_id)
        assert regions.south.read(made, 0, 14) == b"made of a copy"

    def test_no_disk_is_rolled_back_to_a_copy_not_even_one_that_was_made_from_it(self, regions: TwoRegions):
        copy_id, _ = copy(regions.north, regions.north.a_disk_snapshot())
        made = regions.south.a_disk(source_snapshot_id=copy_id)
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            regions.south.roll_back_disk(made, copy_id)

    def test_a_copy_is_copied_back(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"there and back"))
        there, _ = copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        back, _ = copy(regions.south, there, to=NORTH)
        assert regions.north.read(back, 0, 14) == b"there and back"
        returned = regions.north.disk_snapshot(back)
        assert (returned.source_region, returned.source_snapshot_id) == (SOUTH, there)

    def test_its_source_cannot_be_deleted_while_a_copy_runs_and_can_when_it_has_ended(
        self, regions: TwoRegions
    ):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"in use"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        with regions.south.store_fails("write", "broken"):
            answer = begin_copy(regions.north, snapshot_id)
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK):
                delete(regions.north, snapshot_id)
            assert regions.south.disk_snapshot(answer.copy_snapshot_id).state == State.STATE_CREATING
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
                delete(regions.south, answer.copy_snapshot_id)
        regions.north.finish(answer.operation_id)
        delete(regions.north, snapshot_id)

    def test_while_a_copy_runs_its_base_cannot_be_deleted_and_other_relatives_can(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        base, other = regions.north.a_disk_snapshot(disk_id), regions.north.a_disk_snapshot(disk_id)
        copy(regions.north, base)
        regions.north.write(disk_id, (0, b"more"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        with regions.south.store_fails("write", "broken"):
            answer = begin_copy(regions.north, snapshot_id)
            delete(regions.north, other)
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK) as refusal:
                delete(regions.north, base)
        assert refusal.metadata == {"snapshot_id": base}
        regions.north.finish(answer.operation_id)
        delete(regions.north, base)

    def test_until_the_other_region_has_chosen_a_base_no_relative_can_be_deleted(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        relative, snapshot_id = (regions.north.a_disk_snapshot(disk_id) for _ in range(2))
        with regions.south.store_fails("create_volume", "broken"):
            request = pb.CopyDiskSnapshotRequest(snapshot_id=snapshot_id, destination_region=SOUTH)
            call = regions.north.disk_snapshots.CopyDiskSnapshot.future(request)
            eventually(lambda: len(regions.north.operations_on(Service.DISK, snapshot_id)) == 2)
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK):
                delete(regions.north, relative)
        regions.north.finish(call.result().operation_id)
        delete(regions.north, relative)


class TestWhatIsSent:
    def test_only_what_is_stored_is_sent_and_progress_counts_holes_too(self, regions: TwoRegions):
        disk_id = regions.north.a_disk(size_bytes=1 << 40)
        regions.north.write(disk_id, (0, os.urandom(CHUNK)), ((1 << 40) - CHUNK, os.urandom(CHUNK)))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        copy_id, progress = copy(regions.north, snapshot_id)
        assert progress.completed_bytes == progress.total_bytes == 1 << 40
        assert progress.sent_bytes == 2 * CHUNK
        for offset in (0, (1 << 40) - CHUNK):
            here, there = (
                cloud.read(each, offset, CHUNK)
                for cloud, each in ((regions.north, snapshot_id), (regions.south, copy_id))
            )
            assert here == there

    def test_the_next_copy_of_a_disk_sends_what_has_changed_and_zeros_too(self, regions: TwoRegions):
        disk_id = regions.north.a_disk(size_bytes=4 * MIB)
        regions.north.write(disk_id, (0, os.urandom(4 * MIB)))
        _, whole = copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        regions.north.write(disk_id, (MIB, os.urandom(CHUNK)), (2 * MIB, bytes(CHUNK)))
        second = regions.north.a_disk_snapshot(disk_id)
        copy_id, progress = copy(regions.north, second)
        assert (whole.sent_bytes, progress.sent_bytes) == (4 * MIB, 2 * CHUNK)
        assert regions.south.read(copy_id) == regions.north.read(second)

    def test_a_second_copy_of_the_same_snapshot_sends_nothing_and_is_a_snapshot_of_its_own(
        self, regions: TwoRegions
    ):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, os.urandom(MIB)))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        first, _ = copy(regions.north, snapshot_id)
        second, progress = copy(regions.north, snapshot_id)
        delete(regions.south, first)
        assert (progress.sent_bytes, progress.completed_bytes) == (0, MIB)
        assert regions.south.read(second) == regions.north.read(snapshot_id)

    def test_a_disk_that_grew_since_its_last_copy_is_copied_with_what_it_grew_by(self, regions: TwoRegions):
        disk_id = regions.north.a_disk(size_bytes=MIB)
        regions.north.write(disk_id, (0, os.urandom(MIB)))
        copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        regions.north.resize(disk_id, 3 * MIB)
        regions.north.write(disk_id, (2 * MIB, os.urandom(CHUNK)))
        second = regions.north.a_disk_snapshot(disk_id)
        copy_id, progress = copy(regions.north, second)
        assert progress.sent_bytes == CHUNK
        assert regions.south.read(copy_id) == regions.north.read(second)

    def test_an_older_snapshot_is_copied_after_a_newer_one_that_is_larger(self, regions: TwoRegions):
        disk_id = regions.north.a_disk(size_bytes=MIB)
        regions.north.write(disk_id, (0, b"old"))
        older = regions.north.a_disk_snapshot(disk_id)
        regions.north.resize(disk_id, 2 * MIB)
        regions.north.write(disk_id, (0, b"new"))
        copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        copy_id, _ = copy(regions.north, older)
        assert regions.south.read(copy_id) == regions.north.read(older)

    def test_a_copy_whose_base_is_gone_over_there_is_sent_whole(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, os.urandom(MIB)))
        first, _ = copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        delete(regions.south, first)
        _, progress = copy(regions.north, regions.north.a_disk_snapshot(disk_id))
        assert progress.sent_bytes == MIB


class TestRefusals:
    def test_fails_when_the_snapshot_is_not_there(self, regions: TwoRegions):
        unknown = an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            begin_copy(regions.north, unknown)
        assert refusal.metadata == {"snapshot_id": unknown}

    def test_fails_when_the_region_is_not_known_and_names_those_that_are(self, regions: TwoRegions):
        with refused("NOT_FOUND", "REGION_NOT_FOUND", COMMON) as refusal:
            begin_copy(regions.north, regions.north.a_disk_snapshot(), to="atlantis")
        assert refusal.metadata == {"region": "atlantis", "known_regions": SOUTH}

    def test_fails_when_the_snapshot_is_being_made(self, regions: TwoRegions):
        machine = regions.north.an_instance()
        with Inside(regions.north).snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK) as refusal:
                begin_copy(regions.north, point.members[0].snapshot_id)
        assert refusal.metadata["state"] == "CREATING"

    def test_fails_when_the_other_regions_store_is_full_and_leaves_nothing_there(self, regions: TwoRegions):
        snapshot_id = regions.north.a_disk_snapshot()
        with regions.south.store_fails("create_volume", "full"):
            with refused("RESOURCE_EXHAUSTED", "STORE_FULL", DISK):
                begin_copy(regions.north, snapshot_id)
        assert_nothing_is_left(regions)
        copy(regions.north, snapshot_id)

    def test_fails_when_the_other_region_is_away_and_leaves_nothing_here_nor_there(self, regions: TwoRegions):
        snapshot_id = regions.north.a_disk_snapshot()
        with regions.south.without(Service.DISK):
            with refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"):
                begin_copy(regions.north, snapshot_id)
            # Its undo waits for the other region; whoever wants the snapshot gone need not.
            delete(regions.north, snapshot_id)
        _deletion, undone, _creation = regions.north.operations_on(Service.DISK, snapshot_id)
        assert regions.north.rest(undone.id).state == operation_pb2.Operation.STATE_FAILED
        assert_nothing_is_left(regions)

    @pytest.mark.parametrize("region", [NORTH, "", " ", "r" * 66])
    def test_fails_when_the_region_is_this_one_or_malformed(self, regions: TwoRegions, region: str):
        with invalid("destination_region"):
            begin_copy(regions.north, regions.north.a_disk_snapshot(), to=region)

    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(self, regions: TwoRegions):
        with invalid("request_id", "snapshot_id", "destination_region", "name"):
            begin_copy(regions.north, "", to="", name="n" * 66, request_id="1")


class TestFailures:
    @pytest.mark.parametrize("method", ["write", "seal"])
    def test_a_copy_fails_when_the_other_regions_store_fills_up_and_leaves_nothing_there(
        self, regions: TwoRegions, method: str
    ):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"too much"))
        with regions.south.store_fails(method, "full"):
            answer = begin_copy(regions.north, regions.north.a_disk_snapshot(disk_id))
            operation = regions.north.rest(answer.operation_id)
        assert operation.state == operation_pb2.Operation.STATE_FAILED
        assert operation.error.reason == "STORE_FULL"
        assert_nothing_is_left(regions, answer.copy_snapshot_id)

    def test_a_copy_fails_when_bytes_are_lost_here_and_leaves_nothing_there(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"lost"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        with regions.north.store_fails("read", "lost"):
            answer = begin_copy(regions.north, snapshot_id)
            operation = regions.north.rest(answer.operation_id)
        assert operation.error.reason == "DATA_LOSS"
        assert_nothing_is_left(regions, answer.copy_snapshot_id)

    def test_a_copy_fails_when_what_is_stored_is_not_what_was_sent_twice_in_a_row(self, regions: TwoRegions):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"rotten"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        with regions.south.store_fails("write", "rots"):
            answer = begin_copy(regions.north, snapshot_id)
            operation = regions.north.rest(answer.operation_id)
        assert operation.error.reason == "COPY_DIFFERS"
        assert_nothing_is_left(regions, answer.copy_snapshot_id)

    def test_a_copy_goes_on_when_the_other_region_was_away_for_longer_than_the_deadline_to_begin(
        self, regions: TwoRegions
    ):
        disk_id = regions.north.a_disk()
        regions.north.write(disk_id, (0, b"patience"))
        snapshot_id = regions.north.a_disk_snapshot(disk_id)
        with regions.south.store_fails("write", "broken"):
            answer = begin_copy(regions.north, snapshot_id)
            with regions.south.without(Service.DISK):
                eventually(lambda: lasts_longer_than_the_deadline(regions.north, snapshot_id))
        operation = regions.north.finish(answer.operation_id)
        assert operation.progress.sent_bytes == CHUNK
        assert regions.south.read(answer.copy_snapshot_id, 0, 8) == b"patience"
