"""disk_svc over a store that fails when it is told to, by a clock that tests move: its composition root in the troubled
deployment.

A file in the folder STILLPOINT_CONTRACT_FAULTS, named like a method of the store, says how that method fails while the
file is there. The product itself has no such switch (design.md §8).
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from disk_svc.__main__ import serve
from disk_svc.blockstore import BlockStore, Extent, LmdbBlockStore
from disk_svc.blockstore.errors import DataLoss, OutOfSpace, StoreError
from disk_svc.settings import Settings
from tests.support.movable_clock import clock_in

SECRET = "the text of an error that nobody foresaw"


class _Rot(Exception):
    """Of writes: what is stored is not what was given, and its checksum is right."""


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


class FailingStore:
    """A real store behind switches."""

    def __init__(self, store: BlockStore, faults: Path) -> None:
        self._store = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _fault(self, method: str, object_id: str = "") -> Exception | None:
        try:
            how = (self._faults / method).read_text()
        except FileNotFoundError:
            return None
        match how:
            case "full":
                return OutOfSpace()
            case "lost":
                return DataLoss(object_id, 0)
            case "rots":
                return _Rot()
            case _:
                return RuntimeError(SECRET)

    def _fail(self, method: str, object_id: str = "") -> None:
        fault = self._fault(method, object_id)
        if fault is not None:
            raise fault

    def create_volume(self, volume_id: str, size_bytes: int, source_snapshot_id: str | None = None) -> None:
        self._fail("create_volume", volume_id)
        self._store.create_volume(volume_id, size_bytes, source_snapshot_id)

    def resize_volume(self, volume_id: str, size_bytes: int) -> None:
        self._fail("resize_volume", volume_id)
        self._store.resize_volume(volume_id, size_bytes)

    def delete_volume(self, volume_id: str) -> None:
        self._fail("delete_volume", volume_id)
        self._store.delete_volume(volume_id)

    def cut(self, key: str, cuts: Sequence[Any]) -> Any:
        self._fail("cut", cuts[0].volume_id)
        return self._store.cut(key, cuts)

    def seal(self, snapshot_ids: Sequence[str]) -> dict[str, StoreError | None]:
        """Only the last one fails: it is per disk."""
        results = dict(self._store.seal(snapshot_ids))
        fault = self._fault("seal", snapshot_ids[-1]) if snapshot_ids else None
        if isinstance(fault, StoreError):
            results[snapshot_ids[-1]] = fault
        elif fault is not None:
            raise fault
        return results

    def restore(self, key: str, restores: Sequence[Any]) -> None:
        self._fail("restore", restores[0].snapshot_id)
        self._store.restore(key, restores)

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        self._fail("delete_snapshots")
        self._store.delete_snapshots(snapshot_ids)

    def read(self, object_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        self._fail("read", object_id)
        return self._store.read(object_id, offset_bytes, length_bytes)

    def write(self, writer: Any, extents: Sequence[Any]) -> "Future[None]":
        fault = self._fault("write", writer.volume_id)
        if isinstance(fault, _Rot):
            return self._store.write(writer, [Extent(e.offset_bytes, _flipped(e.data)) for e in extents])
        if fault is None:
            return self._store.write(writer, extents)
        failed: Future[None] = Future()
        failed.set_exception(fault)
        return failed


if __name__ == "__main__":
    settings = Settings()
    faults = Path(os.environ["STILLPOINT_CONTRACT_FAULTS"])
    store = cast("BlockStore", FailingStore(LmdbBlockStore(settings.store_path), faults))
    serve(settings, store, clock_in(faults / "clock"))
