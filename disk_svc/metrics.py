"""What only disk_svc knows: how full the quotas of snapshots are, and what its block store holds and does.

Never a series for each disk: there may be any number of them. What is told of quotas are counts, and the fullest disk.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from disk_svc.blockstore import BlockStore
from disk_svc.repository import snapshot_rows
from disk_svc.service.realm import Realm
from disk_svc.states import Kind
from svckit.telemetry.exposition import AtScrape

NEARLY_FULL = 0.8
_REMEMBERED_SECONDS = 30.0
"""To count the snapshots of all disks walks them all: half a second for a million."""
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


def register(registry: CollectorRegistry, realm: Realm) -> None:
    realm.store.observe(StoreActivity(registry))
    registry.register(AtScrape(lambda: store_usage(realm.store)))
    registry.register(AtScrape(QuotaUse(realm).metrics))


class StoreActivity:
    """disk_svc.blockstore.Observer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._read = Counter("stillpoint_store_read_bytes", "Bytes read from the store", registry=registry)
        self._written = Counter(
            "stillpoint_store_written_bytes", "Bytes given to the store to write", registry=registry
        )
        self._changes = Counter(
            "stillpoint_store_committed_changes", "Changes that were committed", registry=registry
        )
        self._commits = Histogram(
            "stillpoint_store_commit_duration_seconds",
            "How long commits took, each of a group of changes, until they were on disk",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )

    def has_read(self, length_bytes: int) -> None:
        self._read.inc(length_bytes)

    def has_written(self, length_bytes: int) -> None:
        self._written.inc(length_bytes)

    def has_committed(self, changes: int, seconds: float) -> None:
        self._changes.inc(changes)
        self._commits.observe(seconds)


def store_usage(store: BlockStore) -> Iterator[Metric]:
    usage = store.usage()
    for name, text, value in (
        ("file_bytes", "What the file system holds of the store", usage.file_bytes),
        ("used_bytes", "What is stored, what waits for reclaim included", usage.used_bytes),
        ("free_bytes", "What may still be written before OUT_OF_SPACE", usage.free_bytes),
        ("limit_bytes", "The most that the store's file may grow to", usage.limit_bytes),
        (
            "reclaim_queue_length",
            "Deletions whose bytes have not come back yet",
            usage.reclaim_queue_length,
        ),
    ):
        yield GaugeMetricFamily(f"stillpoint_store_{name}", text, value=value)


class QuotaUse:
    """Of snapshots per disk. Remembered for a while, however often it is asked for."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._disks: Mapping[Kind, Tally[int]] = {}
        self._counted_at = float("-inf")

    def metrics(self) -> Iterator[Metric]:
        if time.monotonic() - self._counted_at > _REMEMBERED_SECONDS:
            with self._realm.database.read() as session:
                self._disks = snapshot_rows.disks_by_slots_taken(session, region=self._realm.region)
            self._counted_at = time.monotonic()
        limit, nearly_full, full, fullest = (
            GaugeMetricFamily(f"stillpoint_quota_{name}", text, labels=["kind"])
            for name, text in (
                ("snapshots_per_disk_limit", "Snapshots of a kind that a disk may have"),
                ("disks_nearly_full", f"Disks with {NEARLY_FULL:.0%} of them or more"),
                ("disks_full", "Disks with all of them"),
                ("fullest_disk_snapshots", "Snapshots that the disk with the most of a kind has"),
            )
        )
        for kind, quota in self._realm.quotas.items():
            disks = self._disks.get(kind, Tally())
            limit.add_metric([kind], quota)
            nearly_full.add_metric([kind], _at_least(disks, quota * NEARLY_FULL))
            full.add_metric([kind], _at_least(disks, quota))
            fullest.add_metric([kind], max(disks, default=0))
        yield from (limit, nearly_full, full, fullest)


def _at_least(disks: Tally[int], taken: float) -> int:
    return sum(count for slots, count in disks.items() if slots >= taken)
