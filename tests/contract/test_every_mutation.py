"""What every mutation promises: `request_id` makes it repeatable, and a refusal is not remembered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from stillpoint.compute.v1 import account_service_pb2, instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import (
    auto_snapshot_policy_pb2,
    disk_pb2,
    disk_service_pb2,
    disk_snapshot_pb2,
    disk_snapshot_service_pb2,
)
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as policy_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2, instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import MIB, Cloud, a_name, a_request_id, an_unknown_id
from tests.contract.conftest import TwoRegions
from tests.contract.methods import LISTS, METHODS, MUTATIONS, Method
from tests.contract.refusals import refused
from tests.support.regions import SOUTH


@dataclass(frozen=True, slots=True)
class Case:
    """One mutation that will do, the same with other arguments, one that is refused, and how often it has taken effect."""

    call: Any
    request: Message
    other: Message
    refused: Message
    effects: Callable[[], int]

    def with_id(self, request: Message, request_id: str) -> Message:
        again = type(request)()
        again.CopyFrom(request)
        setattr(again, "request_id", request_id)  # noqa: B010 - every mutation's request has the field
        return again


def create_instance(cloud: Cloud) -> Case:
    disk = instance_service_pb2.NewDisk(size_bytes=MIB)
    missing = instance_service_pb2.NewDisk(source_snapshot_id=an_unknown_id("snap"))
    name = a_name("instance")
    make = instance_service_pb2.CreateInstanceRequest
    listing = instance_service_pb2.ListInstancesRequest(
        filter=instance_service_pb2.ListInstancesRequest.Filter(name=name)
    )
    return Case(
        cloud.instances.CreateInstance,
        make(name=name, system_disk=disk),
        make(name=name, system_disk=disk, data_disks=[disk]),
        make(name=name, system_disk=missing),
        lambda: len(cloud.instances.ListInstances(listing).instances),
    )


def update_instance(cloud: Cloud) -> Case:
    machine, make = cloud.an_instance(), instance_service_pb2.UpdateInstanceRequest
    return Case(
        cloud.instances.UpdateInstance,
        make(instance=instance_pb2.Instance(id=machine.id, name="new")),
        make(instance=instance_pb2.Instance(id=machine.id, name="newer")),
        make(instance=instance_pb2.Instance(id=an_unknown_id("i"), name="new")),
        lambda: cloud.events_of(Service.COMPUTE, machine.id).count("update_instance"),
    )


def start_instance(cloud: Cloud) -> Case:
    machine, other = cloud.an_instance(stopped=True), cloud.an_instance(stopped=True)
    make = instance_service_pb2.StartInstanceRequest
    return Case(
        cloud.instances.StartInstance,
        make(instance_id=machine.id),
        make(instance_id=other.id),
        make(instance_id=an_unknown_id("i")),
        lambda: cloud.events_of(Service.COMPUTE, machine.id).count("start_instance"),
    )


def stop_instance(cloud: Cloud) -> Case:
    machine = cloud.an_instance()
    make = instance_service_pb2.StopInstanceRequest
    return Case(
        cloud.instances.StopInstance,
        make(instance_id=machine.id),
        make(instance_id=machine.id, no_charge=True),
        make(instance_id=an_unknown_id("i")),
        lambda: cloud.events_of(Service.COMPUTE, machine.id).count("stop_instance"),
    )


def delete_instance(cloud: Cloud) -> Case:
    machine, other = cloud.an_instance(data_disks=1, stopped=True), cloud.an_instance(stopped=True)
    make = instance_service_pb2.DeleteInstanceRequest
    return Case(
        cloud.instances.DeleteInstance,
        make(instance_id=machine.id),
        make(instance_id=other.id),
        make(instance_id=an_unknown_id("i")),
        operations(cloud, Service.COMPUTE, machine.id, "delete_instance"),
    )


def attach_disk(cloud: Cloud) -> Case:
    machine, make = cloud.an_instance(), instance_service_pb2.AttachDiskRequest
    return Case(
        cloud.instances.AttachDisk,
        make(instance_id=machine.id, disk_id=cloud.a_disk()),
        make(instance_id=machine.id, disk_id=cloud.a_disk()),
        make(instance_id=machine.id, disk_id=an_unknown_id("disk")),
        operations(cloud, Service.COMPUTE, machine.id, "attach_disk"),
    )


def detach_disk(cloud: Cloud) -> Case:
    machine, make = cloud.an_instance(data_disks=2), instance_service_pb2.DetachDiskRequest
    return Case(
        cloud.instances.DetachDisk,
        make(instance_id=machine.id, disk_id=machine.data_disk_ids[0]),
        make(instance_id=machine.id, disk_id=machine.data_disk_ids[1]),
        make(instance_id=machine.id, disk_id=machine.system_disk_id),
        operations(cloud, Service.COMPUTE, machine.id, "detach_disk"),
    )


def rollback_disk_on_instance(cloud: Cloud) -> Case:
    machine, make = cloud.an_instance(stopped=True), instance_service_pb2.RollbackDiskRequest
    snapshot_id, other = (cloud.a_disk_snapshot(machine.system_disk_id) for _ in range(2))
    ids = {"instance_id": machine.id, "disk_id": machine.system_disk_id}
    return Case(
        cloud.instances.RollbackDisk,
        make(**ids, snapshot_id=snapshot_id),
        make(**ids, snapshot_id=other),
        make(**ids, snapshot_id=an_unknown_id("snap")),
        lambda: cloud.events_of(Service.COMPUTE, machine.id).count("rollback_disk/succeeded"),
    )


def set_account_standing(cloud: Cloud) -> Case:
    account_id, make = a_name("account"), account_service_pb2.SetAccountStandingRequest
    standings = account_service_pb2.Account
    return Case(
        cloud.accounts.SetAccountStanding,
        make(account_id=account_id, standing=standings.STANDING_IN_DEBT),
        make(account_id=account_id, standing=standings.STANDING_GOOD),
        make(account_id=account_id),
        lambda: cloud.events_of(Service.COMPUTE, account_id).count("set_account_standing"),
    )


def create_disk(cloud: Cloud) -> Case:
    name, make = a_name("disk"), disk_service_pb2.CreateDiskRequest
    return Case(
        cloud.disks.CreateDisk,
        make(name=name, size_bytes=MIB),
        make(name=name, size_bytes=2 * MIB),
        make(name=name, source_snapshot_id=an_unknown_id("snap")),
        lambda: names_of_all_disks(cloud).count(name),
    )


def update_disk(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), disk_service_pb2.UpdateDiskRequest
    return Case(
        cloud.disks.UpdateDisk,
        make(disk=disk_pb2.Disk(id=disk_id, name="new")),
        make(disk=disk_pb2.Disk(id=disk_id, name="newer")),
        make(disk=disk_pb2.Disk(id=an_unknown_id("disk"), name="new")),
        lambda: cloud.events_of(Service.DISK, disk_id).count("update_disk"),
    )


def resize_disk(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), disk_service_pb2.ResizeDiskRequest
    return Case(
        cloud.disks.ResizeDisk,
        make(disk_id=disk_id, size_bytes=2 * MIB),
        make(disk_id=disk_id, size_bytes=3 * MIB),
        make(disk_id=an_unknown_id("disk"), size_bytes=2 * MIB),
        operations(cloud, Service.DISK, disk_id, "resize_disk"),
    )


def rollback_disk(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), disk_service_pb2.RollbackDiskRequest
    snapshot_id, other = cloud.a_disk_snapshot(disk_id), cloud.a_disk_snapshot(disk_id)
    return Case(
        cloud.disks.RollbackDisk,
        make(disk_id=disk_id, snapshot_id=snapshot_id),
        make(disk_id=disk_id, snapshot_id=other),
        make(disk_id=disk_id, snapshot_id=an_unknown_id("snap")),
        operations(cloud, Service.DISK, disk_id, "rollback_disk"),
    )


def delete_disk(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), disk_service_pb2.DeleteDiskRequest
    return Case(
        cloud.disks.DeleteDisk,
        make(disk_id=disk_id),
        make(disk_id=cloud.a_disk()),
        make(disk_id=an_unknown_id("disk")),
        operations(cloud, Service.DISK, disk_id, "delete_disk"),
    )


def create_disk_snapshot(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), disk_snapshot_service_pb2.CreateDiskSnapshotRequest
    return Case(
        cloud.disk_snapshots.CreateDiskSnapshot,
        make(disk_id=disk_id),
        make(disk_id=disk_id, name="another name"),
        make(disk_id=an_unknown_id("disk")),
        lambda: len(cloud.snapshots_of(disk_id=disk_id)),
    )


def update_disk_snapshot(cloud: Cloud) -> Case:
    snapshot_id, make = cloud.a_disk_snapshot(), disk_snapshot_service_pb2.UpdateDiskSnapshotRequest
    return Case(
        cloud.disk_snapshots.UpdateDiskSnapshot,
        make(snapshot=disk_snapshot_pb2.DiskSnapshot(id=snapshot_id, labels={"a": "1", "b": "2", "c": "3"})),
        make(snapshot=disk_snapshot_pb2.DiskSnapshot(id=snapshot_id, labels={"a": "1", "b": "2"})),
        make(snapshot=disk_snapshot_pb2.DiskSnapshot(id=an_unknown_id("snap"), name="new")),
        lambda: cloud.events_of(Service.DISK, snapshot_id).count("update_disk_snapshot"),
    )


def delete_disk_snapshot(cloud: Cloud) -> Case:
    snapshot_id, make = cloud.a_disk_snapshot(), disk_snapshot_service_pb2.DeleteDiskSnapshotRequest
    return Case(
        cloud.disk_snapshots.DeleteDiskSnapshot,
        make(snapshot_id=snapshot_id),
        make(snapshot_id=cloud.a_disk_snapshot()),
        make(snapshot_id=an_unknown_id("snap")),
        operations(cloud, Service.DISK, snapshot_id, "delete_disk_snapshot"),
    )


def create_auto_snapshot_policy(cloud: Cloud) -> Case:
    disk_id, make = cloud.a_disk(), policy_service_pb2.CreateAutoSnapshotPolicyRequest

    def policy(*disk_ids: str) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        name, weekday = "contract-policy", auto_snapshot_policy_pb2.WEEKDAY_FRIDAY
        return auto_snapshot_policy_pb2.AutoSnapshotPolicy(
            name=name, weekdays=[weekday], hours=[2], disk_ids=disk_ids
        )

    listing = policy_service_pb2.ListAutoSnapshotPoliciesRequest(
        filter=policy_service_pb2.ListAutoSnapshotPoliciesRequest.Filter(disk_id=disk_id)
    )
    return Case(
        cloud.policies.CreateAutoSnapshotPolicy,
        make(policy=policy(disk_id)),
        make(policy=policy()),
        make(policy=policy(disk_id, an_unknown_id("disk"))),
        lambda: len(cloud.policies.ListAutoSnapshotPolicies(listing).policies),
    )


def update_auto_snapshot_policy(cloud: Cloud) -> Case:
    policy_id, make = cloud.a_policy().id, policy_service_pb2.UpdateAutoSnapshotPolicyRequest

    def policy(**changes: Any) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        return auto_snapshot_policy_pb2.AutoSnapshotPolicy(**{"id": policy_id, **changes})

    return Case(
        cloud.policies.UpdateAutoSnapshotPolicy,
        make(policy=policy(hours=[3])),
        make(policy=policy(hours=[4])),
        make(policy=policy(disk_ids=[an_unknown_id("disk")])),
        lambda: cloud.events_of(Service.DISK, policy_id).count("update_auto_snapshot_policy"),
    )


def delete_auto_snapshot_policy(cloud: Cloud) -> Case:
    policy_id, make = cloud.a_policy().id, policy_service_pb2.DeleteAutoSnapshotPolicyRequest
    return Case(
        cloud.policies.DeleteAutoSnapshotPolicy,
        make(policy_id=policy_id),
        make(policy_id=cloud.a_policy().id),
        make(policy_id=an_unknown_id("asp")),
        lambda: cloud.events_of(Service.DISK, policy_id).count("delete_auto_snapshot_policy"),
    )


def copy_disk_snapshot(cloud: Cloud) -> Case:
    snapshot_id, make = cloud.a_disk_snapshot(), disk_snapshot_service_pb2.CopyDiskSnapshotRequest
    return Case(
        cloud.disk_snapshots.CopyDiskSnapshot,
        make(snapshot_id=snapshot_id, destination_region=SOUTH),
        make(snapshot_id=snapshot_id, destination_region=SOUTH, name="another"),
        make(snapshot_id=an_unknown_id("snap"), destination_region=SOUTH),
        operations(cloud, Service.DISK, snapshot_id, "copy_disk_snapshot"),
    )


def create_instance_snapshot(cloud: Cloud) -> Case:
    machine, make = cloud.an_instance(), instance_snapshot_service_pb2.CreateInstanceSnapshotRequest
    return Case(
        cloud.instance_snapshots.CreateInstanceSnapshot,
        make(instance_id=machine.id),
        make(instance_id=machine.id, name="another name"),
        make(instance_id=an_unknown_id("i")),
        lambda: len(cloud.instance_snapshots_of(machine.id)),
    )


def update_instance_snapshot(cloud: Cloud) -> Case:
    whole = cloud.an_instance_snapshot(cloud.an_instance().id)
    make = instance_snapshot_service_pb2.UpdateInstanceSnapshotRequest
    return Case(
        cloud.instance_snapshots.UpdateInstanceSnapshot,
        make(instance_snapshot=instance_snapshot_pb2.InstanceSnapshot(id=whole.id, name="new")),
        make(instance_snapshot=instance_snapshot_pb2.InstanceSnapshot(id=whole.id, name="newer")),
        make(instance_snapshot=instance_snapshot_pb2.InstanceSnapshot(id=an_unknown_id("isnap"), name="new")),
        lambda: cloud.events_of(Service.SNAPSHOT, whole.id).count("update_instance_snapshot"),
    )


def rollback_instance_snapshot(cloud: Cloud) -> Case:
    machine, running = cloud.an_instance(stopped=True), cloud.an_instance()
    whole, other = cloud.an_instance_snapshot(machine.id), cloud.an_instance_snapshot(machine.id)
    make = instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest
    return Case(
        cloud.instance_snapshots.RollbackInstanceSnapshot,
        make(instance_snapshot_id=whole.id),
        make(instance_snapshot_id=other.id),
        make(instance_snapshot_id=cloud.an_instance_snapshot(running.id).id),
        operations(cloud, Service.SNAPSHOT, whole.id, "rollback_instance_snapshot"),
    )


def delete_instance_snapshot(cloud: Cloud) -> Case:
    machine = cloud.an_instance()
    whole, other = cloud.an_instance_snapshot(machine.id), cloud.an_instance_snapshot(machine.id)
    make = instance_snapshot_service_pb2.DeleteInstanceSnapshotRequest
    return Case(
        cloud.instance_snapshots.DeleteInstanceSnapshot,
        make(instance_snapshot_id=whole.id),
        make(instance_snapshot_id=other.id),
        make(instance_snapshot_id=an_unknown_id("isnap")),
        operations(cloud, Service.SNAPSHOT, whole.id, "delete_instance_snapshot"),
    )


def batch_delete_instance_snapshots(cloud: Cloud) -> Case:
    machine = cloud.an_instance()
    whole, other = cloud.an_instance_snapshot(machine.id), cloud.an_instance_snapshot(machine.id)
    make = instance_snapshot_service_pb2.BatchDeleteInstanceSnapshotsRequest
    return Case(
        cloud.instance_snapshots.BatchDeleteInstanceSnapshots,
        make(instance_snapshot_ids=[whole.id, an_unknown_id("isnap")]),
        make(instance_snapshot_ids=[other.id]),
        make(instance_snapshot_ids=[whole.id, whole.id]),
        operations(cloud, Service.SNAPSHOT, whole.id, "delete_instance_snapshot"),
    )


def copy_instance_snapshot(cloud: Cloud) -> Case:
    whole = cloud.an_instance_snapshot(cloud.an_instance().id)
    make = instance_snapshot_service_pb2.CopyInstanceSnapshotRequest
    return Case(
        cloud.instance_snapshots.CopyInstanceSnapshot,
        make(instance_snapshot_id=whole.id, destination_region=SOUTH),
        make(instance_snapshot_id=whole.id, destination_region=SOUTH, name="another"),
        make(instance_snapshot_id=an_unknown_id("isnap"), destination_region=SOUTH),
        operations(cloud, Service.SNAPSHOT, whole.id, "copy_instance_snapshot"),
    )


CASES = (
    create_instance,
    update_instance,
    start_instance,
    stop_instance,
    delete_instance,
    attach_disk,
    detach_disk,
    rollback_disk_on_instance,
    set_account_standing,
    create_disk,
    update_disk,
    resize_disk,
    rollback_disk,
    delete_disk,
    create_disk_snapshot,
    update_disk_snapshot,
    delete_disk_snapshot,
    create_auto_snapshot_policy,
    update_auto_snapshot_policy,
    delete_auto_snapshot_policy,
    copy_disk_snapshot,
    create_instance_snapshot,
    update_instance_snapshot,
    rollback_instance_snapshot,
    delete_instance_snapshot,
    batch_delete_instance_snapshots,
    copy_instance_snapshot,
)
NEED_A_PEER = (copy_disk_snapshot, copy_instance_snapshot)
each_case = pytest.mark.parametrize("a_case", CASES, ids=[case.__name__ for case in CASES])


@pytest.fixture
def home(
    request: pytest.FixtureRequest,
    a_case: Callable[[Cloud], Case],
    database_kind: str,
) -> Cloud:
    """Where a case plays: a deployment that has a peer, for those that need one."""
    if a_case in NEED_A_PEER:
        regions: TwoRegions = request.getfixturevalue("regions")
        return regions.north
    cloud: Cloud = request.getfixturevalue("cloud")
    return cloud


def operations(cloud: Cloud, service: Service, resource_id: str, kind: str) -> Callable[[], int]:
    return lambda: [operation.kind for operation in cloud.operations_on(service, resource_id)].count(kind)


def names_of_all_disks(cloud: Cloud) -> list[str]:
    names: list[str] = []
    page = disk_service_pb2.ListDisksRequest(page_size=500)
    while True:
        answer = cloud.disks.ListDisks(page)
        names += [disk.name for disk in answer.disks]
        page.page_token = answer.next_page_token
        if not page.page_token:
            return names


def settle(cloud: Cloud, answer: Any) -> None:
    """What is begun here must not be in the way of the next test."""
    for part in (answer, *getattr(answer, "results", [])):
        if getattr(part, "operation_id", ""):
            cloud.finish(part.operation_id)


@each_case
def test_the_same_request_again_has_one_effect_and_gets_the_first_answer(
    home: Cloud, a_case: Callable[[Cloud], Case]
):
    case = a_case(home)
    request = case.with_id(case.request, a_request_id())
    before = case.effects()
    first = case.call(request)
    second = case.call(request)
    settle(home, first)
    third = case.call(request)
    assert first == second == third
    assert case.effects() == before + 1


@each_case
def test_the_same_request_while_the_first_call_still_runs_has_one_effect_and_gets_its_answer(
    home: Cloud, a_case: Callable[[Cloud], Case]
):
    case = a_case(home)
    request = case.with_id(case.request, a_request_id())
    before = case.effects()
    calls = [case.call.future(request) for _ in range(4)]
    first, *others = [call.result() for call in calls]
    assert others == [first] * 3
    settle(home, first)
    assert case.effects() == before + 1


@each_case
def test_a_request_id_used_again_with_other_arguments_is_refused_and_has_no_effect(
    home: Cloud, a_case: Callable[[Cloud], Case]
):
    case = a_case(home)
    request_id = a_request_id()
    answer = case.call(case.with_id(case.request, request_id))
    settle(home, answer)
    effects = case.effects()
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED") as refusal:
        case.call(case.with_id(case.other, request_id))
    assert request_id in refusal.message
    assert case.effects() == effects
    assert case.call(case.with_id(case.request, request_id)) == answer


@each_case
def test_a_refusal_is_not_remembered(home: Cloud, a_case: Callable[[Cloud], Case]):
    case = a_case(home)
    request_id = a_request_id()
    messages = []
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as refusal:
            case.call(case.with_id(case.refused, request_id))
        messages.append(refusal.value.details())
    assert messages[0] == messages[1]
    before = case.effects()
    settle(home, case.call(case.with_id(case.request, request_id)))
    assert case.effects() == before + 1


def test_a_request_id_is_the_same_in_capitals(cloud: Cloud):
    case = create_disk(cloud)
    request_id = a_request_id()
    first = case.call(case.with_id(case.request, request_id.upper()))
    assert case.call(case.with_id(case.request, request_id.lower())) == first


def test_without_a_request_id_each_call_is_a_new_one(cloud: Cloud):
    case = create_disk(cloud)
    assert case.call(case.request).disk.id != case.call(case.request).disk.id
    assert case.effects() == 2


def test_one_request_id_serves_different_rpcs(cloud: Cloud):
    machine, request_id = cloud.an_instance(), a_request_id()
    cloud.instances.StopInstance(
        instance_service_pb2.StopInstanceRequest(request_id=request_id, instance_id=machine.id)
    )
    cloud.instances.StartInstance(
        instance_service_pb2.StartInstanceRequest(request_id=request_id, instance_id=machine.id)
    )


def test_a_refusal_by_another_service_half_way_is_not_remembered_either(cloud: Cloud):
    """The very same request, which disk_svc refuses at first and then does not."""
    machine, other = cloud.an_instance(), cloud.an_instance(data_disks=1)
    [disk_id] = other.data_disk_ids
    request = instance_service_pb2.AttachDiskRequest(
        request_id=a_request_id(), instance_id=machine.id, disk_id=disk_id
    )
    with refused("FAILED_PRECONDITION", "DISK_STATE", "disk.stillpoint"):
        cloud.instances.AttachDisk(request)
    cloud.detach(other.id, disk_id)
    cloud.instances.AttachDisk(request)
    assert cloud.disk(disk_id).instance_id == machine.id


def test_every_mutation_is_among_the_cases():
    names = [method.path.rpartition("/")[2] for method in MUTATIONS]
    cases = [case.__name__.removesuffix("_on_instance").split("_") for case in CASES]
    assert sorted(names) == sorted("".join(word.title() for word in words) for words in cases)


def test_every_method_is_a_mutation_a_list_a_get_or_a_stream():
    rest = {method.path.rpartition("/")[2] for method in METHODS if method not in MUTATIONS + LISTS}
    known = {"ReadBlocks", "WriteBlocks", "WatchOperation", "RetryOperation", "AbandonOperation"}
    assert {name for name in rest if not name.startswith("Get")} == known


@pytest.mark.parametrize("method", MUTATIONS, ids=str)
@pytest.mark.parametrize("malformed", ["once", "123", " ", "6ba7b810-9dad-11d1-80b4-00c04fd430c", "\x00"])
def test_every_mutation_fails_when_its_request_id_is_no_uuid(cloud: Cloud, method: Method, malformed: str):
    with refused("INVALID_ARGUMENT", "INVALID_REQUEST") as refusal:
        method.call(cloud, method.request(request_id=malformed))
    assert "request_id" in refusal.fields


@pytest.mark.parametrize(
    "method",
    [
        method
        for method in METHODS
        if method not in LISTS
        and any(name.endswith("_id") for name in method.request.DESCRIPTOR.fields_by_name)
        and not method.path.endswith(("Blocks", "WatchOperation"))
    ],
    ids=str,
)
def test_every_method_names_each_malformed_id_of_its_request(cloud: Cloud, method: Method):
    ids = [name for name in method.request.DESCRIPTOR.fields_by_name if name.endswith("_id")]
    request = method.request(**dict.fromkeys(ids, "Not\tan id"))
    with refused("INVALID_ARGUMENT", "INVALID_REQUEST") as refusal:
        method.call(cloud, request)
    # Of several ids of which a request names one, the last was taken.
    assert {name for name in ids if getattr(request, name)} <= set(refusal.fields)
