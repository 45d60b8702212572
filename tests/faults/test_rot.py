"""A bit of the store's file flips while nobody looks: it is never handed out as data, and is found before somebody needs it."""

import random
from pathlib import Path

import grpc
import pytest

from disk_svc.blockstore.chunks import CHUNK_BYTES
from stillpoint.disk.v1 import block_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import Finding, scrub
from tests.faults.stage import Stage, refusal_of

ROTTEN_AT = 3 * CHUNK_BYTES


def flip_a_bit_of(data: bytes, file: Path) -> None:
    """Wherever these bytes are in the file."""
    content = file.read_bytes()
    assert data in content
    file.write_bytes(content.replace(data, bytes([data[0] ^ 1]) + data[1:]))


def write(stage: Stage, disk_id: str, offset_bytes: int, data: bytes) -> None:
    extent = block_service_pb2.Extent(offset_bytes=offset_bytes, data=data)
    request = block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])
    for _durable in stage.blocks.WriteBlocks(iter([request])):
        pass


def findings(stage: Stage) -> tuple[Finding, ...]:
    result = scrub(stage.channels, lambda _length_bytes: None)
    assert not result.not_asked
    return result.findings


def test_a_flipped_bit_is_data_loss_with_its_place_wherever_it_is_read_and_for_the_scrub(stage: Stage):
    machine = stage.make_machine(data_disks=0)
    [disk_id] = machine.disk_ids
    stage.write(disk_id, "sound")
    noise = random.Random(5).randbytes(CHUNK_BYTES)  # which does not get smaller by compression
    write(stage, disk_id, ROTTEN_AT, noise)
    snapshot = stage.take_snapshot(machine)
    member = snapshot.members[0].snapshot_id
    assert findings(stage) == ()

    stage.kill(Service.DISK)
    flip_a_bit_of(noise, stage.store / "data.mdb")
    stage.restart(Service.DISK)
    for source in ({"disk_id": disk_id}, {"snapshot_id": member}):
        assert stage.read(**source) == "sound"
        request = block_service_pb2.ReadBlocksRequest(offset_bytes=ROTTEN_AT + 100, length_bytes=10, **source)
        reading = stage.blocks.ReadBlocks(request)
        with pytest.raises(grpc.RpcError):
            list(reading)
        assert reading.code() is grpc.StatusCode.DATA_LOSS
        refusal = refusal_of(reading)
        assert refusal.metadata == {"object_id": next(iter(source.values())), "offset_bytes": str(ROTTEN_AT)}
    [found] = findings(stage)
    assert found.resource_id in (disk_id, member)
    assert f"from byte {ROTTEN_AT} on" in found.problem

    write(stage, disk_id, ROTTEN_AT, noise)
    assert stage.outcome(stage.begin_deletion(snapshot.id).result().operation_id) == "SUCCEEDED"
    assert findings(stage) == ()
    stage.assert_nothing_left()
