"""The schema of snapshot_svc, and in `versions/` the revisions that make it."""

from pathlib import Path

from snapshot_svc.models import SnapshotTable
from svckit.migrations import Schema

SCHEMA = Schema("snapshot", SnapshotTable, Path(__file__).parent / "versions")
