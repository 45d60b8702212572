"""The connection to PostgreSQL breaks in the middle of a commit: before the server has it, or when it is done and nobody has
said so. What has become of the transaction nobody knows then, and nobody says.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2
from stillpoint.disk.v1 import disk_pb2, disk_service_pb2
from stillpoint.operation.v1 import event_service_pb2, event_service_pb2_grpc
from stillpoint_cli.addresses import Service
from tests.faults.conftest import PATIENT_SECONDS
from tests.faults.positions import creation_on, deletion_on, rollback_on
from tests.faults.stage import DISK_BYTES, REST_SECONDS, Stage, new_request_id, refusal_of
from tests.support.postgresql import WheelServer
from tests.support.tcp_proxy import Cut, TcpProxy
from tests.support.waiting import eventually

Wires = Mapping[Service, TcpProxy]
"""Between each service and its database."""


@pytest.fixture(scope="module")
def wires(_stoppable: WheelServer) -> Iterator[Wires]:
    wires = {service: TcpProxy(_stoppable.socket_path) for service in Service}
    yield wires
    for wire in wires.values():
        wire.stop()


@pytest.fixture(scope="module")
def cut_stage(
    _stoppable: WheelServer, wires: Wires, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    def through(wire: TcpProxy, url: str) -> str:
        parsed = sa.make_url(url).set(host="127.0.0.1", port=wire.port, query={})
        return parsed.render_as_string(hide_password=False)

    urls = {service: through(wires[service], _stoppable.make_database()) for service in Service}
    stage = Stage(tmp_path_factory.mktemp("cut") / "s", deadline_seconds=PATIENT_SECONDS, database_urls=urls)
    yield stage
    stage.close()


@pytest.fixture
def stage(own_postgresql: WheelServer, cut_stage: Stage) -> Stage:
    """`own_postgresql` says that these are tests of PostgreSQL alone."""
    return cut_stage


def events(stage: Stage, service: Service, resource_id: str, event_type: str) -> int:
    log = event_service_pb2_grpc.EventServiceStub(stage.channel(service))
    wanted = event_service_pb2.ListEventsRequest.Filter(resource_id=resource_id, type=event_type)
    return len(log.ListEvents(event_service_pb2.ListEventsRequest(filter=wanted, page_size=500)).events)


@pytest.mark.parametrize("when", Cut)
def test_a_request_whose_acceptance_is_cut_is_unavailable_and_asked_again_it_has_one_effect(
    stage: Stage, wires: Wires, when: Cut
):
    machine, create = creation_on(stage)
    rolled_back, roll_back = rollback_on(stage)
    _, delete = deletion_on(stage)
    new = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES)
    name = f"new-{when.name.lower()}"
    begin: list[tuple[Service, Callable[[str], Any]]] = [
        (Service.SNAPSHOT, create),
        (Service.SNAPSHOT, roll_back),
        (Service.SNAPSHOT, delete),
        (
            Service.COMPUTE,
            lambda request_id: stage.instances.CreateInstance.future(
                instance_service_pb2.CreateInstanceRequest(request_id=request_id, name=name, system_disk=new),
                timeout=REST_SECONDS,
            ),
        ),
        (
            Service.DISK,
            lambda request_id: stage.disks.CreateDisk.future(
                disk_service_pb2.CreateDiskRequest(request_id=request_id, name=name, size_bytes=DISK_BYTES),
                timeout=REST_SECONDS,
            ),
        ),
    ]
    for service, ask in begin:
        request_id = new_request_id()
        was_cut = wires[service].cut_at_commit(request_id.encode(), when)
        refusal = refusal_of(ask(request_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert was_cut.is_set()
        operations = {ask(request_id).result().operation_id for _ in range(2)}
        assert len(operations) == 1
        assert stage.outcome(operations.pop()) == "SUCCEEDED"
    assert stage.states_of(machine) == ["AVAILABLE"]
    assert stage.word_on(rolled_back) == "old"
    named = instance_service_pb2.ListInstancesRequest.Filter(name=name)
    found = stage.instances.ListInstances(instance_service_pb2.ListInstancesRequest(filter=named))
    assert len(found.instances) == 1
    disks = disk_service_pb2.ListDisksRequest.Filter(name=name)
    listed = stage.disks.ListDisks(disk_service_pb2.ListDisksRequest(filter=disks)).disks
    assert len([each for each in listed if not each.instance_id]) == 1
    stage.assert_nothing_left()


@pytest.mark.parametrize("when", Cut)
def test_a_mutation_of_rows_alone_whose_commit_is_cut_is_unavailable_and_asked_again_it_is_done_once(
    stage: Stage, wires: Wires, when: Cut
):
    machine = stage.make_machine()
    [disk_id, _] = machine.disk_ids
    request_id = new_request_id()

    def change() -> list[Any]:
        instance = instance_pb2.Instance(id=machine.id, description="changed")
        disk = disk_pb2.Disk(id=disk_id, description="changed")
        return [
            stage.instances.UpdateInstance.future(
                instance_service_pb2.UpdateInstanceRequest(request_id=request_id, instance=instance)
            ),
            stage.disks.UpdateDisk.future(
                disk_service_pb2.UpdateDiskRequest(request_id=request_id, disk=disk)
            ),
        ]

    for service in (Service.COMPUTE, Service.DISK):
        wires[service].cut_at_commit(request_id.encode(), when)
    assert {refusal_of(call).reason for call in change()} == {"DATABASE_UNAVAILABLE"}
    done = "changed" if when is Cut.AFTER else ""
    assert (stage.instance(machine).description, stage.disk(disk_id).description) == (done, done)
    for call in (*change(), *change()):
        call.result()
    assert (stage.instance(machine).description, stage.disk(disk_id).description) == ("changed", "changed")
    assert events(stage, Service.COMPUTE, machine.id, "update_instance") == 1
    assert events(stage, Service.DISK, disk_id, "update_disk") == 1
    stage.assert_nothing_left()


@pytest.mark.parametrize("when", Cut)
@pytest.mark.parametrize(
    "cut_at",
    [
        Service.SNAPSHOT,
        *(pytest.param(each, marks=pytest.mark.by_hand) for each in (Service.COMPUTE, Service.DISK)),
    ],
)
def test_a_saga_one_of_whose_commits_is_cut_at_itself_or_at_a_participant_goes_on(
    stage: Stage, wires: Wires, when: Cut, cut_at: Service
):
    place = {
        Service.SNAPSHOT: "after CreateConsistencyPoint",
        Service.DISK: "before CreateConsistencyPoint",
        Service.COMPUTE: "before LeaseInstance",
    }[cut_at]
    machine, create = creation_on(stage)
    stopped, roll_back = rollback_on(stage)
    at_rollback = {
        Service.SNAPSHOT: "after ApplyRollback",
        Service.DISK: "before ApplyRollback",
        Service.COMPUTE: "before ReleaseInstance",
    }[cut_at]
    calls: dict[str, Any] = {}
    cuts = []
    for gate_name, begin in ((place, create), (at_rollback, roll_back)):
        gate, call = stage.stopped_at(gate_name, partial(begin, new_request_id()))
        [operation] = {each.id for each in stage.unfinished(Service.SNAPSHOT)} - calls.keys()
        calls[operation] = call
        cuts.append(wires[cut_at].cut_at_commit(operation.encode(), when))
        gate.let_go()
    for operation, call in calls.items():
        assert call.result().operation_id == operation
        assert stage.outcome(operation) == "SUCCEEDED"
    assert all(each.is_set() for each in cuts)
    eventually(lambda: stage.states_of(machine) == ["AVAILABLE"], what="the snapshot")
    assert stage.word_on(stopped) == "old"
    assert len(stage.disk_snapshots_of(machine)) == len(machine.disk_ids)
    stage.assert_nothing_left()
