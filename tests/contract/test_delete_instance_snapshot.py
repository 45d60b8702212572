"""DeleteInstanceSnapshot of stillpoint.snapshot.v1.InstanceSnapshotService."""

import pytest

from stillpoint.disk.v1 import disk_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from tests.contract.cloud import Cloud, an_unknown_id
from tests.contract.error_tables import DISK, SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused


class TestDeleteInstanceSnapshot:
    def test_deletes_it_with_all_its_members_and_frees_their_slots(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        alone = cloud.a_disk_snapshot(machine.system_disk_id)
        whole, other = (cloud.an_instance_snapshot(machine.id) for _ in range(2))
        cloud.delete_instance_snapshot(whole.id)
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            cloud.instance_snapshot(whole.id)
        for member in whole.members:
            with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
                cloud.disk_snapshot(member.snapshot_id)
        assert cloud.instance_snapshot(other.id) == other
        assert cloud.disk_snapshot(alone).id == alone
        assert cloud.disk(machine.data_disk_ids[0]).manual_snapshots.used == 1

    def test_is_allowed_for_an_account_in_debt(self, cloud: Cloud):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        with cloud.account_in_debt():
            cloud.delete_instance_snapshot(whole.id)
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            cloud.instance_snapshot(whole.id)

    def test_is_allowed_when_the_instance_and_its_disks_are_gone(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.stop(machine.id)
        cloud.delete_instance(machine.id)
        cloud.delete_disk(machine.data_disk_ids[0])
        cloud.delete_instance_snapshot(whole.id)
        assert not cloud.snapshots_of(instance_snapshot_id=whole.id)

    def test_is_allowed_while_an_operation_holds_the_instance_and_its_disks(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance()
        whole = cloud.an_instance_snapshot(machine.id)
        with inside.leased(machine.id), inside.snapshotting(machine.id):
            cloud.delete_instance_snapshot(whole.id)

    def test_leaves_disks_that_were_made_from_its_members(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.write(machine.system_disk_id, (0, b"offspring"))
        whole = cloud.an_instance_snapshot(machine.id)
        made = cloud.a_disk(source_snapshot_id=whole.members[0].snapshot_id)
        cloud.delete_instance_snapshot(whole.id)
        assert cloud.read(made, 0, 9) == b"offspring"

    def test_fails_when_the_instance_snapshot_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            cloud.delete_instance_snapshot(an_unknown_id("isnap"))

    def test_fails_when_it_was_deleted_already(self, cloud: Cloud):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        cloud.delete_instance_snapshot(whole.id)
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            cloud.delete_instance_snapshot(whole.id)

    def test_fails_when_a_disk_is_being_made_from_a_member_and_deletes_none_of_them(
        self, cloud: Cloud, inside: Inside
    ):
        whole = cloud.an_instance_snapshot(cloud.an_instance(data_disks=2).id)
        in_use = whole.members[1].snapshot_id
        with inside.being_made(in_use):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK) as refusal:
                cloud.delete_instance_snapshot(whole.id)
        assert refusal.metadata == {"snapshot_id": in_use}
        assert cloud.instance_snapshot(whole.id).state == (
            instance_snapshot_pb2.InstanceSnapshot.STATE_AVAILABLE
        )
        assert {snapshot.state for snapshot in cloud.snapshots_of(instance_snapshot_id=whole.id)} == {
            disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE
        }
        cloud.delete_instance_snapshot(whole.id)

    def test_fails_when_a_disk_is_being_rolled_back_to_a_member_and_deletes_none_of_them(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        whole = cloud.an_instance_snapshot(machine.id)
        member = whole.members[1]
        with inside.rolling_back((member.disk_id, member.snapshot_id), instance_id=machine.id):
            with refused("FAILED_PRECONDITION", "SNAPSHOT_IN_USE", DISK) as refusal:
                cloud.delete_instance_snapshot(whole.id)
        assert refusal.metadata == {"snapshot_id": member.snapshot_id}
        assert {snapshot.state for snapshot in cloud.snapshots_of(instance_snapshot_id=whole.id)} == {
            disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE
        }
        cloud.delete_instance_snapshot(whole.id)

    def test_fails_when_several_members_are_in_use_and_names_each(self, cloud: Cloud, inside: Inside):
        whole = cloud.an_instance_snapshot(cloud.an_instance(data_disks=2).id)
        in_use = [member.snapshot_id for member in whole.members[:2]]
        with inside.being_made(*in_use):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.delete_instance_snapshot(whole.id)
        assert len(cloud.snapshots_of(instance_snapshot_id=whole.id)) == 3
        assert sorted(refusal.violations) == sorted(
            ("SNAPSHOT_IN_USE", f"snapshot/{snapshot_id}") for snapshot_id in in_use
        )

    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("instance_snapshot_id"):
            cloud.delete_instance_snapshot(malformed)
