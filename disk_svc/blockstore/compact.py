"""`python -m disk_svc.blockstore.compact FOLDER`: gives a store's free pages back to the file system.

A store reuses the space that deletions free, but its file never shrinks. This copies what is in use to a new file and
puts that in the old one's place: the store must not be open, and the file system needs room for the copy.
"""

import os
import sys
from pathlib import Path

import lmdb

from disk_svc.blockstore.errors import StoreError
from disk_svc.blockstore.folder import locked, refusing_when_full
from disk_svc.blockstore.layout import Tables


def compact(folder: Path) -> int:
    """Answers by how many bytes the file shrank. StoreLocked when the store is open; OutOfSpace."""
    data = folder / "data.mdb"
    if not data.exists():
        raise FileNotFoundError(data)
    with refusing_when_full(folder, data.stat().st_size, "no room for the copy"), locked(folder):
        before = data.stat().st_blocks
        copy = folder / "compact.mdb"
        copy.unlink(missing_ok=True)  # of a compaction that was cut short
        try:
            # Without LMDB's own lock, which would need room where there may be none: the folder's keeps writers out.
            with (
                lmdb.open(str(folder), max_dbs=Tables.count(), readonly=True, lock=False) as env,
                copy.open("wb") as file,
            ):
                env.copyfd(file.fileno(), compact=True)
                os.fsync(file.fileno())
        except BaseException:
            copy.unlink(missing_ok=True)  # it has taken what room there was left
            raise
        copy.replace(data)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return (before - data.stat().st_blocks) * 512


if __name__ == "__main__":
    try:
        print(f"{compact(Path(sys.argv[1]))} bytes given back")  # noqa: T201  a command speaks to its user
    except StoreError as why:
        sys.exit(str(why))
