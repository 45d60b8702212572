"""stillpoint.disk.v1.DiskService."""

import time
from collections.abc import Iterator

import pytest

from stillpoint.disk.v1 import block_service_pb2, disk_pb2
from stillpoint.disk.v1 import disk_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id, write_message
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused

TIB = 1 << 40


class TestCreateDisk:
    def test_makes_a_detached_data_disk_that_reads_zero(self, cloud: Cloud):
        name = a_name("disk")
        answer = cloud.disks.CreateDisk(pb.CreateDiskRequest(name=name, size_bytes=2 * MIB))
        disk = answer.disk
        assert (disk.name, disk.account_id, disk.size_bytes) == (name, ACCOUNT, 2 * MIB)
        assert (disk.role, disk.state) == (disk_pb2.Disk.ROLE_DATA, disk_pb2.Disk.STATE_DETACHED)
        assert (disk.instance_id, disk.source_snapshot_id, disk.operation_id) == ("", "", "")
        assert disk.manual_snapshots.used == disk.automatic_snapshots.used == 0
        assert min(disk.manual_snapshots.limit, disk.automatic_snapshots.limit) > 0
        assert disk == cloud.disk(disk.id)
        assert cloud.read(disk.id) == bytes(2 * MIB)
        assert cloud.finish(answer.operation_id).resource_id == disk.id

    def test_makes_a_disk_from_a_snapshot_and_the_two_go_their_own_ways(self, cloud: Cloud):
        original = cloud.a_disk(size_bytes=2 * MIB)
        cloud.write(original, (0, b"then"))
        snapshot_id = cloud.a_disk_snapshot(original)
        cloud.write(original, (0, b"now!"))
        copy = cloud.a_disk(source_snapshot_id=snapshot_id)
        assert cloud.disk(copy).size_bytes == 2 * MIB
        assert cloud.disk(copy).source_snapshot_id == snapshot_id
        cloud.write(copy, (2, b"XX"))
        assert cloud.read(copy, 0, 4) == b"thXX"
        assert cloud.read(snapshot_id, 0, 4) == b"then"
        assert cloud.read(original, 0, 4) == b"now!"

    def test_makes_a_larger_disk_from_a_snapshot_which_reads_zero_beyond_it(self, cloud: Cloud):
        original = cloud.a_disk()
        cloud.write(original, (MIB - 4, b"tail"))
        answer = cloud.disks.CreateDisk(
            pb.CreateDiskRequest(
                name=a_name("disk"), source_snapshot_id=cloud.a_disk_snapshot(original), size_bytes=2 * MIB
            )
        )
        assert answer.disk.size_bytes == 2 * MIB
        assert cloud.read(answer.disk.id, MIB - 4) == b"tail" + bytes(MIB)

    @pytest.mark.parametrize("size_bytes", [MIB, MIB + 4096, 64 * TIB])
    def test_takes_sizes_from_1_mib_to_64_tib(self, cloud: Cloud, size_bytes: int):
        assert cloud.disk(cloud.a_disk(size_bytes=size_bytes)).size_bytes == size_bytes

    @pytest.mark.parametrize("name", ["x", "n" * 65, "日" * 65])
    def test_takes_names_of_1_to_65_characters(self, cloud: Cloud, name: str):
        assert cloud.disk(cloud.a_disk(name=name)).name == name

    @pytest.mark.parametrize(
        "size_bytes",
        [0, -1, -4096, 1, 4096, MIB - 1, MIB + 1, MIB + 512, 64 * TIB + 4096, (1 << 63) - 1, -(1 << 63)],
    )
    def test_fails_when_the_size_is_none(self, cloud: Cloud, size_bytes: int):
        with invalid("size_bytes"):
            cloud.disks.CreateDisk(pb.CreateDiskRequest(name="disk", size_bytes=size_bytes))

    @pytest.mark.parametrize("name", ["", "n" * 66, " x", "x ", " ", "\t", "a\nb", "a\x00b", "a\x7fb"])
    def test_fails_when_the_name_is_none(self, cloud: Cloud, name: str):
        with invalid("name"):
            cloud.disks.CreateDisk(pb.CreateDiskRequest(name=name, size_bytes=MIB))

    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(self, cloud: Cloud):
        with invalid("request_id", "name", "size_bytes", "source_snapshot_id"):
            cloud.disks.CreateDisk(
                pb.CreateDiskRequest(request_id="1", size_bytes=-1, source_snapshot_id="SNAP")
            )

    def test_fails_when_the_source_snapshot_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            cloud.a_disk(source_snapshot_id=unknown)
        assert refusal.metadata == {"snapshot_id": unknown}

    def test_fails_when_the_source_snapshot_is_not_available(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK) as refusal:
                cloud.a_disk(source_snapshot_id=point.members[0].snapshot_id)
        assert refusal.metadata["state"] == "CREATING"

    def test_fails_when_the_disk_is_smaller_than_its_source(self, cloud: Cloud):
        snapshot_id = cloud.a_disk_snapshot(cloud.a_disk(size_bytes=2 * MIB))
        with refused("INVALID_ARGUMENT", "SIZE_TOO_SMALL", DISK) as refusal:
            cloud.disks.CreateDisk(
                pb.CreateDiskRequest(name="disk", source_snapshot_id=snapshot_id, size_bytes=MIB)
            )
        assert refusal.metadata == {"snapshot_id": snapshot_id, "size_bytes": str(2 * MIB)}
        assert refusal.fields == ["size_bytes"]


class TestGetDisk:
    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.disk(unknown)
        assert refusal.metadata == {"disk_id": unknown}

    @pytest.mark.parametrize("malformed", ["", "DISK-1", "disk 1", "../disk", "d" * 65])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("disk_id"):
            cloud.disk(malformed)

    def test_shows_the_task_and_its_operation_while_one_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)) as operation_id:
            disk = cloud.disk(disk_id)
        assert (disk.state, disk.operation_id) == (disk_pb2.Disk.STATE_ROLLING_BACK, operation_id)
        assert cloud.disk(disk_id).state == disk_pb2.Disk.STATE_DETACHED

    def test_counts_the_snapshot_slots_that_are_taken(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.a_disk_snapshot(disk_id)
        cloud.a_disk_snapshot(disk_id)
        disk = cloud.disk(disk_id)
        assert (disk.manual_snapshots.used, disk.automatic_snapshots.used) == (2, 0)


class TestListDisks:
    def test_lists_newest_first_and_narrows_by_instance_and_state(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=2)
        assert listed(cloud, machine.id) == sorted(machine.disk_ids, reverse=True)
        assert listed(cloud, machine.id, disk_pb2.Disk.STATE_RUNNING) == [machine.system_disk_id]
        assert set(listed(cloud, machine.id, disk_pb2.Disk.STATE_MOUNTED)) == set(machine.data_disk_ids)
        assert listed(cloud, machine.id, disk_pb2.Disk.STATE_DETACHED) == []
        with inside.snapshotting(machine.id):
            assert set(listed(cloud, machine.id, disk_pb2.Disk.STATE_SNAPSHOTTING)) == set(machine.disk_ids)
            assert listed(cloud, machine.id, disk_pb2.Disk.STATE_MOUNTED) == []

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListDisksRequest(page_size=-1), "page_size"),
            (
                pb.ListDisksRequest(filter=pb.ListDisksRequest.Filter(instance_id="No Id")),
                "filter.instance_id",
            ),
        ],
    )
    def test_fails_when_page_size_is_negative_or_a_filter_value_malformed(
        self, cloud: Cloud, request_: pb.ListDisksRequest, field: str
    ):
        with invalid(field):
            cloud.disks.ListDisks(request_)


class TestResizeDisk:
    def test_makes_a_detached_disk_larger_and_the_new_part_reads_zero(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (MIB - 4, b"tail"))
        cloud.a_disk_snapshot(disk_id)
        before = cloud.disk(disk_id)
        answer = cloud.disks.ResizeDisk(pb.ResizeDiskRequest(disk_id=disk_id, size_bytes=3 * MIB))
        assert answer.disk == cloud.disk(disk_id)
        assert (answer.disk.size_bytes, answer.disk.operation_id) == (3 * MIB, "")
        assert answer.disk.manual_snapshots == before.manual_snapshots
        assert cloud.finish(answer.operation_id).resource_id == disk_id
        assert cloud.read(disk_id, MIB - 4) == b"tail" + bytes(2 * MIB)
        cloud.write(disk_id, (3 * MIB - 3, b"end"))
        assert cloud.read(disk_id, 3 * MIB - 3) == b"end"

    @pytest.mark.parametrize("stopped", [False, True])
    def test_makes_attached_disks_larger_and_leaves_them_where_they_are(self, cloud: Cloud, stopped: bool):
        machine = cloud.an_instance(data_disks=1, stopped=stopped)
        for disk_id in machine.disk_ids:
            before = cloud.disk(disk_id)
            disk = cloud.resize(disk_id, 2 * MIB)
            assert (disk.state, disk.instance_id) == (before.state, machine.id)
            assert disk.size_bytes == 2 * MIB

    @pytest.mark.parametrize("size_bytes", [MIB + 4096, 64 * TIB])
    def test_takes_sizes_up_to_64_tib(self, cloud: Cloud, size_bytes: int):
        assert cloud.resize(cloud.a_disk(), size_bytes).size_bytes == size_bytes

    def test_does_not_end_a_stream_that_is_open_which_may_then_write_to_the_new_part(self, cloud: Cloud):
        disk_id = cloud.a_disk()

        def messages() -> Iterator[block_service_pb2.WriteBlocksRequest]:
            yield write_message(disk_id, (0, b"before"))
            cloud.resize(disk_id, 2 * MIB)
            yield write_message(disk_id, (2 * MIB - 5, b"after"))

        assert list(cloud.blocks.WriteBlocks(messages()))[-1].messages_durable == 2
        assert cloud.read(disk_id, 2 * MIB - 5) == b"after"

    def test_leaves_snapshots_their_size_and_new_ones_have_the_new_size(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        earlier = cloud.a_disk_snapshot(disk_id)
        cloud.resize(disk_id, 2 * MIB)
        assert cloud.disk_snapshot(earlier).size_bytes == MIB
        assert cloud.disk(cloud.a_disk(source_snapshot_id=earlier)).size_bytes == MIB
        later = cloud.a_disk_snapshot(disk_id)
        assert cloud.disk_snapshot(later).size_bytes == 2 * MIB
        assert len(cloud.read(later)) == 2 * MIB

    def test_is_kept_by_a_rollback_to_an_earlier_instance_snapshot_beyond_which_the_disk_reads_zero(
        self, cloud: Cloud
    ):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (MIB - 4, b"then"))
        whole = cloud.an_instance_snapshot(machine.id)
        for disk_id in machine.disk_ids:
            cloud.resize(disk_id, 2 * MIB)
            cloud.write(disk_id, (MIB - 4, b"now!grown"), (2 * MIB - 4, b"end!"))
        cloud.roll_back(whole.id)
        for disk_id in machine.disk_ids:
            assert cloud.disk(disk_id).size_bytes == 2 * MIB
            assert cloud.read(disk_id, MIB - 4) == b"then" + bytes(MIB)

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.resize(unknown, 2 * MIB)
        assert refusal.metadata == {"disk_id": unknown}

    @pytest.mark.parametrize("size_bytes", [MIB, 2 * MIB - 4096, 2 * MIB])
    def test_fails_when_the_disk_has_that_size_already_or_more(self, cloud: Cloud, size_bytes: int):
        disk_id = cloud.a_disk(size_bytes=2 * MIB)
        with refused("FAILED_PRECONDITION", "SIZE_NOT_LARGER", DISK) as refusal:
            cloud.resize(disk_id, size_bytes)
        assert refusal.metadata == {"disk_id": disk_id, "size_bytes": str(2 * MIB)}
        assert refusal.violations == [("SIZE_NOT_LARGER", f"disk/{disk_id}")]
        assert cloud.disk(disk_id).size_bytes == 2 * MIB

    def test_fails_when_an_operation_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                cloud.resize(machine.system_disk_id, 2 * MIB)
        assert refusal.metadata["state"] == "SNAPSHOTTING"
        assert cloud.disk(machine.system_disk_id).size_bytes == MIB

    def test_fails_when_the_disk_is_busy_and_as_large_and_says_both(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.resize(machine.system_disk_id, MIB)
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "SIZE_NOT_LARGER"}

    @pytest.mark.parametrize("size_bytes", [0, -1, 1, 2 * MIB + 512, 64 * TIB + 4096, (1 << 63) - 1])
    def test_fails_when_the_size_is_none(self, cloud: Cloud, size_bytes: int):
        with invalid("size_bytes"):
            cloud.resize(cloud.a_disk(), size_bytes)


class TestRollbackDisk:
    def test_brings_a_detached_disk_back_to_its_snapshot_which_stays(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (0, b"then"))
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        for _ in range(2):
            cloud.write(disk_id, (0, b"now!"), (90000, b"later"))
            answer = cloud.disks.RollbackDisk(
                pb.RollbackDiskRequest(disk_id=disk_id, snapshot_id=snapshot_id)
            )
            assert answer.disk == cloud.disk(disk_id)
            assert (answer.disk.state, answer.disk.operation_id) == (disk_pb2.Disk.STATE_DETACHED, "")
            assert answer.disk.manual_snapshots.used == 1
            assert cloud.finish(answer.operation_id).resource_id == disk_id
            assert cloud.read(disk_id, 0, 4) == b"then"
            assert cloud.read(disk_id, 90000, 5) == bytes(5)
        cloud.write(disk_id, (0, b"anew"))
        assert cloud.read(snapshot_id, 0, 4) == b"then"

    def test_goes_to_any_of_its_snapshots_and_leaves_the_newer_ones(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        snapshot_ids = []
        for number in (b"0", b"1", b"2"):
            cloud.write(disk_id, (0, number))
            snapshot_ids.append(cloud.a_disk_snapshot(disk_id))
        for which in (1, 0, 2):
            cloud.roll_back_disk(disk_id, snapshot_ids[which])
            assert cloud.read(disk_id, 0, 1) == b"%d" % which

    def test_goes_to_a_member_and_leaves_the_other_disks_and_the_instance_snapshot(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2, stopped=True)
        rolled, other = machine.data_disk_ids
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (0, b"then"))
        whole = cloud.an_instance_snapshot(machine.id)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (0, b"now!"))
        [member] = [member for member in whole.members if member.disk_id == rolled]
        cloud.detach(machine.id, rolled)
        with cloud.account_in_debt():
            cloud.roll_back_disk(rolled, member.snapshot_id)
        assert cloud.read(rolled, 0, 4) == b"then"
        assert cloud.read(other, 0, 4) == cloud.read(machine.system_disk_id, 0, 4) == b"now!"
        assert cloud.instance_snapshot(whole.id) == whole
        cloud.roll_back(whole.id)
        assert cloud.read(other, 0, 4) == b"then"

    def test_keeps_the_size_of_a_disk_that_grew_since_which_reads_zero_beyond_the_snapshot(
        self, cloud: Cloud
    ):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (MIB - 4, b"then"))
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        cloud.resize(disk_id, 2 * MIB)
        cloud.write(disk_id, (MIB - 4, b"now!grown"), (2 * MIB - 4, b"end!"))
        assert cloud.roll_back_disk(disk_id, snapshot_id).size_bytes == 2 * MIB
        assert cloud.read(disk_id, MIB - 4) == b"then" + bytes(MIB)
        cloud.write(disk_id, (2 * MIB - 4, b"anew"))
        assert cloud.read(disk_id, 2 * MIB - 4) == b"anew"

    def test_ends_the_streams_that_write_to_the_disk(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)

        def messages() -> Iterator[block_service_pb2.WriteBlocksRequest]:
            yield write_message(disk_id, (0, b"before"))
            while cloud.read(disk_id, 0, 6) != b"before":
                time.sleep(0.01)
            cloud.roll_back_disk(disk_id, snapshot_id)
            yield write_message(disk_id, (0, b"after!"))

        with refused("ABORTED", "WRITER_FENCED", DISK):
            list(cloud.blocks.WriteBlocks(messages()))
        assert cloud.read(disk_id, 0, 6) == bytes(6)

    def test_fails_when_the_disk_is_not_there_though_its_snapshot_is(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        cloud.delete_disk(disk_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.roll_back_disk(disk_id, snapshot_id)
        assert refusal.metadata == {"disk_id": disk_id}

    def test_fails_when_the_snapshot_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            cloud.roll_back_disk(cloud.a_disk(), unknown)
        assert refusal.metadata == {"snapshot_id": unknown}

    def test_fails_when_the_snapshot_is_of_another_disk(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (0, b"stays"))
        snapshot_id = cloud.a_disk_snapshot()
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            cloud.roll_back_disk(disk_id, snapshot_id)
        assert disk_id in refusal.message
        assert cloud.read(disk_id, 0, 5) == b"stays"

    @pytest.mark.parametrize(("which", "state"), [(0, "RUNNING"), (1, "MOUNTED")])
    def test_fails_when_the_disk_is_not_detached(self, cloud: Cloud, which: int, state: str):
        disk_id = cloud.an_instance(data_disks=1, stopped=True).disk_ids[which]
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            cloud.roll_back_disk(disk_id, snapshot_id)
        assert refusal.metadata == {"disk_id": disk_id, "state": state}
        assert refusal.message.endswith("it must be DETACHED")

    def test_fails_when_an_operation_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)) as operation_id:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                cloud.roll_back_disk(disk_id, snapshot_id)
        assert refusal.metadata["operation_id"] == operation_id

    def test_fails_when_the_snapshot_is_not_available_and_the_disk_is_busy_and_attached_and_says_all(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.roll_back_disk(machine.system_disk_id, point.members[0].snapshot_id)
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "DISK_STATE", "SNAPSHOT_STATE"}

    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_an_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("disk_id", "snapshot_id"):
            cloud.roll_back_disk(malformed, malformed)


class TestDeleteDisk:
    def test_deletes_a_detached_disk_whose_snapshots_stay_and_become_new_disks(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (4096, b"outlives its disk"))
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        answer = cloud.disks.DeleteDisk(pb.DeleteDiskRequest(disk_id=disk_id))
        cloud.finish(answer.operation_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.disk(disk_id)
        assert cloud.disk_snapshot(snapshot_id).disk_id == disk_id
        assert cloud.read(snapshot_id, 4096, 17) == b"outlives its disk"
        assert cloud.read(cloud.a_disk(source_snapshot_id=snapshot_id), 4096, 17) == b"outlives its disk"

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.delete_disk(an_unknown_id("disk"))

    def test_fails_when_the_disk_is_gone_already(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.delete_disk(disk_id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.delete_disk(disk_id)

    @pytest.mark.parametrize(("which", "state"), [(0, "RUNNING"), (1, "MOUNTED")])
    def test_fails_when_the_disk_is_not_detached(self, cloud: Cloud, which: int, state: str):
        disk_id = cloud.an_instance(data_disks=1).disk_ids[which]
        with refused("FAILED_PRECONDITION", "DISK_STATE", DISK) as refusal:
            cloud.delete_disk(disk_id)
        assert refusal.metadata == {"disk_id": disk_id, "state": state}
        assert cloud.disk(disk_id).id == disk_id

    def test_fails_when_an_operation_works_on_the_disk(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)) as operation_id:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                cloud.delete_disk(disk_id)
        assert refusal.metadata == {
            "disk_id": disk_id,
            "state": "ROLLING_BACK",
            "operation_id": operation_id,
        }
        assert refusal.violations == [("DISK_BUSY", f"disk/{disk_id}")]

    def test_fails_when_the_disk_is_mounted_and_has_a_task_and_says_both(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=1)
        with inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.delete_disk(machine.data_disk_ids[0])
        assert {kind for kind, _ in refusal.violations} == {"DISK_BUSY", "DISK_STATE"}

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("disk_id"):
            cloud.delete_disk("")


def listed(
    cloud: Cloud,
    instance_id: str,
    state: "disk_pb2.Disk.State.ValueType" = disk_pb2.Disk.STATE_UNSPECIFIED,
) -> list[str]:
    request = pb.ListDisksRequest(filter=pb.ListDisksRequest.Filter(instance_id=instance_id, state=state))
    return [disk.id for disk in cloud.disks.ListDisks(request).disks]
