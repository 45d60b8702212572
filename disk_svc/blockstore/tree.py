"""The map from chunk number to chunk: one path-copying radix tree per version, with birth stamps.

Every tree has five levels of nodes with 128 children each, over chunks of 16 KiB: 512 TiB, whatever the volume's size,
so a resize touches no tree. Level 5 is the root, level 1 points to chunks, level 0 is the chunks themselves. A position
is (level, index); a node or chunk is stored once under the version that made it, its birth, and its position. So a
pointer is nothing but the birth of what stands below, 0 for a hole, and two trees with the same birth at the same
position share all that is below it.

A head writes in place what it has born itself. Anything older may be someone else's too: it is copied, and so is the
path to the root, once per head. A new version begins with its parent's root, which is why cuts, restores and clones
cost the same at any size, and why a read costs the same at any history.

There are no reference counts. What a copy replaces is either still held by the nearest live ancestor (its birth is not
above that version's id), or private to this head, or it goes to the reclaim queue, which finds out (reclaim.py).
"""

import struct
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass

import xxhash

from disk_svc.blockstore.chunks import CHUNK_BYTES, ZEROS, Encoded, bind, decode
from disk_svc.blockstore.garbage import Entry, GarbageQueue
from disk_svc.blockstore.layout import NODE_KEY, PAIR, Tables, Txn

FAN_OUT = 128
LEVELS = 5
SPANS = tuple(FAN_OUT**level for level in range(LEVELS + 1))
"""How many chunks lie under one position of each level."""
MAX_VOLUME_BYTES = SPANS[LEVELS] * CHUNK_BYTES

_CHECKSUM_BYTES = 8
_BIRTHS = struct.Struct(f"<{FAN_OUT}Q")
_HOLES = (0,) * FAN_OUT

Node = Sequence[int]
Position = tuple[int, int, int]


class Rotten(Exception):
    """A node or chunk is missing or not what was written. Whoever knows the object's id makes it a DataLoss."""

    def __init__(self, first_chunk: int) -> None:
        super().__init__(first_chunk)
        self.offset_bytes = first_chunk * CHUNK_BYTES


@dataclass(slots=True)
class Head:
    """The version being written to, and what decides the fate of the things it replaces."""

    version: int
    root: int
    live_ancestor: int
    alone: bool
    """No dead version stands between this head and its live ancestor."""


class Tree:
    """Every version's tree, as one transaction sees them."""

    def __init__(self, txn: Txn, tables: Tables) -> None:
        self._txn = txn
        self._tables = tables
        self._nodes: dict[Position, Node] = {}

    def node(self, birth: int, level: int, index: int) -> Node:
        """The births of a node's children; raises Rotten."""
        position = birth, level, index
        if (node := self._nodes.get(position)) is not None:
            return node
        node = self._nodes[position] = _BIRTHS.unpack_from(self._load(position), _CHECKSUM_BYTES)
        return node

    def root_checksum(self, root: int) -> str:
        """What a manifest says of a tree; raises Rotten. An empty tree has no root to be wrong."""
        return self._load((root, LEVELS, 0))[:_CHECKSUM_BYTES].hex() if root else ""

    def stored(self, birth: int, level: int, index: int) -> bool:
        """Whether a node's value is there at all, right or rotten."""
        position = birth, level, index
        return position in self._nodes or (
            self._txn.get(NODE_KEY.pack(*position), db=self._tables.nodes) is not None
        )

    def _load(self, position: Position) -> bytes:
        key = NODE_KEY.pack(*position)
        value = self._txn.get(key, db=self._tables.nodes)
        if value is None or value[:_CHECKSUM_BYTES] != _checksum(key, value[_CHECKSUM_BYTES:]):
            _, level, index = position
            raise Rotten(index * SPANS[level])
        return value

    def chunk(self, birth: int, chunk_no: int) -> bytes:
        if not birth:
            return ZEROS
        key = PAIR.pack(birth, chunk_no)
        content = decode(key, self._txn.get(key, db=self._tables.chunks))
        if content is None:
            raise Rotten(chunk_no)
        return content

    def differing(
        self, root: int, base_root: int, within: range, level: int = LEVELS, index: int = 0
    ) -> Iterator[tuple[int, int]]:
        """Each chunk number in the range where the tree and its base do not share, in order, with the birth there.

        Everything that reads is this walk: against a base of 0, the empty tree, it yields what is allocated.
        """
        if root == base_root:
            return
        mine = self.node(root, level, index) if root else _HOLES
        theirs = self.node(base_root, level, index) if base_root else _HOLES
        span = SPANS[level - 1]
        left = index * FAN_OUT
        for slot in range(max(0, within.start // span - left), min(FAN_OUT, -(-within.stop // span) - left)):
            if mine[slot] == theirs[slot]:
                continue
            if level == 1:
                yield left + slot, mine[slot]
            else:
                yield from self.differing(mine[slot], theirs[slot], within, level - 1, left + slot)

    def birth(self, root: int, chunk_no: int) -> int:
        birth = root
        for level in range(LEVELS, 0, -1):
            if not birth:
                return 0
            birth = self.node(birth, level, chunk_no // SPANS[level])[chunk_no // SPANS[level - 1] % FAN_OUT]
        return birth


class WritableTree(Tree):
    """The same inside the store's write transaction.

    Changed nodes are kept until `flush`: a batch of writes changes the same leaf many times.
    """

    def __init__(self, txn: Txn, tables: Tables, garbage: GarbageQueue) -> None:
        super().__init__(txn, tables)
        self._garbage = garbage
        self._changed: dict[Position, MutableSequence[int]] = {}

    def write(self, head: Head, chunk_no: int, chunk: Encoded | None) -> None:
        """Puts a whole chunk, or a hole. The caller stores `head.root` when it has changed."""
        old = self.birth(head.root, chunk_no)
        new = head.version if chunk else 0
        if chunk:
            key = PAIR.pack(new, chunk_no)
            self._txn.put(key, bind(key, chunk), db=self._tables.chunks)
        if old != new:
            self._point(head, chunk_no, new)
            self._drop(head, old, 0, chunk_no)

    def delete(self, birth: int, level: int, index: int) -> None:
        if level == 0:
            self._txn.delete(PAIR.pack(birth, index), db=self._tables.chunks)
        else:
            position = birth, level, index
            self._nodes.pop(position, None)
            self._changed.pop(position, None)
            self._txn.delete(NODE_KEY.pack(*position), db=self._tables.nodes)

    def flush(self) -> None:
        for position, node in self._changed.items():
            key = NODE_KEY.pack(*position)
            births = _BIRTHS.pack(*node)
            self._txn.put(key, _checksum(key, births) + births, db=self._tables.nodes)
        self._changed.clear()

    def _point(self, head: Head, chunk_no: int, new: int) -> None:
        """Makes the head's leaf point to `new`, copying on the way down what the head has not born."""
        birth = head.root
        for level in range(LEVELS, 0, -1):
            index = chunk_no // SPANS[level]
            if birth != head.version:
                position = head.version, level, index
                copy = list(self.node(birth, level, index)) if birth else [0] * FAN_OUT
                self._nodes[position] = self._changed[position] = copy
                if level == LEVELS:
                    head.root = head.version
                else:
                    self._change(head, level + 1, index // FAN_OUT)[index % FAN_OUT] = head.version
                self._drop(head, birth, level, index)
            birth = self.node(head.version, level, index)[chunk_no // SPANS[level - 1] % FAN_OUT]
        self._change(head, 1, chunk_no // FAN_OUT)[chunk_no % FAN_OUT] = new

    def _change(self, head: Head, level: int, index: int) -> MutableSequence[int]:
        position = head.version, level, index
        node = self._changed.get(position)
        if node is None:
            node = self._nodes[position] = self._changed[position] = list(self.node(*position))
        return node

    def _drop(self, head: Head, birth: int, level: int, index: int) -> None:
        """The head holds this no longer. Why each branch is safe: see reclaim.py."""
        if birth <= head.live_ancestor:  # a hole, or held there
            return
        if birth == head.version or head.alone:
            self.delete(birth, level, index)
        else:
            self._garbage.append(Entry(head.version, level, index, birth))


def _checksum(key: bytes, births: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + births)
