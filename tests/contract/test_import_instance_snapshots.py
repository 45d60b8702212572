"""stillpoint.snapshot.v1.ImportService: what snapshot_svc does for another region that copies an instance snapshot to it."""

from collections.abc import Iterator

import pytest

from stillpoint.snapshot.v1 import import_service_pb2 as pb
from stillpoint.snapshot.v1 import (
    import_service_pb2_grpc,
    instance_snapshot_pb2,
    instance_snapshot_service_pb2,
)
from svckit.clock import to_timestamp, utc_now
from tests.contract.cloud import ACCOUNT, MIB, Cloud, a_name, an_unknown_id
from tests.contract.error_tables import SNAPSHOT
from tests.contract.inside import an_operation_id, step_withdrawn
from tests.contract.refusals import invalid, refused

State = instance_snapshot_pb2.InstanceSnapshot


@pytest.fixture(scope="module")
def imports(cloud: Cloud) -> import_service_pb2_grpc.ImportServiceStub:
    internal = cloud.addresses.snapshot.internal
    if not internal:
        pytest.skip("needs the internal port: name snapshot-internal in --target too")
    return import_service_pb2_grpc.ImportServiceStub(cloud.open_channel(internal))


@pytest.fixture
def begin(imports: import_service_pb2_grpc.ImportServiceStub) -> Iterator[pb.BeginImportRequest]:
    """One that will do. Whatever becomes of it is undone."""
    operation_id = an_operation_id()
    request = pb.BeginImportRequest(
        key=f"{operation_id}/begin",
        operation_id=operation_id,
        source_region="elsewhere",
        account_id=ACCOUNT,
        instance_snapshot_id=an_unknown_id("isnap"),
        source_instance_snapshot_id=an_unknown_id("isnap"),
        name=a_name("copy"),
        instance_id=an_unknown_id("i"),
        cut_time=to_timestamp(utc_now()),
        members=[
            instance_snapshot_pb2.Member(
                disk_id=an_unknown_id("disk"),
                disk_name=f"disk {number}",
                is_system_disk=not number,
                snapshot_id=an_unknown_id("snap"),
                size_bytes=MIB,
            )
            for number in range(2)
        ],
    )
    yield request
    imports.WithdrawImport(withdrawal_of(request))


def finish_of(request: pb.BeginImportRequest) -> pb.FinishImportRequest:
    return pb.FinishImportRequest(key=request.key, instance_snapshot_id=request.instance_snapshot_id)


def withdrawal_of(request: pb.BeginImportRequest) -> pb.WithdrawImportRequest:
    return pb.WithdrawImportRequest(key=request.key, instance_snapshot_id=request.instance_snapshot_id)


def test_what_is_begun_is_listed_as_creating_with_the_members_that_are_to_come(
    cloud: Cloud, imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    imports.BeginImport(begin)
    [listed] = cloud.instance_snapshots_of(begin.instance_id)
    assert listed == cloud.instance_snapshot(begin.instance_snapshot_id)
    assert (listed.state, listed.operation_id) == (State.STATE_CREATING, begin.operation_id)
    assert (listed.name, listed.cut_time) == (begin.name, begin.cut_time)
    assert list(listed.members) == list(begin.members)
    assert (listed.source_region, listed.source_instance_snapshot_id) == (
        "elsewhere",
        begin.source_instance_snapshot_id,
    )
    assert listed.region == cloud.instance(cloud.an_instance().id).region
    imports.BeginImport(begin)
    assert cloud.instance_snapshot(begin.instance_snapshot_id) == listed


def test_what_is_finished_is_available_and_nothing_works_on_it(
    cloud: Cloud, imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    imports.BeginImport(begin)
    imports.FinishImport(finish_of(begin))
    copy = cloud.instance_snapshot(begin.instance_snapshot_id)
    assert (copy.state, copy.operation_id) == (State.STATE_AVAILABLE, "")
    imports.FinishImport(finish_of(begin))
    imports.BeginImport(begin)
    assert cloud.instance_snapshot(begin.instance_snapshot_id) == copy


def test_what_is_withdrawn_is_gone_and_stays_gone(
    cloud: Cloud, imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    imports.BeginImport(begin)
    for _ in range(2):
        imports.WithdrawImport(withdrawal_of(begin))
    with step_withdrawn() as refusal:
        imports.BeginImport(begin)
    assert refusal.metadata == {"key": begin.key}
    with step_withdrawn():
        imports.FinishImport(finish_of(begin))
    with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
        cloud.instance_snapshot(begin.instance_snapshot_id)


def test_an_undo_of_what_never_happened_does_nothing_and_refuses_the_late_call(
    imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    imports.WithdrawImport(withdrawal_of(begin))
    with step_withdrawn():
        imports.BeginImport(begin)


def test_what_is_being_received_cannot_be_deleted(
    cloud: Cloud, imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    imports.BeginImport(begin)
    with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_STATE", SNAPSHOT) as refusal:
        cloud.delete_instance_snapshot(begin.instance_snapshot_id)
    assert refusal.metadata == {
        "instance_snapshot_id": begin.instance_snapshot_id,
        "state": "CREATING",
        "operation_id": begin.operation_id,
    }


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("received", [False, True])
def test_what_comes_from_another_region_is_never_rolled_back_to(
    cloud: Cloud,
    imports: import_service_pb2_grpc.ImportServiceStub,
    begin: pb.BeginImportRequest,
    received: bool,
    validate_only: bool,
):
    imports.BeginImport(begin)
    if received:
        imports.FinishImport(finish_of(begin))
    with refused("FAILED_PRECONDITION", "INSTANCE_SNAPSHOT_COPIED", SNAPSHOT) as refusal:
        cloud.instance_snapshots.RollbackInstanceSnapshot(
            instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest(
                instance_snapshot_id=begin.instance_snapshot_id, validate_only=validate_only
            )
        )
    assert refusal.metadata == {
        "instance_snapshot_id": begin.instance_snapshot_id,
        "source_region": "elsewhere",
    }


def test_one_without_members_is_refused(
    imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    del begin.members[:]
    with invalid("members"):
        imports.BeginImport(begin)


def test_an_id_that_is_taken_is_refused_and_whose_it_is_stays(
    cloud: Cloud, imports: import_service_pb2_grpc.ImportServiceStub, begin: pb.BeginImportRequest
):
    whole = cloud.an_instance_snapshot(cloud.an_instance().id)
    begin.instance_snapshot_id = whole.id
    with invalid("instance_snapshot_id"):
        imports.BeginImport(begin)
    assert cloud.instance_snapshot(whole.id) == whole
