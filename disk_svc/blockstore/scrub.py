"""Reading what a version holds, to find what has rotted before somebody needs it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import NamedTuple

from disk_svc.blockstore.catalogue import Catalogue
from disk_svc.blockstore.chunks import CHUNK_BYTES
from disk_svc.blockstore.errors import DataLoss
from disk_svc.blockstore.garbage import GarbageQueue
from disk_svc.blockstore.interface import Scrubbed
from disk_svc.blockstore.layout import Tables, Txn
from disk_svc.blockstore.records import SnapshotRecord
from disk_svc.blockstore.tree import FAN_OUT, LEVELS, SPANS, Position, Rotten, Tree
from disk_svc.blockstore.versions import Versions

_SLICE_CHUNKS = 1024
"""What one read transaction checks: it must not keep freed pages from reuse for long."""


class _Checked(NamedTuple):
    first: int
    end: int
    sound: bool


def scrub_version(
    reading: Callable[[], AbstractContextManager[Txn]], tables: Tables, version: int
) -> Iterator[Scrubbed]:
    """Checks what this version holds and its live ancestor does not: that is checked with the ancestor."""
    cursor = 0
    while cursor < SPANS[LEVELS]:
        with reading() as txn:
            versions = Versions(txn, tables, GarbageQueue(txn, tables))
            record = versions.find(version)
            if record is None or not record.state.live:
                return
            tree = Tree(txn, tables)
            ancestor = versions.live_ancestor(version)
            checked = list(islice(_check(tree, (record.root, LEVELS, 0), ancestor, cursor), _SLICE_CHUNKS))
            if (
                not cursor
                and all(piece.sound for piece in checked)
                and not _as_sealed(txn, tables, tree, record.owner)
            ):
                checked.insert(0, _Checked(0, 0, sound=False))
        yield Scrubbed(
            CHUNK_BYTES * sum(piece.sound for piece in checked),
            tuple(DataLoss(record.owner, piece.first * CHUNK_BYTES) for piece in checked if not piece.sound),
        )
        cursor = checked[-1].end if len(checked) >= _SLICE_CHUNKS else SPANS[LEVELS]


def _as_sealed(txn: Txn, tables: Tables, tree: Tree, owner: str) -> bool:
    catalogue = Catalogue(txn, tables)
    snapshot = catalogue.find_snapshot(owner)
    if not isinstance(snapshot, SnapshotRecord) or snapshot.root_checksum is None:
        return True
    try:
        return tree.root_checksum(catalogue.content(owner).root) == snapshot.root_checksum
    except Rotten:
        return False


def _check(tree: Tree, position: Position, ancestor: int, cursor: int) -> Iterator[_Checked]:
    birth, level, index = position
    if birth <= ancestor or (index + 1) * SPANS[level] <= cursor:
        return
    whole = _Checked(index * SPANS[level], (index + 1) * SPANS[level], sound=True)
    try:
        if level == 0:
            tree.chunk(birth, index)
            yield whole
            return
        node = tree.node(birth, level, index)
    except Rotten:
        yield whole._replace(sound=False)
        return
    for slot, child in enumerate(node):
        yield from _check(tree, (child, level - 1, index * FAN_OUT + slot), ancestor, cursor)
