"""What the tests of every store share."""

import random

from disk_svc.blockstore import BlockStore, DataLoss, Extent

MIB = 1024**2


def write(store: BlockStore, volume_id: str, offset_bytes: int, data: bytes) -> None:
    store.write(store.open_writer(volume_id), [Extent(offset_bytes, data)]).result()


def noise(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


def damages(store: BlockStore) -> list[DataLoss]:
    """All that a scrub finds."""
    return [loss for part in store.scrub() for loss in part.lost]
