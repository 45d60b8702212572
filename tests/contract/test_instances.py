"""stillpoint.compute.v1.InstanceService: instances, started and stopped, made and deleted."""

import pytest

from stillpoint.compute.v1 import instance_pb2, participant_service_pb2
from stillpoint.compute.v1 import instance_service_pb2 as pb
from stillpoint.disk.v1 import disk_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, a_request_id, an_unknown_id
from tests.contract.error_tables import COMPUTE, DISK
from tests.contract.inside import Inside, release_of
from tests.contract.refusals import invalid, refused

State = instance_pb2.Instance


def a_request(**changes: object) -> pb.CreateInstanceRequest:
    request = pb.CreateInstanceRequest(name=a_name("instance"), system_disk=pb.NewDisk(size_bytes=MIB))
    request.MergeFrom(pb.CreateInstanceRequest(**changes))  # type: ignore[arg-type] # each test's own fields
    return request


class TestCreateInstance:
    def test_makes_a_running_instance_with_its_system_disk_and_its_data_disks_in_the_order_asked_for(
        self, cloud: Cloud
    ):
        name = a_name("instance")
        sizes = [3 * MIB, MIB, 2 * MIB]
        answer = cloud.instances.CreateInstance(
            pb.CreateInstanceRequest(
                name=name,
                system_disk=pb.NewDisk(name="root", size_bytes=4 * MIB),
                data_disks=[pb.NewDisk(size_bytes=size) for size in sizes],
            )
        )
        instance = answer.instance
        assert (instance.name, instance.account_id, instance.state) == (name, ACCOUNT, State.STATE_RUNNING)
        assert instance.id.startswith("i-")
        assert not instance.operation_id
        assert instance == cloud.instance(instance.id)
        system = cloud.disk(instance.system_disk_id)
        assert (system.name, system.role, system.state, system.size_bytes, system.instance_id) == (
            "root",
            disk_pb2.Disk.ROLE_SYSTEM,
            disk_pb2.Disk.STATE_RUNNING,
            4 * MIB,
            instance.id,
        )
        data = [cloud.disk(disk_id) for disk_id in answer.data_disk_ids]
        assert [disk.size_bytes for disk in data] == sizes
        assert {(disk.role, disk.state, disk.instance_id) for disk in data} == {
            (disk_pb2.Disk.ROLE_DATA, disk_pb2.Disk.STATE_MOUNTED, instance.id)
        }
        assert all(disk.name.startswith(name) for disk in data)
        assert cloud.finish(answer.operation_id).resource_id == instance.id

    def test_makes_disks_from_snapshots_with_their_content_and_size(self, cloud: Cloud):
        disk_id = cloud.a_disk(size_bytes=2 * MIB)
        cloud.write(disk_id, (MIB, b"from the snapshot"))
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        answer = cloud.instances.CreateInstance(
            pb.CreateInstanceRequest(
                name=a_name("instance"),
                system_disk=pb.NewDisk(source_snapshot_id=snapshot_id),
                data_disks=[pb.NewDisk(source_snapshot_id=snapshot_id, size_bytes=3 * MIB)],
            )
        )
        for made, size in ((answer.instance.system_disk_id, 2 * MIB), (answer.data_disk_ids[0], 3 * MIB)):
            assert cloud.disk(made).size_bytes == size
            assert cloud.disk(made).source_snapshot_id == snapshot_id
            assert cloud.read(made, MIB, 17) == b"from the snapshot"

    def test_makes_a_whole_new_machine_from_the_members_of_an_instance_snapshot(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        for disk_id in machine.disk_ids:
            cloud.write(disk_id, (4096, disk_id.encode()))
        whole = cloud.an_instance_snapshot(machine.id)
        system, *data = [pb.NewDisk(source_snapshot_id=member.snapshot_id) for member in whole.members]
        answer = cloud.instances.CreateInstance(a_request(system_disk=system, data_disks=data))
        copies = [answer.instance.system_disk_id, *answer.data_disk_ids]
        assert [cloud.disk(copy).device for copy in copies] == ["vda", "vdb", "vdc"]
        for original, copy in zip(machine.disk_ids, copies, strict=True):
            assert cloud.read(copy) == cloud.read(original)

    @pytest.mark.parametrize("name", ["x", "n" * 65, "ü" * 65, "two words", "web-1_a/b.c"])
    def test_takes_names_of_1_to_65_letters_digits_and_marks_that_begin_with_a_letter(
        self, cloud: Cloud, name: str
    ):
        assert cloud.instances.CreateInstance(a_request(name=name)).instance.name == name

    def test_gives_each_disk_a_name_of_its_own_also_when_the_instances_is_as_long_as_a_name_may_be(
        self, cloud: Cloud
    ):
        answer = cloud.instances.CreateInstance(
            a_request(name="n" * 65, data_disks=[pb.NewDisk(size_bytes=MIB)] * 2)
        )
        disk_ids = [answer.instance.system_disk_id, *answer.data_disk_ids]
        names = [cloud.disk(disk_id).name for disk_id in disk_ids]
        assert [name.rpartition("n-")[2] for name in names] == ["system", "data-1", "data-2"]
        assert {len(name) for name in names} == {65}

    def test_takes_64_data_disks(self, cloud: Cloud):
        assert len(cloud.an_instance(data_disks=64).data_disk_ids) == 64

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": "n" * 66}, "name"),
            ({"name": " outer blank"}, "name"),
            ({"name": "outer blank "}, "name"),
            ({"name": "a\tb"}, "name"),
            ({"name": "a\x00b"}, "name"),
            ({"name": "a\x7fb"}, "name"),
            ({"name": "1st"}, "name"),
            ({"name": "-a"}, "name"),
            ({"name": "i/o:1"}, "name"),
            ({"name": "a🙂"}, "name"),
            ({"description": "d" * 257}, "description"),
            ({"description": "a\tb"}, "description"),
            ({"labels": {"Key": ""}}, "labels"),
            ({"labels": {"key": "no blanks"}}, "labels"),
            ({"system_disk": pb.NewDisk(size_bytes=MIB + 1)}, "system_disk.size_bytes"),
            ({"system_disk": pb.NewDisk(size_bytes=MIB - 4096)}, "system_disk.size_bytes"),
            ({"system_disk": pb.NewDisk(size_bytes=-MIB)}, "system_disk.size_bytes"),
            ({"system_disk": pb.NewDisk(size_bytes=(64 << 40) + 4096)}, "system_disk.size_bytes"),
            ({"system_disk": pb.NewDisk(name="n" * 66)}, "system_disk.name"),
            ({"system_disk": pb.NewDisk(source_snapshot_id="Not An Id")}, "system_disk.source_snapshot_id"),
            ({"data_disks": [pb.NewDisk()]}, "data_disks[0].size_bytes"),
            ({"data_disks": [pb.NewDisk(size_bytes=MIB)] * 65}, "data_disks"),
        ],
    )
    def test_fails_when_a_field_is_malformed_and_names_it(
        self, cloud: Cloud, change: dict[str, object], field: str
    ):
        with invalid(field):
            cloud.instances.CreateInstance(a_request(**change))

    def test_fails_when_several_fields_are_malformed_and_names_all_of_them(self, cloud: Cloud):
        with invalid("request_id", "name", "system_disk", "data_disks[0].size_bytes", "data_disks[1].name"):
            cloud.instances.CreateInstance(
                pb.CreateInstanceRequest(
                    request_id="once",
                    data_disks=[pb.NewDisk(size_bytes=1), pb.NewDisk(name=" ", size_bytes=MIB)],
                )
            )

    def test_fails_when_a_source_snapshot_is_not_there_and_leaves_nothing(self, cloud: Cloud):
        name, snapshot_id = a_name("instance"), an_unknown_id("snap")
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK) as refusal:
            cloud.instances.CreateInstance(
                a_request(name=name, data_disks=[pb.NewDisk(source_snapshot_id=snapshot_id)])
            )
        assert refusal.metadata == {"snapshot_id": snapshot_id}
        assert not listed(cloud, name=name)

    def test_fails_when_a_source_snapshot_is_not_available(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with (
            inside.snapshotting(machine.id) as point,
            refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK) as refusal,
        ):
            cloud.instances.CreateInstance(
                a_request(data_disks=[pb.NewDisk(source_snapshot_id=point.members[0].snapshot_id)])
            )
        assert refusal.metadata == {"snapshot_id": point.members[0].snapshot_id, "state": "CREATING"}

    def test_fails_when_a_disk_is_smaller_than_its_source_and_leaves_nothing(self, cloud: Cloud):
        snapshot_id = cloud.a_disk_snapshot(cloud.a_disk(size_bytes=2 * MIB))
        name = a_name("instance")
        with refused("INVALID_ARGUMENT", "SIZE_TOO_SMALL", DISK) as refusal:
            cloud.instances.CreateInstance(
                a_request(name=name, data_disks=[pb.NewDisk(source_snapshot_id=snapshot_id, size_bytes=MIB)])
            )
        assert refusal.metadata == {"snapshot_id": snapshot_id, "size_bytes": str(2 * MIB)}
        assert refusal.fields == ["data_disks[0].size_bytes"]
        assert not listed(cloud, name=name)

    def test_fails_when_several_disks_have_sources_that_will_not_do_names_each_and_leaves_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        name, unknown = a_name("instance"), an_unknown_id("snap")
        large = cloud.a_disk_snapshot(cloud.a_disk(size_bytes=2 * MIB))
        with inside.snapshotting(cloud.an_instance().id) as point:
            being_made = point.members[0].snapshot_id
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
                cloud.instances.CreateInstance(
                    a_request(
                        name=name,
                        system_disk=pb.NewDisk(source_snapshot_id=unknown),
                        data_disks=[
                            pb.NewDisk(source_snapshot_id=large),
                            pb.NewDisk(source_snapshot_id=large, size_bytes=MIB),
                            pb.NewDisk(source_snapshot_id=being_made),
                            pb.NewDisk(source_snapshot_id=unknown),
                        ],
                    )
                )
        assert refusal.violations == [
            ("SNAPSHOT_NOT_FOUND", "system_disk"),
            ("SIZE_TOO_SMALL", "data_disks[1]"),
            ("SNAPSHOT_STATE", "data_disks[2]"),
            ("SNAPSHOT_NOT_FOUND", "data_disks[3]"),
        ]
        assert all(snapshot_id in refusal.message for snapshot_id in (unknown, large, being_made))
        assert not listed(cloud, name=name)

    def test_fails_when_65_disks_are_smaller_than_their_source_and_names_each(self, cloud: Cloud):
        small = pb.NewDisk(
            source_snapshot_id=cloud.a_disk_snapshot(cloud.a_disk(size_bytes=2 * MIB)), size_bytes=MIB
        )
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal:
            cloud.instances.CreateInstance(a_request(system_disk=small, data_disks=[small] * 64))
        assert refusal.violations == [
            ("SIZE_TOO_SMALL", field)
            for field in ("system_disk", *(f"data_disks[{number}]" for number in range(64)))
        ]


class TestGetInstance:
    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        unknown = an_unknown_id("i")
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE) as refusal:
            cloud.instance(unknown)
        assert refusal.metadata == {"instance_id": unknown}

    @pytest.mark.parametrize("malformed", ["", "I-UPPER", "i_1", "i 1", "x" * 65, "i-é", "i\n"])
    def test_fails_when_the_id_is_malformed(self, cloud: Cloud, malformed: str):
        with invalid("instance_id"):
            cloud.instance(malformed)


class TestListInstances:
    def test_lists_newest_first_and_narrows_by_name_and_state(self, cloud: Cloud):
        name = a_name("instance")
        machines = [cloud.an_instance(name=name) for _ in range(3)]
        cloud.stop(machines[1].id)
        assert listed(cloud, name=name) == [machine.id for machine in reversed(machines)]
        assert listed(cloud, name=name, state=State.STATE_STOPPED) == [machines[1].id]
        assert listed(cloud, name=name, state=State.STATE_DELETING) == []

    def test_lists_nothing_in_a_state_that_no_instance_is_ever_in(self, cloud: Cloud):
        name = cloud.an_instance().name
        assert listed(cloud, name=name, state=State.STATE_STARTING) == []

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListInstancesRequest(page_size=-1), "page_size"),
            (pb.ListInstancesRequest(filter=pb.ListInstancesRequest.Filter(name="n" * 66)), "filter.name"),
        ],
    )
    def test_fails_when_page_size_is_negative_or_a_filter_value_malformed(
        self, cloud: Cloud, request_: pb.ListInstancesRequest, field: str
    ):
        with invalid(field):
            cloud.instances.ListInstances(request_)


class TestStartInstance:
    @pytest.mark.parametrize("no_charge", [False, True])
    def test_starts_an_instance_that_is_stopped_with_or_without_charge(self, cloud: Cloud, no_charge: bool):
        machine = cloud.an_instance()
        cloud.instances.StopInstance(pb.StopInstanceRequest(instance_id=machine.id, no_charge=no_charge))
        answer = cloud.instances.StartInstance(pb.StartInstanceRequest(instance_id=machine.id))
        assert answer.instance.state == State.STATE_RUNNING
        assert answer.instance == cloud.instance(machine.id)

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.start(an_unknown_id("i"))

    def test_fails_when_the_instance_runs(self, cloud: Cloud):
        machine = cloud.an_instance()
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE) as refusal:
            cloud.start(machine.id)
        assert refusal.metadata == {"instance_id": machine.id, "state": "RUNNING"}
        assert refusal.violations == [("INSTANCE_STATE", f"instance/{machine.id}")]
        assert "STOPPED" in refusal.message

    def test_fails_when_an_operation_holds_the_instance_and_names_it(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        with inside.leased(machine.id) as operation_id:
            assert cloud.instance(machine.id).operation_id == operation_id
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE) as refusal:
                cloud.start(machine.id)
        assert refusal.metadata == {"instance_id": machine.id, "operation_id": operation_id}
        cloud.start(machine.id)

    def test_fails_when_the_instance_runs_and_is_held_and_says_both(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal,
        ):
            cloud.start(machine.id)
        assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "INSTANCE_STATE"}

    def test_fails_after_a_rollback_that_was_not_done_whole_until_one_ends_whole(
        self, cloud: Cloud, inside: Inside
    ):
        outcomes = participant_service_pb2.ReleaseInstanceRequest
        machine = cloud.an_instance(stopped=True)
        lease = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(lease)
        inside.compute.ReleaseInstance(release_of(lease, outcomes.ROLLBACK_OUTCOME_INCOMPLETE))
        with refused("FAILED_PRECONDITION", "ROLLBACK_INCOMPLETE", COMPUTE) as refusal:
            cloud.start(machine.id)
        assert refusal.metadata == {"instance_id": machine.id}
        again = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(again)
        with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
            cloud.start(machine.id)
        assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "ROLLBACK_INCOMPLETE"}
        assert again.operation_id in refusal.message
        inside.compute.ReleaseInstance(release_of(again, outcomes.ROLLBACK_OUTCOME_COMPLETE))
        cloud.start(machine.id)

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("instance_id"):
            cloud.start("")


class TestStopInstance:
    @pytest.mark.parametrize(
        ("no_charge", "state"), [(False, State.STATE_STOPPED), (True, State.STATE_STOPPED_NO_CHARGE)]
    )
    def test_stops_a_running_instance_whose_disks_stay_in_use(
        self, cloud: Cloud, no_charge: bool, state: "instance_pb2.Instance.State.ValueType"
    ):
        machine = cloud.an_instance(data_disks=1)
        answer = cloud.instances.StopInstance(
            pb.StopInstanceRequest(instance_id=machine.id, no_charge=no_charge)
        )
        assert answer.instance.state == state
        assert answer.instance == cloud.instance(machine.id)
        assert cloud.disk(machine.system_disk_id).state == disk_pb2.Disk.STATE_RUNNING
        assert cloud.disk(machine.data_disk_ids[0]).state == disk_pb2.Disk.STATE_MOUNTED

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.stop(an_unknown_id("i"))

    def test_fails_when_the_instance_is_stopped(self, cloud: Cloud):
        machine = cloud.an_instance(stopped=True)
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE) as refusal:
            cloud.stop(machine.id)
        assert refusal.metadata["state"] == "STOPPED"

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE),
        ):
            cloud.stop(machine.id)
        assert cloud.instance(machine.id).state == State.STATE_RUNNING

    def test_fails_when_the_instance_is_stopped_and_held_and_says_both(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal,
        ):
            cloud.stop(machine.id)
        assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "INSTANCE_STATE"}

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("instance_id"):
            cloud.stop("")


class TestDeleteInstance:
    def test_deletes_the_system_disk_detaches_the_data_disks_and_keeps_the_snapshots(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=2)
        whole = cloud.an_instance_snapshot(machine.id)
        cloud.stop(machine.id)
        answer = cloud.instances.DeleteInstance(pb.DeleteInstanceRequest(instance_id=machine.id))
        assert sorted(answer.detached_disk_ids) == sorted(machine.data_disk_ids)
        cloud.finish(answer.operation_id)
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.instance(machine.id)
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.disk(machine.system_disk_id)
        for disk_id in machine.data_disk_ids:
            disk = cloud.disk(disk_id)
            assert (disk.state, disk.instance_id) == (disk_pb2.Disk.STATE_DETACHED, "")
        assert cloud.instance_snapshot(whole.id) == whole
        assert len(cloud.snapshots_of(instance_snapshot_id=whole.id)) == 3

    def test_deletes_an_instance_that_is_stopped_without_charge(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.instances.StopInstance(pb.StopInstanceRequest(instance_id=machine.id, no_charge=True))
        cloud.delete_instance(machine.id)
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.instance(machine.id)

    def test_fails_when_the_instance_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            cloud.delete_instance(an_unknown_id("i"))

    def test_fails_when_the_instance_runs(self, cloud: Cloud):
        machine = cloud.an_instance()
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE):
            cloud.delete_instance(machine.id)
        assert cloud.instance(machine.id).state == State.STATE_RUNNING

    def test_fails_when_an_operation_holds_the_instance(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE),
        ):
            cloud.delete_instance(machine.id)

    def test_fails_when_the_instance_runs_and_is_held_and_says_both(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with (
            inside.leased(machine.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal,
        ):
            cloud.delete_instance(machine.id)
        assert {kind for kind, _ in refusal.violations} == {"INSTANCE_BUSY", "INSTANCE_STATE"}

    def test_fails_when_instance_and_disks_are_in_the_way_says_all_of_it_and_changes_nothing(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance(data_disks=1)
        request = pb.DeleteInstanceRequest(request_id=a_request_id(), instance_id=machine.id)
        with inside.leased(machine.id) as operation_id, inside.snapshotting(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                cloud.instances.DeleteInstance(request)
            instance = cloud.instance(machine.id)
            assert (instance.state, instance.operation_id) == (State.STATE_RUNNING, operation_id)
        assert sorted(refusal.violations) == sorted(
            [
                ("INSTANCE_BUSY", f"instance/{machine.id}"),
                ("INSTANCE_STATE", f"instance/{machine.id}"),
                *(("DISK_BUSY", f"disk/{disk_id}") for disk_id in machine.disk_ids),
            ]
        )
        cloud.stop(machine.id)
        assert cloud.instances.DeleteInstance(request).detached_disk_ids == machine.data_disk_ids

    def test_fails_when_a_disk_has_a_task_and_an_instance_stopped_without_charge_is_so_again(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance()
        cloud.instances.StopInstance(pb.StopInstanceRequest(instance_id=machine.id, no_charge=True))
        with inside.snapshotting(machine.id), refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
            cloud.delete_instance(machine.id)
        instance = cloud.instance(machine.id)
        assert (instance.state, instance.operation_id) == (State.STATE_STOPPED_NO_CHARGE, "")

    def test_fails_when_a_disk_has_a_task_and_the_instance_is_as_before(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        with (
            inside.snapshotting(machine.id),
            refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal,
        ):
            cloud.delete_instance(machine.id)
        assert refusal.metadata["disk_id"] == machine.system_disk_id
        instance = cloud.instance(machine.id)
        assert (instance.state, instance.operation_id) == (State.STATE_STOPPED, "")
        assert cloud.operations_on(Service.COMPUTE, machine.id)[0].error.reason == "DISK_BUSY"

    def test_fails_when_several_disks_have_a_task_and_names_each(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(data_disks=2, stopped=True)
        with (
            inside.snapshotting(machine.id),
            refused("FAILED_PRECONDITION", "PRECONDITIONS", DISK) as refusal,
        ):
            cloud.delete_instance(machine.id)
        assert sorted(refusal.violations) == sorted(
            ("DISK_BUSY", f"disk/{disk_id}") for disk_id in machine.disk_ids
        )
        assert cloud.disk(machine.data_disk_ids[0]).instance_id == machine.id

    def test_fails_when_the_id_is_empty(self, cloud: Cloud):
        with invalid("instance_id"):
            cloud.delete_instance("")


def listed(
    cloud: Cloud, *, name: str, state: "instance_pb2.Instance.State.ValueType" = State.STATE_UNSPECIFIED
) -> list[str]:
    request = pb.ListInstancesRequest(filter=pb.ListInstancesRequest.Filter(name=name, state=state))
    return [instance.id for instance in cloud.instances.ListInstances(request).instances]
