"""The PostgreSQL server under all three services goes away and comes back."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_service_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.conftest import PATIENT_SECONDS
from tests.faults.gates import WAIT_SECONDS
from tests.faults.positions import (
    bring_into_position,
    creation_on,
    deletion_on,
    machines_for,
    rollback_on,
    states,
    words,
)
from tests.faults.stage import REST_SECONDS, Machine, Stage, new_request_id, refusal_of
from tests.support.postgresql import WheelServer

AT_ONCE = 32
"""As many as a service has connections, by then, to a server that is no more."""


@pytest.fixture
def stage(own_postgresql: WheelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(
        tmp_path_factory.mktemp("away") / "s",
        deadline_seconds=PATIENT_SECONDS,
        database_urls={service: own_postgresql.make_database() for service in Service},
    )
    yield stage
    stage.close()


def readings(stage: Stage, machine: Machine) -> list[Callable[[], Any]]:
    """Of each service, one."""
    return [
        lambda: stage.instances.GetInstance.future(
            instance_service_pb2.GetInstanceRequest(instance_id=machine.id), timeout=REST_SECONDS
        ),
        lambda: stage.disks.ListDisks.future(disk_service_pb2.ListDisksRequest(), timeout=REST_SECONDS),
        lambda: stage.snapshots.ListInstanceSnapshots.future(
            instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(), timeout=REST_SECONDS
        ),
    ]


def read_many(stage: Stage, machine: Machine) -> None:
    for call in [ask() for ask in readings(stage, machine) for _ in range(AT_ONCE)]:
        call.result()


def test_while_it_is_away_every_request_is_unavailable_and_when_it_is_back_the_first_ones_succeed(
    stage: Stage, own_postgresql: WheelServer
):
    machine, request_id = stage.make_machine(), new_request_id()
    taken = stage.take_snapshot(machine)
    [operation] = [
        each.id
        for each in stage.operations(Service.SNAPSHOT)
        .ListOperations(operation_service_pb2.ListOperationsRequest())
        .operations
    ]
    read_many(stage, machine)
    own_postgresql.stop()
    refused = [ask() for ask in readings(stage, machine) for _ in range(AT_ONCE)]
    refused.append(stage.begin_snapshot(machine, request_id))
    reasons = {(refusal.code, refusal.reason) for refusal in map(refusal_of, refused)}
    assert reasons == {(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")}
    watching = stage.operations(Service.SNAPSHOT).WatchOperation(
        operation_service_pb2.WatchOperationRequest(operation_id=operation), timeout=REST_SECONDS
    )
    assert refusal_of(watching).reason == "DATABASE_UNAVAILABLE"
    own_postgresql.start()

    read_many(stage, machine)
    answer = stage.begin_snapshot(machine, request_id).result()
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    assert [each.id for each in stage.snapshots_of(machine)] == [answer.instance_snapshot.id, taken.id]
    stage.assert_nothing_left()


def test_what_had_begun_when_it_went_away_goes_on_when_it_is_back(stage: Stage, own_postgresql: WheelServer):
    creating = machines_for(
        stage, ["LeaseInstance", "CreateConsistencyPoint", "FinishConsistencyPoint"], creation_on
    )
    rolling_back = machines_for(stage, ["ReserveRollback", "ApplyRollback"], rollback_on)
    deleting = machines_for(stage, ["ApplySnapshotDeletion"], deletion_on)
    creations = bring_into_position(stage, creating)
    rollbacks = bring_into_position(stage, rolling_back)
    deletions = bring_into_position(stage, deleting)
    positions = {
        f"{operation} {place}": position
        for operation, group in (("create", creations), ("roll back", rollbacks), ("delete", deletions))
        for place, position in group.items()
    }
    own_postgresql.stop()
    for position in positions.values():
        position.gate.let_go()
    with ThreadPoolExecutor(len(positions)) as threads:
        ended = dict(
            zip(
                positions,
                threads.map(lambda position: position.gate.ended.result(WAIT_SECONDS), positions.values()),
                strict=True,
            )
        )
    # What came before the call was refused for now; what came after it had its effect, of which its caller cannot take note.
    assert {place for place, end in ended.items() if end == "OK"} == {
        place for place in positions if " after " in place
    }
    own_postgresql.start()
    stage.come_to_rest()

    assert states(stage, creations) == dict.fromkeys(creations, "AVAILABLE")
    assert words(stage, rollbacks) == dict.fromkeys(rollbacks, "old")
    assert states(stage, deletions) == dict.fromkeys(deletions, "")
    for position in positions.values():
        assert stage.outcome(position.again().result().operation_id) == "SUCCEEDED"
    stage.assert_nothing_left()
