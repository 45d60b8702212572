"""A block store that fails when a test wants it to: a wrapper around the real one, in a real disk_svc.

The wrapper asks the test before and after every operation that a saga's step makes, at places called
`before store.<operation>` and `after store.<operation>`: that is where a test stops the process in the middle of a step,
and where the answer comes from that sealing or restoring fails.
"""

from collections.abc import Sequence
from typing import Any, cast

from disk_svc.blockstore import BlockStore, DataLoss, OutOfSpace, Restore, StoreError
from tests.faults.director import ask

_STEPS = frozenset(
    {
        "create_volume",
        "delete_volume",
        "resize_volume",
        "cut",
        "withdraw_cut",
        "seal",
        "restore",
        "delete_snapshots",
        "fence",
    }
)


class FaultyStore:
    """disk_svc's side. Every method of the real store, with the test's word before and after those in `_STEPS`."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _STEPS:
            return method

        def step(*arguments: Any) -> Any:
            failing = ask(f"before store.{name}")
            if failing and name == "restore":
                restores: Sequence[Restore] = arguments[1]
                raise DataLoss(restores[failing[0]].snapshot_id, 0)
            result = _seal(self._store, arguments[0], *failing) if failing else method(*arguments)
            ask(f"after store.{name}")
            return result

        return step


def faulty(store: BlockStore) -> BlockStore:
    return cast("BlockStore", FaultyStore(store))


def _seal(
    store: BlockStore, snapshot_ids: Sequence[str], failing: int, error: str
) -> dict[str, StoreError | None]:
    """Every snapshot is sealed but one."""
    doomed = snapshot_ids[failing]
    errors = {"OutOfSpace": OutOfSpace("no space left on device"), "DataLoss": DataLoss(doomed, 4096)}
    results = store.seal([snapshot_id for snapshot_id in snapshot_ids if snapshot_id != doomed])
    return {**results, doomed: errors[error]}
