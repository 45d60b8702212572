"""Names, descriptions and labels: given when something is made, and changed with the Update RPCs."""

import pytest

from stillpoint.disk.v1 import disk_pb2, disk_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from tests.contract.cloud import Cloud, a_name
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.resources import (
    A_DISK,
    DISK_SNAPSHOT,
    INSTANCE,
    INSTANCE_SNAPSHOT,
    RESOURCES,
    Resource,
)
from tests.contract.troubled import TroubledCloud

each_resource = pytest.mark.parametrize("resource", RESOURCES, ids=str)

LABELS = {"team": "storage", "example.org/tier_1": "Gold-1.0/a_b", "empty": ""}


class TestMakingOne:
    @each_resource
    def test_keeps_its_name_description_and_labels(self, cloud: Cloud, resource: Resource):
        name = a_name("described")
        made = resource.make(cloud, name=name, description="Two\nlines, 日本.", labels=LABELS)
        assert (made.name, made.description, made.labels) == (name, "Two\nlines, 日本.", LABELS)
        assert made == resource.get(cloud, made.id)

    @each_resource
    def test_has_neither_description_nor_labels_unless_asked_for(self, cloud: Cloud, resource: Resource):
        made = resource.make(cloud)
        assert (made.description, made.labels) == ("", {})

    @each_resource
    def test_takes_256_characters_and_16_labels(self, cloud: Cloud, resource: Resource):
        labels = {f"k{number:02}".ljust(63, "x"): "v" * 63 for number in range(16)}
        made = resource.make(cloud, description="日" * 256, labels=labels)
        assert (made.description, made.labels) == ("日" * 256, labels)

    @each_resource
    def test_fails_when_name_description_and_labels_are_malformed_and_names_all_three(
        self, cloud: Cloud, resource: Resource
    ):
        labels = {"Upper": "", "fine": "not fine"}
        with invalid("name", "description", "labels") as refusal:
            resource.make(cloud, name="1st", description="d" * 257, labels=labels)
        assert refusal.fields.count("labels") == 2
        assert "'Upper'" in refusal.message
        assert "'fine'" in refusal.message

    @each_resource
    @pytest.mark.parametrize("name", ["1st", "-x", "a:b", "a🙂", "a\tb", "a "])
    def test_fails_when_the_name_is_none(self, cloud: Cloud, resource: Resource, name: str):
        with invalid("name"):
            resource.make(cloud, name=name)

    @each_resource
    def test_fails_when_there_are_17_labels(self, cloud: Cloud, resource: Resource):
        with invalid("labels"):
            resource.make(cloud, labels={f"k{number}": "" for number in range(17)})

    def test_makes_names_that_may_be_given(self, cloud: Cloud):
        name = f"{'n' * 47} {'n' * 9} {'n' * 7}"
        assert len(name) == 65
        machine = INSTANCE.make(cloud, name=name)
        disk_id = machine.system_disk_id
        made = [
            INSTANCE_SNAPSHOT.make(cloud, name="", instance_id=machine.id),
            DISK_SNAPSHOT.make(cloud, name="", disk_id=cloud.a_disk(name=name)),
        ]
        for resource, one in zip((INSTANCE_SNAPSHOT, DISK_SNAPSHOT), made, strict=True):
            assert resource.update(cloud, {"id": one.id, "name": one.name}).name == one.name
        assert A_DISK.update(cloud, {"id": disk_id, "name": cloud.disk(disk_id).name}).id == disk_id

    def test_gives_the_disks_of_an_instance_and_the_members_of_its_snapshot_none_of_it(self, cloud: Cloud):
        machine = INSTANCE.make(cloud, description="d", labels=LABELS)
        whole = INSTANCE_SNAPSHOT.make(cloud, instance_id=machine.id, description="d", labels=LABELS)
        [member] = whole.members
        snapshot, disk = cloud.disk_snapshot(member.snapshot_id), cloud.disk(machine.system_disk_id)
        assert snapshot.name == whole.name
        for found in (snapshot, disk):
            assert (found.description, dict(found.labels)) == ("", {})

    def test_shows_them_when_an_instance_snapshot_is_only_validated(self, cloud: Cloud):
        request = pb.CreateInstanceSnapshotRequest(
            instance_id=cloud.an_instance().id, description="d", labels=LABELS, validate_only=True
        )
        would_be = cloud.instance_snapshots.CreateInstanceSnapshot(request).instance_snapshot
        assert (would_be.description, dict(would_be.labels)) == ("d", LABELS)


class TestUpdate:
    @each_resource
    def test_changes_what_the_mask_names_and_nothing_else(self, cloud: Cloud, resource: Resource):
        made = resource.make(cloud, description="before", labels=LABELS)
        wanted = {"id": made.id, "name": "After", "description": "not asked for", "labels": {"not": "asked"}}
        changed = resource.update(cloud, wanted, "name")
        assert changed == resource.get(cloud, made.id)
        assert (changed.name, changed.description, changed.labels) == ("After", "before", LABELS)
        assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
        made.name = changed.name
        made.update_time.CopyFrom(changed.update_time)
        assert made == changed
        assert cloud.events_of(resource.service, made.id)[-1] == f"update_{resource}"

    @each_resource
    def test_changes_without_a_mask_what_is_set(self, cloud: Cloud, resource: Resource):
        made = resource.make(cloud, description="before", labels=LABELS)
        changed = resource.update(cloud, {"id": made.id, "description": "after"})
        assert (changed.name, changed.description, changed.labels) == (made.name, "after", LABELS)

    @each_resource
    def test_replaces_labels_as_a_whole_and_takes_away_what_the_mask_names_and_the_message_has_not(
        self, cloud: Cloud, resource: Resource
    ):
        made = resource.make(cloud, description="before", labels=LABELS)
        assert resource.update(cloud, {"id": made.id, "labels": {"a": "1"}}).labels == {"a": "1"}
        bare = resource.update(cloud, {"id": made.id}, "labels", "description")
        assert (bare.name, bare.description, bare.labels) == (made.name, "", {})

    @each_resource
    def test_ignores_output_only_fields(self, cloud: Cloud, resource: Resource):
        made = resource.make(cloud)
        wanted = type(made)()
        wanted.CopyFrom(made)
        wanted.name, wanted.region, wanted.account_id, wanted.state = "After", "elsewhere", "another", 0
        wanted.create_time.Clear()
        changed = resource.update(cloud, wanted)
        assert (changed.name, changed.region, changed.state) == ("After", made.region, made.state)
        assert changed.create_time == made.create_time

    @each_resource
    @pytest.mark.parametrize("path", ["state", "id", "create_time", "colour", "labels.team", "*", " "])
    def test_fails_when_the_mask_has_a_path_that_cannot_be_changed_and_names_it(
        self, cloud: Cloud, resource: Resource, path: str
    ):
        made = resource.make(cloud)
        with invalid("update_mask") as refusal:
            resource.update(cloud, {"id": made.id, "name": "After"}, "name", path)
        assert repr(path) in refusal.message
        assert resource.get(cloud, made.id) == made

    @each_resource
    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(
        self, cloud: Cloud, resource: Resource
    ):
        made = resource.make(cloud)
        fields = [f"{resource.field}.{name}" for name in ("name", "description", "labels")]
        with invalid("update_mask", *fields):
            resource.update(
                cloud,
                {"id": made.id, "description": "d" * 257, "labels": {"": ""}},
                *("state", "name", "description", "labels"),
            )
        assert resource.get(cloud, made.id) == made

    @each_resource
    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, resource: Resource, malformed: str):
        with invalid(f"{resource.field}.id"):
            resource.update(cloud, {"id": malformed, "name": "After"})

    @each_resource
    def test_fails_when_it_is_not_there(self, cloud: Cloud, resource: Resource):
        with refused(*resource.not_found):
            resource.update(cloud, {"id": resource.unknown_id(), "name": "After"})

    @each_resource
    def test_fails_when_it_was_deleted(self, cloud: Cloud, resource: Resource):
        made = resource.make(cloud)
        resource.delete(cloud, made.id)
        with refused(*resource.not_found):
            resource.update(cloud, {"id": made.id, "name": "After"})

    def test_changes_an_instance_that_an_operation_holds(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.leased(machine.id) as operation_id:
            changed = INSTANCE.update(cloud, {"id": machine.id, "name": "After"})
            assert (changed.name, changed.operation_id) == ("After", operation_id)

    def test_changes_a_disk_and_a_snapshot_that_an_operation_works_on(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id) as point:
            disk = A_DISK.update(cloud, {"id": machine.system_disk_id, "name": "After"})
            assert (disk.name, disk.state) == ("After", disk_pb2.Disk.STATE_SNAPSHOTTING)
            snapshot_id = point.members[0].snapshot_id
            snapshot = DISK_SNAPSHOT.update(cloud, {"id": snapshot_id, "labels": LABELS})
            assert (snapshot.labels, snapshot.state) == (
                LABELS,
                disk_snapshot_pb2.DiskSnapshot.STATE_CREATING,
            )

    def test_changes_an_instance_snapshot_that_an_operation_works_on(self, troubled: TroubledCloud):
        whole = troubled.an_instance_snapshot(troubled.an_instance(stopped=True).id)
        with troubled.store_fails("restore", "broken"):
            rollback = troubled.instance_snapshots.RollbackInstanceSnapshot(
                pb.RollbackInstanceSnapshotRequest(instance_snapshot_id=whole.id)
            )
            changed = INSTANCE_SNAPSHOT.update(troubled, {"id": whole.id, "name": "After"})
            assert changed.state == instance_snapshot_pb2.InstanceSnapshot.STATE_ROLLING_BACK
        troubled.finish(rollback.operation_id)
        assert troubled.instance_snapshot(whole.id).name == "After"

    def test_changes_a_member_and_leaves_its_instance_snapshot_and_the_other_way_round(self, cloud: Cloud):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        member_id = whole.members[0].snapshot_id
        changed = DISK_SNAPSHOT.update(cloud, {"id": member_id, "name": "Member"})
        assert (changed.name, changed.instance_snapshot_id) == ("Member", whole.id)
        assert cloud.instance_snapshot(whole.id) == whole
        INSTANCE_SNAPSHOT.update(cloud, {"id": whole.id, "name": "Whole"})
        assert cloud.disk_snapshot(member_id) == changed
