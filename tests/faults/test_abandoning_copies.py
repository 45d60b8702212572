"""Copies whose other region is gone for good: they are abandoned here, and there when it is back after all."""

from stillpoint.disk.v1 import disk_snapshot_service_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults import test_copying, test_copying_machines
from tests.faults.gates import WAIT_SECONDS
from tests.faults.regions import Regions
from tests.faults.stage import Stage, refusal_of, state_name

DISK, SNAPSHOT = Service.DISK, Service.SNAPSHOT


def delete_disk_snapshot(stage: Stage, snapshot_id: str) -> None:
    request = disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id)
    answer = stage.disk_snapshots.DeleteDiskSnapshot(request)
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"


def test_a_copy_of_a_disk_snapshot_frees_its_source_and_leaves_nothing_there_but_what_had_arrived_whole(
    regions: Regions,
):
    earlier = regions.copies_in_the_south()
    positions = test_copying.bring_into_position(regions, test_copying.at(test_copying.STEPS, regions.gates))
    operations = [operation.id for operation in regions.north.unfinished(DISK)]
    for operation_id in operations:
        assert regions.north.abandon(operation_id, DISK) == ["copy reservation"]
        assert regions.north.outcome(operation_id) == "ABANDONED"
    for position in positions.values():
        delete_disk_snapshot(regions.north, position.snapshot_id)
    regions.north.assert_nothing_left()

    assert len(regions.copies_in_the_south() - earlier) == len(positions) - 1
    for operation_id in operations:
        abandon_there(regions.south, operation_id, DISK)
    arrived = regions.copies_in_the_south() - earlier
    assert len(arrived) == 1, "of what FinishImport has ended"
    for position in positions.values():
        position.gate.let_go()
    assert positions["before BeginImport"].gate.ended.result(WAIT_SECONDS).startswith("ABORTED")
    assert positions["before FinishImport"].gate.ended.result(WAIT_SECONDS).startswith("ABORTED")
    assert regions.copies_in_the_south() - earlier == arrived
    regions.assert_nothing_left()


def abandon_there(stage: Stage, operation_id: str, service: Service) -> None:
    """An operation that never got so far is unknown there, and stays so."""
    request = operation_service_pb2.AbandonOperationRequest(
        operation_id=operation_id, reason="The other region is gone."
    )
    call = stage.operations(service).AbandonOperation.future(request)
    assert call.exception() is None or refusal_of(call).reason == "OPERATION_NOT_FOUND"


def test_a_copy_of_a_machines_snapshot_frees_it_and_can_be_deleted_there(regions: Regions):
    positions = test_copying_machines.bring_into_position(regions, test_copying_machines.places_of(regions))
    operations = [operation.id for operation in regions.north.unfinished(SNAPSHOT)]
    copies = set[str]()
    for operation_id in operations:
        regions.north.abandon(operation_id, SNAPSHOT, Service.COMPUTE)
        before = {operation.id for operation in regions.north.unfinished(DISK)}
        regions.north.abandon(operation_id, DISK)
        copies |= before
    regions.north.come_to_rest()
    for position in positions.values():
        deletion = regions.north.begin_deletion(position.source.id).result()
        assert regions.north.outcome(deletion.operation_id) == "SUCCEEDED"
    regions.north.assert_nothing_left()

    for operation_id in operations:
        abandon_there(regions.south, operation_id, SNAPSHOT)
    for position in positions.values():
        position.gate.let_go()
    regions.north.assert_nothing_left()
    for operation_id in copies:
        abandon_there(regions.south, operation_id, DISK)
    for position in positions.values():
        for copy in test_copying_machines.copies_of(regions, position):
            assert state_name(copy) in ("ERROR", "AVAILABLE")
            deletion = regions.south.begin_deletion(copy.id).result()
            assert regions.south.outcome(deletion.operation_id) == "SUCCEEDED"
    regions.assert_nothing_left()
