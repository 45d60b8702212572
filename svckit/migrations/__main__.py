"""Writes the next revision of a service's schema: `python -m svckit.migrations disk_svc "disks have a device"`.

It compares the models with what the revisions so far make. Read what it wrote: it does not see a column that was renamed,
nor rows that must change with their table.
"""

import importlib
import sys
import tempfile
from pathlib import Path

from svckit.database import Database
from svckit.migrations import Schema


def main(service: str, what: str) -> None:
    schema: Schema = importlib.import_module(f"{service}.migrations").SCHEMA
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'newest.db'}", connections=1)
        schema.migrate(database)
        written = schema.write_revision(database, what)
        database.dispose()
    # Alembic's own remarks are for whoever writes the revision, not for who reads it.
    lines = written.read_text().splitlines(keepends=True)
    written.write_text("".join(line for line in lines if not line.lstrip().startswith("# ###")))
    sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
