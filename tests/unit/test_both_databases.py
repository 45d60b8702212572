"""What runs on one database runs on the other."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def collected(folder: str, database: str) -> set[str]:
    """The tests that `--database` leaves, by their names, in which its kind is called the database."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--database", database, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return {
        test.replace(database, "database")
        for test in re.findall(r"^tests/.*::.*$", done.stdout, re.MULTILINE)
    }


def test_the_contract_suite_is_the_same_tests_on_either_database():
    on_sqlite = collected("tests/contract", "sqlite")
    assert len([test for test in on_sqlite if "database" in test]) > 1500
    assert on_sqlite == collected("tests/contract", "postgresql")


def test_every_fault_test_runs_on_postgresql_too():
    on_sqlite = collected("tests/faults", "sqlite")
    assert len([test for test in on_sqlite if "database" in test]) > 60
    assert on_sqlite <= collected("tests/faults", "postgresql")
