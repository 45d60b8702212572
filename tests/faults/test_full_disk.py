"""The disk under the block store is full, really: "refuses writes and snapshots with RESOURCE_EXHAUSTED, loses nothing, and
recovers when space comes back".
"""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from disk_svc.blockstore.chunks import CHUNK_BYTES
from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import block_service_pb2, disk_service_pb2, disk_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import scrub
from tests.faults.conftest import PATIENT_SECONDS
from tests.faults.stage import REST_SECONDS, Stage, new_request_id, refusal_of
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.waiting import eventually
from tests.unit.blockstore.helpers import MIB, noise

RESERVE_BYTES = 64 * MIB
"""What the store keeps for deletions."""
ROOM_BYTES = 12 * MIB
STORE_FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("full") / "disk", RESERVE_BYTES + ROOM_BYTES) as disk:
        yield disk


@pytest.fixture(scope="module")
def stage(disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(
        tmp_path_factory.mktemp("f") / "s", deadline_seconds=PATIENT_SECONDS, store=disk.folder / "store"
    )
    yield stage
    stage.close()


def make_disk(stage: Stage, size_bytes: int = 256 * MIB, source_snapshot_id: str = "") -> Any:
    """A future."""
    return stage.disks.CreateDisk.future(
        disk_service_pb2.CreateDiskRequest(
            request_id=new_request_id(),
            name="large",
            size_bytes=size_bytes,
            source_snapshot_id=source_snapshot_id,
        ),
        timeout=REST_SECONDS,
    )


def piece(number: int) -> bytes:
    """A chunk that says which it is and does not get smaller by compression."""
    return number.to_bytes(8) + noise(CHUNK_BYTES - 8)


def write_until_refused(stage: Stage, disk_id: str, first: int) -> tuple[int, Any]:
    """In one stream, piece by piece from that number on; how many are durable by then, and the stream."""

    def messages() -> Iterator[block_service_pb2.WriteBlocksRequest]:
        for number in range(first, first + 100 * MIB // CHUNK_BYTES):
            extent = block_service_pb2.Extent(offset_bytes=number * CHUNK_BYTES, data=piece(number))
            yield block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])

    writing = stage.blocks.WriteBlocks(messages(), timeout=REST_SECONDS)
    durable = 0
    with pytest.raises(grpc.RpcError):  # noqa: PT012 - where it ends is what is asked
        for answer in writing:
            durable = answer.messages_durable
    return first + durable, writing


def assert_pieces(stage: Stage, durable: int, *, disk_id: str = "", snapshot_id: str = "") -> None:
    request = block_service_pb2.ReadBlocksRequest(length_bytes=durable * CHUNK_BYTES)
    if disk_id:
        request.disk_id = disk_id
    else:
        request.snapshot_id = snapshot_id
    content = bytearray(durable * CHUNK_BYTES)
    for read in stage.blocks.ReadBlocks(request):
        content[read.offset_bytes : read.offset_bytes + len(read.data)] = read.data
    for number in range(durable):
        assert content[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES] == piece(number), number


def why(call: Any) -> tuple[grpc.StatusCode, str]:
    refusal = refusal_of(call)
    return refusal.code, refusal.reason


def delete_snapshot(stage: Stage, snapshot_id: str) -> None:
    request = disk_snapshot_service_pb2.DeleteDiskSnapshotRequest(
        request_id=new_request_id(), snapshot_id=snapshot_id
    )
    deleted = stage.disk_snapshots.DeleteDiskSnapshot(request, timeout=REST_SECONDS)
    assert stage.outcome(deleted.operation_id) == "SUCCEEDED"


def delete_disk(stage: Stage, disk_id: str) -> None:
    request = disk_service_pb2.DeleteDiskRequest(request_id=new_request_id(), disk_id=disk_id)
    assert stage.outcome(stage.disks.DeleteDisk(request, timeout=REST_SECONDS).operation_id) == "SUCCEEDED"


def take_disk_snapshot(stage: Stage, disk_id: str) -> Any:
    """A future."""
    return stage.disk_snapshots.CreateDiskSnapshot.future(
        disk_snapshot_service_pb2.CreateDiskSnapshotRequest(request_id=new_request_id(), disk_id=disk_id),
        timeout=REST_SECONDS,
    )


def asking_for_room(
    stage: Stage, machine: Any, disk_id: str, snapshot_id: str
) -> dict[str, Callable[[], Any]]:
    """Everything that needs some, as futures."""
    small = instance_service_pb2.NewDisk(size_bytes=MIB)
    return {
        "an instance snapshot": lambda: stage.begin_snapshot(machine),
        "a disk snapshot": lambda: take_disk_snapshot(stage, disk_id),
        "a disk": lambda: make_disk(stage),
        "a disk from a snapshot": lambda: make_disk(stage, source_snapshot_id=snapshot_id),
        "an instance": lambda: stage.instances.CreateInstance.future(
            instance_service_pb2.CreateInstanceRequest(
                request_id=new_request_id(), name="no-room", system_disk=small
            ),
            timeout=REST_SECONDS,
        ),
    }


def assert_all_is_well(stage: Stage) -> None:
    stage.assert_nothing_left()
    found = scrub(stage.channels, lambda _length_bytes: None)
    assert not found.not_asked
    assert found.findings == ()


def assert_writable(stage: Stage, disk_id: str) -> None:
    def accepts() -> bool:
        extent = block_service_pb2.Extent(data=b"room again")
        writing: Any = stage.blocks.WriteBlocks(
            iter([block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])]),
            timeout=REST_SECONDS,
        )
        try:
            return len(list(writing)) == 1
        except grpc.RpcError:
            assert why(writing) == STORE_FULL
            return False

    eventually(accepts, what="room for a write", within_seconds=REST_SECONDS)


def test_a_store_on_a_full_disk_refuses_what_needs_room_keeps_all_it_has_and_goes_on_when_there_is_some(
    stage: Stage, disk: SmallDisk
):
    machine = stage.make_machine()
    stage.fill(machine, "first")
    whole = stage.take_snapshot(machine)
    large = make_disk(stage).result().disk.id
    durable, writing = write_until_refused(stage, large, 0)
    assert why(writing) == STORE_FULL
    assert durable * CHUNK_BYTES > ROOM_BYTES // 2
    [kept] = [each.snapshot_id for each in whole.members if each.disk_id == machine.disk_ids[0]]

    # A snapshot takes less than a write: what is left for one goes too.
    disk.fill(leaving_bytes=RESERVE_BYTES - MIB)
    demands = asking_for_room(stage, machine, large, kept)
    assert {what: why(ask()) for what, ask in demands.items()} == dict.fromkeys(demands, STORE_FULL)
    stage.assert_nothing_left()
    assert stage.states_of(machine) == ["AVAILABLE"]

    # Killed and started again where there is no room, it has what it had.
    stage.kill(Service.DISK)
    stage.restart(Service.DISK)
    assert_pieces(stage, durable, disk_id=large)
    assert stage.word_on(machine) == "first"
    assert why(write_until_refused(stage, large, durable)[1]) == STORE_FULL

    # What gives room back works without any, and so does what takes none.
    stage.stop_machine(machine)
    rolled_back = stage.begin_rollback(whole.id).result()
    assert stage.outcome(rolled_back.operation_id) == "SUCCEEDED"
    assert stage.outcome(stage.begin_deletion(whole.id).result().operation_id) == "SUCCEEDED"
    assert stage.states_of(machine) == []
    stage.instances.StartInstance(instance_service_pb2.StartInstanceRequest(instance_id=machine.id))
    delete_disk(stage, large)
    assert_writable(stage, machine.disk_ids[0])
    again = stage.take_snapshot(machine)
    larger = make_disk(stage).result().disk.id
    refilled, writing = write_until_refused(stage, larger, 0)
    assert why(writing) == STORE_FULL
    assert refilled > durable * 3 // 4

    # Or the disk is made larger under it.
    disk.resize(disk.size_bytes + 2 * ROOM_BYTES)
    more, _ = write_until_refused(stage, larger, refilled)
    assert more > refilled
    disk.resize(disk.size_bytes + ROOM_BYTES)
    snapshot = take_disk_snapshot(stage, larger).result().snapshot.id
    assert_writable(stage, machine.disk_ids[0])
    stage.come_to_rest()
    assert_pieces(stage, more, snapshot_id=snapshot)
    assert [each.id for each in stage.snapshots_of(machine)] == [again.id]
    assert_all_is_well(stage)


def test_when_a_neighbour_takes_the_last_byte_nothing_is_lost_and_deletions_still_work(
    stage: Stage, disk: SmallDisk
):
    machine = stage.make_machine()
    stage.fill(machine, "first")
    whole = stage.take_snapshot(machine)
    stage.fill(machine, "second")
    spare = make_disk(stage).result().disk.id
    disk.fill()
    assert disk.free_bytes == 0
    assert why(stage.begin_snapshot(machine)) == STORE_FULL
    assert why(make_disk(stage)) == STORE_FULL
    stage.kill(Service.DISK)
    stage.restart(Service.DISK)
    assert stage.word_on(machine) == "second"

    # The pages that they need are free in the store's own file.
    assert stage.outcome(stage.begin_deletion(whole.id).result().operation_id) == "SUCCEEDED"
    delete_disk(stage, spare)
    disk.empty()
    assert_writable(stage, machine.disk_ids[0])
    stage.take_snapshot(machine)
    assert_all_is_well(stage)
