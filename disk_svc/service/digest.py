"""One SHA-256 for what a range of an object holds, the same on any store and in any region.

The range is divided into pieces at the multiples of 16 KiB; its first and last piece may be shorter. Every piece that has
a byte other than zero adds to the hash, in order, its offset in the object, as 8 bytes with the highest first, and then
its bytes. A piece that is all zero adds nothing, whether it is stored or a hole. So a range costs what is stored in it.
"""

import hashlib

from disk_svc.blockstore import BlockStore
from disk_svc.service import ranges

PIECE_BYTES = 16 * 1024
_READ_BYTES = 1 << 20
_ZEROS = bytes(PIECE_BYTES)


def sha256(store: BlockStore, object_id: str, offset_bytes: int, length_bytes: int) -> bytes:
    """Raises what the store raises, DataLoss among it."""
    end = offset_bytes + length_bytes
    digest = hashlib.sha256()
    done = offset_bytes
    for stored in ranges.allocated(store, object_id, offset_bytes, end):
        # Whole pieces, wherever this store's ranges begin and end.
        start = max(done, stored.offset_bytes // PIECE_BYTES * PIECE_BYTES)
        done = max(done, min(end, -(-stored.end_bytes // PIECE_BYTES) * PIECE_BYTES))
        while start < done:
            # Up to a piece's border, so that the next reading begins with a whole one.
            stop = min(done, (start + _READ_BYTES) // PIECE_BYTES * PIECE_BYTES)
            _add(digest, start, store.read(object_id, start, stop - start))
            start = stop
    return digest.digest()


def _add(digest: "hashlib._Hash", offset_bytes: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        length = PIECE_BYTES - (offset_bytes + at) % PIECE_BYTES
        piece = data[at : at + length]
        if piece != _ZEROS[: len(piece)]:
            digest.update((offset_bytes + at).to_bytes(8))
            digest.update(piece)
        at += len(piece)
