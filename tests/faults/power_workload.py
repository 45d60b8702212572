"""What a block store goes through while its power is watched: run as a program it does all of it, and says after each that
it was told that it is durable. The same on a `Picture` says what must be there then.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from disk_svc.blockstore import BlockStore, LmdbBlockStore
from disk_svc.blockstore.interface import Cut, Extent, KeyEntry, Restore, VolumeEntry

VOLUMES = ("a", "b")
VOLUME_BYTES = 256 << 10
CHANGES = 60


@dataclass
class Picture:
    """Of what a store holds: the bytes of each object."""

    volumes: dict[str, bytearray] = field(default_factory=dict)
    snapshots: dict[str, bytes] = field(default_factory=dict)

    def seen_in(self, store: BlockStore) -> bool:
        """Whether the store holds this, all of it and nothing else."""
        kept = {**self.volumes, **self.snapshots}
        there = {
            entry.volume_id if isinstance(entry, VolumeEntry) else entry.snapshot_id
            for entry in store.inventory()
            if not isinstance(entry, KeyEntry)
        }
        return there == kept.keys() and all(
            store.read(name, 0, len(content)) == bytes(content) for name, content in kept.items()
        )


@dataclass(frozen=True, slots=True)
class Change:
    """On a store, and on a picture of it."""

    do: Callable[[BlockStore], object]
    show: Callable[[Picture], object]


def changes() -> Iterator[Change]:
    """Always the same."""
    chance = random.Random(11)
    snapshots: list[str] = []
    for name in VOLUMES:
        yield _creation(name)
    for number in range(CHANGES):
        match chance.choice(["write"] * 5 + ["cut", "restore", "delete"]):
            case "cut":
                snapshots += (taken := [f"{name}-{number}" for name in VOLUMES])
                yield _cut(f"cut-{number}", taken)
            case "restore" if snapshots:
                yield _restore(f"restore-{number}", snapshots[-len(VOLUMES) :])
            case "delete" if len(snapshots) > len(VOLUMES):
                yield _deletion([snapshots.pop(0)])
            case _:
                yield _write(chance)


def _creation(name: str) -> Change:
    return Change(
        lambda store: store.create_volume(name, VOLUME_BYTES),
        lambda picture: picture.volumes.update({name: bytearray(VOLUME_BYTES)}),
    )


def _write(chance: random.Random) -> Change:
    name = chance.choice(VOLUMES)
    extents = [
        Extent(chance.randrange(VOLUME_BYTES - (16 << 10)), chance.randbytes(chance.randrange(1, 16 << 10)))
        for _ in range(chance.randrange(1, 4))
    ]

    def show(picture: Picture) -> None:
        for extent in extents:
            picture.volumes[name][extent.offset_bytes : extent.offset_bytes + len(extent.data)] = extent.data

    return Change(lambda store: store.write(store.open_writer(name), extents).result(), show)


def _cut(key: str, taken: Sequence[str]) -> Change:
    return Change(
        lambda store: store.cut(key, [Cut(*each) for each in zip(VOLUMES, taken, strict=True)]),
        lambda picture: picture.snapshots.update(
            {snapshot: bytes(picture.volumes[name]) for name, snapshot in zip(VOLUMES, taken, strict=True)}
        ),
    )


def _restore(key: str, snapshots: Sequence[str]) -> Change:
    return Change(
        lambda store: store.restore(key, [Restore(*each) for each in zip(VOLUMES, snapshots, strict=True)]),
        lambda picture: picture.volumes.update(
            {
                name: bytearray(picture.snapshots[snapshot])
                for name, snapshot in zip(VOLUMES, snapshots, strict=True)
            }
        ),
    )


def _deletion(snapshots: Sequence[str]) -> Change:
    return Change(
        lambda store: store.delete_snapshots(snapshots),
        lambda picture: [picture.snapshots.pop(each) for each in snapshots],
    )


def opened(folder: Path) -> LmdbBlockStore:
    """A small one."""
    return LmdbBlockStore(folder, map_size_bytes=64 << 20, reserve_bytes=1 << 20)


def main(folder: str) -> None:
    store = opened(Path(folder))
    for number, change in enumerate(changes(), 1):
        change.do(store)
        os.write(1, f"{number}\n".encode())
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
