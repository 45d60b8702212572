"""How one chunk is stored: checksum, flag, content.

The expensive half, compressing and hashing the content, needs no transaction and runs in the caller's thread. The
cheap half binds the content's digest to the key, which is known only inside the transaction: a chunk that LMDB, a
disk or a bug hands back for another key fails its checksum just like a flipped bit.
"""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import xxhash
import zstandard

CHUNK_BYTES = 16 * 1024
ZEROS = bytes(CHUNK_BYTES)

_CHECKSUM_BYTES = 8
_RAW = b"\x00"
_ZSTD = b"\x01"


class Encoded(NamedTuple):
    """A chunk's content, ready to be bound to a key."""

    digest: bytes
    body: bytes


class Whole(NamedTuple):
    """A chunk to be replaced without looking at what it was."""

    chunk_no: int
    chunk: Encoded | None

    @property
    def room_bytes(self) -> int:
        return len(self.chunk.body) if self.chunk else 0


class Part(NamedTuple):
    """Some bytes of a chunk; the rest stays as it is, which only the transaction knows."""

    chunk_no: int
    start: int
    data: bytes

    @property
    def room_bytes(self) -> int:
        return CHUNK_BYTES


class _Codec(threading.local):
    """zstd's contexts are not for two threads at once."""

    def __init__(self) -> None:
        # Levels above 1 cost more time than a disk gains by them on 16 KiB.
        self.compress = zstandard.ZstdCompressor(level=1).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_codec = _Codec()


def encode(content: bytes) -> Encoded | None:
    """The stored form of one whole chunk; None for a chunk of zeros, which is stored as a hole."""
    if content == ZEROS:
        return None
    packed = _codec.compress(content)
    body = _ZSTD + packed if len(packed) < CHUNK_BYTES else _RAW + content
    return Encoded(xxhash.xxh3_64_digest(body), body)


def bind(key: bytes, chunk: Encoded) -> bytes:
    return xxhash.xxh3_64_digest(key + chunk.digest) + chunk.body


def decode(key: bytes, value: bytes | None) -> bytes | None:
    """The chunk's CHUNK_BYTES bytes; None when they are missing or not what was written."""
    if value is None:
        return None
    body = memoryview(value)[_CHECKSUM_BYTES:]
    if value[:_CHECKSUM_BYTES] != xxhash.xxh3_64_digest(key + xxhash.xxh3_64_digest(body)):
        return None
    return bytes(body[1:]) if body[:1] == _RAW else _codec.decompress(body[1:])


def split(offset_bytes: int, data: bytes) -> Iterator[Whole | Part]:
    """The pieces, chunk by chunk, of one extent."""
    done = 0
    while done < len(data):
        chunk_no, start = divmod(offset_bytes + done, CHUNK_BYTES)
        piece = data[done : done + CHUNK_BYTES - start]
        yield Whole(chunk_no, encode(piece)) if len(piece) == CHUNK_BYTES else Part(chunk_no, start, piece)
        done += len(piece)
