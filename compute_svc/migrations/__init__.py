"""The schema of compute_svc, and in `versions/` the revisions that make it."""

from pathlib import Path

from compute_svc.models import ComputeTable
from svckit.migrations import Schema

SCHEMA = Schema("compute", ComputeTable, Path(__file__).parent / "versions")
