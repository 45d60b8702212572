"""The schema of disk_svc, and in `versions/` the revisions that make it."""

from pathlib import Path

from disk_svc.models import DiskTable
from svckit.migrations import Schema

SCHEMA = Schema("disk", DiskTable, Path(__file__).parent / "versions")
