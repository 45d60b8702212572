"""disk_svc is killed under write load: "the WriteBlocks answer means durable […] after `kill -9`" (design.md §8)."""

from stillpoint.disk.v1 import block_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.stage import BLOCK_BYTES, Stage
from tests.faults.streams import LoadWriter, number_in
from tests.support.waiting import eventually

BLOCKS = 64
ROUNDS = 3
WRITES_A_ROUND = 300


def last_write_to(block: int, up_to: int) -> int:
    """The latest number not above `up_to` that went to this block; 0 when none did."""
    return max(0, up_to - (up_to - block) % BLOCKS)


def test_every_acknowledged_write_is_there_after_disk_svc_was_killed_under_load_again_and_again(stage: Stage):
    machine = stage.make_machine(data_disks=2)
    first = dict.fromkeys(machine.disk_ids, 1)
    for _ in range(ROUNDS):
        writers = {
            disk_id: LoadWriter(stage, disk_id, blocks=BLOCKS, first=first[disk_id])
            for disk_id in machine.disk_ids
        }
        eventually(
            lambda: all(w.acknowledged >= first[d] + WRITES_A_ROUND for d, w in writers.items()),  # noqa: B023
            what="the load",
            within_seconds=30,
        )
        stage.kill(Service.DISK)
        for writer in writers.values():
            writer.join()
        stage.restart(Service.DISK)
        for disk_id, writer in writers.items():
            request = block_service_pb2.ReadBlocksRequest(disk_id=disk_id, length_bytes=BLOCKS * BLOCK_BYTES)
            content = bytearray(BLOCKS * BLOCK_BYTES)
            for piece in stage.blocks.ReadBlocks(request):
                content[piece.offset_bytes : piece.offset_bytes + len(piece.data)] = piece.data
            for block in range(BLOCKS):
                number = number_in(bytes(content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]))
                assert last_write_to(block, writer.acknowledged) <= number, "an acknowledged write is lost"
                assert number <= last_write_to(block, writer.sent)
                assert number == 0 or number % BLOCKS == block
            first[disk_id] = writer.sent + 1
    stage.assert_nothing_left()
