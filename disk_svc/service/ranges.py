"""Walks over what the block store says of an object, a bounded answer at a time."""

from collections.abc import Callable, Iterator, Sequence

from disk_svc.blockstore import BlockStore, Range

_AT_ONCE = 256


def allocated(store: BlockStore, object_id: str, offset_bytes: int, end_bytes: int) -> Iterator[Range]:
    """Every range of the object that is stored, in order, between these two."""
    return _walk(lambda at: store.allocated(object_id, at, _AT_ONCE), offset_bytes, end_bytes)


def changed(
    store: BlockStore, base_snapshot_id: str, object_id: str, offset_bytes: int, end_bytes: int
) -> Iterator[Range]:
    """Every range in which the object may differ from the base, in order, between these two."""
    return _walk(lambda at: store.changed(base_snapshot_id, object_id, at, _AT_ONCE), offset_bytes, end_bytes)


def _walk(look: Callable[[int], Sequence[Range]], offset_bytes: int, end_bytes: int) -> Iterator[Range]:
    while offset_bytes < end_bytes:
        found = look(offset_bytes)
        for each in found:
            if each.offset_bytes >= end_bytes:
                return
            yield Range(each.offset_bytes, min(each.end_bytes, end_bytes) - each.offset_bytes)
        if not found:
            return
        offset_bytes = found[-1].end_bytes
