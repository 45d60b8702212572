"""Ruins a disk, the way a wrong `dd` would: everything goes through the service, as any write does."""

import random
from collections.abc import Iterator

from demo.filesystems import MIB, Plan
from stillpoint.disk.v1.block_service_pb2 import Extent, WriteBlocksRequest
from stillpoint_cli.connections import Connections

# ext4 keeps copies of its superblock at the beginning of some groups, and a group is 128 MiB. e2fsck mends the first
# one from those, so they go too.
_GROUP_BYTES = 128 * MIB
_HEAD_BYTES = MIB
_REGIONS = 64
_REGION_BYTES = 256 * 1024


def damage_disk(connections: Connections, disk_id: str, plan: Plan) -> int:
    """Overwrites superblocks and regions anywhere on the disk with random bytes; returns how many bytes."""
    written = 0
    for answer in connections.blocks.WriteBlocks(_messages(disk_id, plan)):
        written = answer.bytes_durable
    return written


def _messages(disk_id: str, plan: Plan) -> Iterator[WriteBlocksRequest]:
    for offset, size in _regions(plan):
        extent = Extent(offset_bytes=offset, data=random.randbytes(size))
        yield WriteBlocksRequest(disk_id=disk_id, extents=[extent])


def _regions(plan: Plan) -> Iterator[tuple[int, int]]:
    yield 0, _HEAD_BYTES
    yield from ((group, _REGION_BYTES) for group in range(_GROUP_BYTES, plan.size_bytes, _GROUP_BYTES))
    if plan.log_bytes:
        yield plan.size_bytes, _HEAD_BYTES
    for _ in range(_REGIONS):
        yield random.randrange((plan.disk_bytes - _REGION_BYTES) // 4096) * 4096, _REGION_BYTES
