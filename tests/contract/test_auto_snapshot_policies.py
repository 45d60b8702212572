"""stillpoint.disk.v1.AutoSnapshotPolicyService: what policies are. What they do is in test_policies_at_work.py."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.disk.v1 import auto_snapshot_policy_pb2 as weekdays
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as pb
from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, Cloud, a_name, an_unknown_id
from tests.contract.error_tables import DISK
from tests.contract.refusals import invalid, refused

MONDAY, SUNDAY = weekdays.WEEKDAY_MONDAY, weekdays.WEEKDAY_SUNDAY


def update(cloud: Cloud, policy_id: str, *paths: str, **settings: Any) -> AutoSnapshotPolicy:
    request = pb.UpdateAutoSnapshotPolicyRequest(
        policy=AutoSnapshotPolicy(id=policy_id, **settings), update_mask=FieldMask(paths=paths)
    )
    return cloud.policies.UpdateAutoSnapshotPolicy(request).policy


def delete(cloud: Cloud, policy_id: str) -> None:
    cloud.policies.DeleteAutoSnapshotPolicy(pb.DeleteAutoSnapshotPolicyRequest(policy_id=policy_id))


def moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)


malformed = pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"name": ""}, ["policy.name"]),
        ({"name": "n" * 66}, ["policy.name"]),
        ({"weekdays": []}, ["policy.weekdays"]),
        ({"weekdays": [MONDAY, MONDAY]}, ["policy.weekdays"]),
        ({"weekdays": [weekdays.WEEKDAY_UNSPECIFIED]}, ["policy.weekdays"]),
        ({"weekdays": [8]}, ["policy.weekdays"]),
        ({"hours": []}, ["policy.hours"]),
        ({"hours": [24]}, ["policy.hours"]),
        ({"hours": [-1]}, ["policy.hours"]),
        ({"hours": [3, 3]}, ["policy.hours"]),
        ({"time_zone": "Mars/Olympus"}, ["policy.time_zone"]),
        ({"time_zone": "/etc/localtime"}, ["policy.time_zone"]),
        ({"retention_days": 0}, ["policy.retention_days"]),
        ({"retention_days": 65536}, ["policy.retention_days"]),
        ({"retention_count": 0}, ["policy.retention_count"]),
        ({"retention_count": 257}, ["policy.retention_count"]),
        ({"disk_ids": ["No Id"]}, ["policy.disk_ids"]),
        ({"disk_ids": ["disk-1", "disk-1"]}, ["policy.disk_ids"]),
        ({"disk_ids": [f"disk-{number}" for number in range(101)]}, ["policy.disk_ids"]),
        ({"name": " ", "hours": [99], "time_zone": "x"}, ["policy.name", "policy.hours", "policy.time_zone"]),
    ],
)


class TestCreateAutoSnapshotPolicy:
    def test_answers_the_policy_with_its_next_slot(self, cloud: Cloud):
        name, disks = a_name("policy"), [cloud.a_disk(), cloud.a_disk()]
        policy = cloud.a_policy(
            *disks,
            name=name,
            weekdays=[SUNDAY, MONDAY],
            hours=[14, 2],
            time_zone="Asia/Shanghai",
            retention_count=7,
        )
        assert policy.id.startswith("asp-")
        assert (policy.name, policy.account_id) == (name, ACCOUNT)
        assert policy.region == cloud.disk(disks[0]).region
        assert (list(policy.weekdays), list(policy.hours)) == ([MONDAY, SUNDAY], [2, 14])
        assert policy.time_zone == "Asia/Shanghai"
        assert policy.WhichOneof("retention") == "retention_count"
        assert policy.retention_count == 7
        assert list(policy.disk_ids) == sorted(disks)
        assert not policy.results
        now, upcoming = datetime.now(UTC), moment(policy.next_slot_time)
        assert now < upcoming <= now + timedelta(days=6)
        local = upcoming.astimezone(ZoneInfo("Asia/Shanghai"))
        assert local.isoweekday() in (MONDAY, SUNDAY)
        assert (local.hour, local.minute, local.second) in ((2, 0, 0), (14, 0, 0))
        assert cloud.policy(policy.id) == policy

    def test_without_time_zone_retention_and_disks_it_is_utc_keeps_everything_and_does_nothing_yet(
        self, cloud: Cloud
    ):
        policy = cloud.a_policy(time_zone="")
        assert policy.time_zone == "UTC"
        assert policy.WhichOneof("retention") is None
        assert not policy.disk_ids
        assert moment(policy.next_slot_time).hour == 2

    def test_a_disk_may_be_in_several_policies(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        policies = {cloud.a_policy(disk_id).id for _ in range(2)}
        listed = cloud.policies.ListAutoSnapshotPolicies(
            pb.ListAutoSnapshotPoliciesRequest(
                filter=pb.ListAutoSnapshotPoliciesRequest.Filter(disk_id=disk_id)
            )
        )
        assert {policy.id for policy in listed.policies} == policies

    def test_takes_the_disks_of_instances(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        assert list(cloud.a_policy(*machine.disk_ids).disk_ids) == sorted(machine.disk_ids)

    def test_ignores_what_is_output_only(self, cloud: Cloud):
        policy = cloud.a_policy(id="asp-mine", account_id="another", region="elsewhere")
        assert policy.id != "asp-mine"
        assert policy.account_id == ACCOUNT

    @malformed
    def test_fails_when_a_field_is_malformed(self, cloud: Cloud, settings: Any, fields: list[str]):
        with invalid(*fields):
            cloud.a_policy(**settings)

    def test_fails_when_the_policy_is_not_set(self, cloud: Cloud):
        with invalid("policy.name", "policy.weekdays", "policy.hours"):
            cloud.policies.CreateAutoSnapshotPolicy(pb.CreateAutoSnapshotPolicyRequest())

    def test_fails_when_a_disk_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            cloud.a_policy(cloud.a_disk(), unknown)
        assert refusal.metadata == {"disk_id": unknown}

    def test_fails_when_several_disks_are_not_there_and_names_all_of_them(self, cloud: Cloud):
        unknown = [an_unknown_id("disk") for _ in range(3)]
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            cloud.a_policy(cloud.a_disk(), *unknown)
        assert sorted(refusal.violations) == sorted(("DISK_NOT_FOUND", f"disk/{each}") for each in unknown)

    def test_is_in_the_events_of_the_policy(self, cloud: Cloud):
        assert cloud.events_of(Service.DISK, cloud.a_policy().id) == ["create_auto_snapshot_policy"]


class TestGetAutoSnapshotPolicy:
    def test_fails_when_the_policy_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("asp")
        with refused("NOT_FOUND", "AUTO_SNAPSHOT_POLICY_NOT_FOUND", DISK) as refusal:
            cloud.policy(unknown)
        assert refusal.metadata == {"policy_id": unknown}

    @pytest.mark.parametrize("id_", ["", "Asp", "asp/1"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, id_: str):
        with invalid("policy_id"):
            cloud.policy(id_)


class TestListAutoSnapshotPolicies:
    def test_lists_newest_first_and_narrows_by_disk(self, cloud: Cloud):
        disk_id, other = cloud.a_disk(), cloud.a_disk()
        first, second = cloud.a_policy(disk_id, other), cloud.a_policy(disk_id)
        of_disk = pb.ListAutoSnapshotPoliciesRequest.Filter(disk_id=disk_id)
        listed = cloud.policies.ListAutoSnapshotPolicies(
            pb.ListAutoSnapshotPoliciesRequest(filter=of_disk)
        ).policies
        assert list(listed) == [second, first]
        newest = cloud.policies.ListAutoSnapshotPolicies(pb.ListAutoSnapshotPoliciesRequest(page_size=2))
        assert list(newest.policies) == [second, first]
        assert newest.next_page_token

    def test_fails_when_the_filter_is_malformed(self, cloud: Cloud):
        with invalid("filter.disk_id"):
            cloud.policies.ListAutoSnapshotPolicies(
                pb.ListAutoSnapshotPoliciesRequest(
                    filter=pb.ListAutoSnapshotPoliciesRequest.Filter(disk_id="No Id")
                )
            )


class TestUpdateAutoSnapshotPolicy:
    def test_changes_what_the_mask_names_and_nothing_else(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        before = cloud.a_policy(disk_id, retention_days=3)
        name = a_name("policy")
        after = update(cloud, before.id, "name", name=name, hours=[7], weekdays=[MONDAY])
        expected = AutoSnapshotPolicy()
        expected.CopyFrom(before)
        expected.name = name
        expected.update_time.CopyFrom(after.update_time)
        assert after == expected == cloud.policy(before.id)
        assert moment(after.update_time) > moment(before.update_time)

    def test_without_a_mask_changes_what_is_set(self, cloud: Cloud):
        before = cloud.a_policy(cloud.a_disk(), retention_count=3)
        after = update(cloud, before.id, retention_days=9)
        assert after.WhichOneof("retention") == "retention_days"
        assert (after.retention_days, after.name) == (9, before.name)
        assert after.disk_ids == before.disk_ids
        assert after.next_slot_time == before.next_slot_time

    @pytest.mark.parametrize("path", ["retention_days", "retention_count"])
    def test_either_path_of_a_retention_makes_it_what_the_policy_has(self, cloud: Cloud, path: str):
        policy_id = cloud.a_policy(retention_count=3).id
        assert update(cloud, policy_id, path, retention_days=4).retention_days == 4
        assert update(cloud, policy_id, path, retention_count=5).retention_count == 5
        assert update(cloud, policy_id, path).WhichOneof("retention") is None

    @pytest.mark.parametrize("path", ["retention_days", "retention_count"])
    def test_fails_when_the_retention_is_malformed_whichever_path_names_it(self, cloud: Cloud, path: str):
        policy_id = cloud.a_policy().id
        with invalid("policy.retention_count"):
            update(cloud, policy_id, path, retention_count=1000)

    def test_says_what_is_wrong_once_and_of_a_day_its_name(self, cloud: Cloud):
        policy_id = cloud.a_policy().id
        wrong = {"retention_count": 300, "weekdays": [MONDAY, MONDAY, MONDAY]}
        with invalid("policy.retention_count", "policy.weekdays") as refusal:
            update(cloud, policy_id, "retention_days", "retention_count", "weekdays", **wrong)
        assert sorted(refusal.fields) == ["policy.retention_count", "policy.weekdays"]
        assert "policy.weekdays has Monday more than once" in refusal.message

    def test_replaces_the_disks_and_a_mask_takes_all_away(self, cloud: Cloud):
        first, second, third = (cloud.a_disk() for _ in range(3))
        policy_id = cloud.a_policy(first, second).id
        assert list(update(cloud, policy_id, disk_ids=[third, second]).disk_ids) == [second, third]
        assert not update(cloud, policy_id, "disk_ids").disk_ids

    def test_another_schedule_has_another_next_slot(self, cloud: Cloud):
        policy = cloud.a_policy(hours=[2])
        assert moment(update(cloud, policy.id, hours=[5]).next_slot_time).hour == 5
        assert moment(update(cloud, policy.id, time_zone="Asia/Tokyo").next_slot_time).hour == 20
        sundays = update(cloud, policy.id, "weekdays", "time_zone", weekdays=[SUNDAY])
        assert sundays.time_zone == "UTC"
        assert moment(sundays.next_slot_time).isoweekday() == SUNDAY

    @malformed
    def test_fails_when_a_field_that_the_mask_names_is_malformed(
        self, cloud: Cloud, settings: Any, fields: list[str]
    ):
        policy = cloud.a_policy()
        with invalid(*fields):
            update(cloud, policy.id, *(field.partition(".")[2] for field in fields), **settings)
        assert cloud.policy(policy.id) == policy

    @pytest.mark.parametrize("path", ["id", "results", "next_slot_time", "policy.name", "nothing"])
    def test_fails_when_the_mask_has_what_cannot_be_changed(self, cloud: Cloud, path: str):
        policy_id = cloud.a_policy().id
        with invalid("update_mask"):
            update(cloud, policy_id, "name", path, name="other")

    @pytest.mark.parametrize("id_", ["", "No Id"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, id_: str):
        with invalid("policy.id"):
            update(cloud, id_, name="other")

    def test_fails_when_the_policy_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "AUTO_SNAPSHOT_POLICY_NOT_FOUND", DISK):
            update(cloud, an_unknown_id("asp"), name="other")

    def test_fails_when_a_disk_is_not_there(self, cloud: Cloud):
        policy, unknown = cloud.a_policy(cloud.a_disk()), an_unknown_id("disk")
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
            update(cloud, policy.id, name="other", disk_ids=[unknown])
        assert refusal.metadata == {"disk_id": unknown}
        assert cloud.policy(policy.id) == policy

    def test_fails_when_several_disks_are_not_there_and_names_all_of_them(self, cloud: Cloud):
        policy, unknown = cloud.a_policy(), [an_unknown_id("disk") for _ in range(2)]
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            update(cloud, policy.id, disk_ids=unknown)
        assert sorted(refusal.violations) == sorted(("DISK_NOT_FOUND", f"disk/{each}") for each in unknown)


class TestDeleteAutoSnapshotPolicy:
    def test_deletes_a_policy_and_leaves_its_disks(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        policy_id = cloud.a_policy(disk_id).id
        delete(cloud, policy_id)
        with refused("NOT_FOUND", "AUTO_SNAPSHOT_POLICY_NOT_FOUND", DISK):
            cloud.policy(policy_id)
        assert cloud.disk(disk_id).id == disk_id

    def test_fails_when_the_policy_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "AUTO_SNAPSHOT_POLICY_NOT_FOUND", DISK):
            delete(cloud, an_unknown_id("asp"))

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("policy_id"):
            delete(cloud, "")


def test_a_deleted_disk_stays_in_its_policies(cloud: Cloud):
    disk_id = cloud.a_disk()
    policy = cloud.a_policy(disk_id)
    cloud.delete_disk(disk_id)
    assert cloud.policy(policy.id) == policy


def test_a_deleted_disk_of_a_policy_refuses_no_other_change_of_its_disks(cloud: Cloud):
    gone, stays, comes = (cloud.a_disk() for _ in range(3))
    policy = cloud.a_policy(gone, stays)
    cloud.delete_disk(gone)
    update(cloud, policy.id, disk_ids=[*policy.disk_ids, comes])
    assert sorted(cloud.policy(policy.id).disk_ids) == sorted([gone, stays, comes])
