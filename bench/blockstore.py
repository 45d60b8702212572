"""What the embedded block store does on this machine: `python bench/blockstore.py [FOLDER]`.

Medians of several runs; every write is durable before it counts. The folder (a temporary one without an argument)
should be on the disk in question.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from disk_svc.blockstore import Cut, Extent, LmdbBlockStore, Restore

KIB, MIB, GIB = 1024, 1024**2, 1024**3
RUNS = 3


def report(what: str, figure: float, unit: str) -> None:
    print(f"{what:<68}{figure:>9.1f} {unit}", flush=True)


@contextmanager
def a_store(folder: Path) -> Iterator[LmdbBlockStore]:
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        store = LmdbBlockStore(inside)
        try:
            yield store
        finally:
            store.close()


def compressible(size_bytes: int) -> bytes:
    """Half of every 4 KiB is noise and half repeats, as fio's buffer_compress_percentage=50 does it."""
    return b"".join(
        random.randbytes(2 * KIB) + b"stillpoint bench" * 128 for _ in range(size_bytes // (4 * KIB))
    )


def timed(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def write_all(store: LmdbBlockStore, volume_id: str, blocks: list[tuple[int, bytes]], in_flight: int) -> None:
    writer = store.open_writer(volume_id)
    waiting: deque[Future[None]] = deque()
    for offset_bytes, data in blocks:
        waiting.append(store.write(writer, [Extent(offset_bytes, data)]))
        if len(waiting) >= in_flight:
            waiting.popleft().result()
    for future in waiting:
        future.result()


def read_all(store: LmdbBlockStore, object_id: str, offsets: list[int], size_bytes: int) -> None:
    for offset_bytes in offsets:
        store.read(object_id, offset_bytes, size_bytes)


def writes(folder: Path) -> None:
    for kind, sample in (
        ("compressible", compressible(8 * MIB)),
        ("incompressible", random.randbytes(8 * MIB)),
    ):
        blocks = [(i * MIB, sample[i % 8 * MIB : (i % 8 + 1) * MIB]) for i in range(256)]
        for in_flight in (1, 4):
            rates = []
            for _ in range(RUNS):
                with a_store(folder) as store:
                    store.create_volume("v", 64 * GIB)
                    rates.append(256 / timed(write_all, store, "v", blocks, in_flight))
            report(
                f"sequential 1 MiB writes, {kind}, {in_flight} in flight", statistics.median(rates), "MiB/s"
            )
    with a_store(folder) as store:
        store.create_volume("v", GIB)
        data = random.randbytes(4 * KIB)
        small = [(random.randrange(GIB // 4096) * 4096, data) for _ in range(4000)]
        for in_flight in (1, 32):
            report(
                f"random 4 KiB writes, {in_flight} in flight",
                4000 / timed(write_all, store, "v", small, in_flight),
                "/s",
            )


def reads(folder: Path) -> None:
    with a_store(folder) as store:
        store.create_volume("v", GIB)
        data = compressible(256 * MIB)
        write_all(store, "v", [(i * MIB, data[i * MIB : (i + 1) * MIB]) for i in range(256)], 4)
        for size, count in ((4 * KIB, 5000), (256 * KIB, 1024), (MIB, 256)):
            offsets = [random.randrange(256 * MIB // size) * size for _ in range(count)]
            rate = statistics.median(
                count * size / MIB / timed(read_all, store, "v", offsets, size) for _ in range(RUNS)
            )
            report(f"random reads of {size // KIB} KiB, warm", rate, "MiB/s")


def cuts(folder: Path) -> None:
    with a_store(folder) as store:
        volumes = [f"v{i}" for i in range(8)]
        for volume in volumes:
            store.create_volume(volume, 4096 * GIB)
        data = compressible(MIB)
        written = 0
        for upto in (1, 64, 512):
            for volume in volumes:
                write_all(store, volume, [(i * 7 * MIB, data) for i in range(written // 8, upto // 8 + 1)], 8)
            written = upto
            times = []
            for i in range(21):
                each = [Cut(volume, f"{volume}-{upto}-{i}") for volume in volumes]
                times.append(timed(store.cut, f"{upto}-{i}", each))
            report(f"cut of 8 volumes, {upto} MiB written, median", 1000 * statistics.median(times), "ms")
            report(f"cut of 8 volumes, {upto} MiB written, worst of 21", 1000 * max(times), "ms")


def history(folder: Path) -> None:
    size = 64 * MIB

    def speed(store: LmdbBlockStore, volume_id: str) -> float:
        offsets = [i * 256 * KIB for i in range(size // (256 * KIB))]
        random.shuffle(offsets)
        return min(timed(read_all, store, volume_id, offsets, 256 * KIB) for _ in range(5))

    with a_store(folder) as store:
        data = compressible(size)
        blocks = [(i * MIB, data[i * MIB : (i + 1) * MIB]) for i in range(size // MIB)]
        for volume in ("fresh", "g0"):
            store.create_volume(volume, size)
            write_all(store, volume, blocks, 4)

        def change(volume_id: str) -> None:
            at = random.randrange(size // (16 * KIB)) * 16 * KIB
            write_all(store, volume_id, [(at, data[at : at + 16 * KIB])], 1)

        for i in range(512):
            store.cut(f"c{i}", [Cut("g0", f"s{i}")])
            change("g0")
        report(
            "256 KiB reads after 512 snapshots, times fresh", speed(store, "g0") / speed(store, "fresh"), "x"
        )
        for i in range(100):
            store.restore(f"r{i}", [Restore("g0", f"s{random.randrange(512)}")])
            change("g0")
        report("  and 100 rollbacks", speed(store, "g0") / speed(store, "fresh"), "x")
        for i in range(10):
            store.cut(f"g{i}", [Cut(f"g{i}", f"gs{i}")])
            store.create_volume(f"g{i + 1}", size, f"gs{i}")
            change(f"g{i + 1}")
        report("  and 10 generations of clones", speed(store, "g10") / speed(store, "fresh"), "x")
        store.delete_snapshots([f"s{i}" for i in range(512)])
        start = time.perf_counter()
        while store.usage().reclaim_queue_length:
            time.sleep(0.01)
        report("reclaim of the 512 snapshots", time.perf_counter() - start, "s")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        print(f"{os.cpu_count()} cores, {folder}")
        for part in (writes, reads, cuts, history):
            part(Path(folder))


if __name__ == "__main__":
    main()
