"""What stands where in the LMDB file: the named tables, their keys and the format's version.

| table     | key                       | value                                                |
|-----------|---------------------------|------------------------------------------------------|
| meta      | name                      | format, next version id                              |
| volumes   | id                        | JSON, see records.py                                 |
| snapshots | id                        | JSON                                                 |
| keys      | idempotence key           | JSON                                                 |
| versions  | version                   | parent, root, state, owner (versions.py)             |
| children  | parent version, version   | empty                                                |
| nodes     | birth, level, index       | checksum, 128 births (tree.py)                       |
| chunks    | birth, chunk number       | checksum, flag, content (chunks.py)                  |
| garbage   | position in the queue     | version, position, cursor (garbage.py)               |

Numbers in keys are big-endian, so that LMDB's order is theirs: a version's chunks lie side by side, and a sequential
write appends.
"""

import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import lmdb

from disk_svc.blockstore.errors import UnknownFormat

if TYPE_CHECKING:
    from lmdb import _Database

Table: TypeAlias = "_Database"
Txn: TypeAlias = "lmdb.Transaction[bytes]"

FORMAT = b"1"
MAX_ID_BYTES = 500  # LMDB's keys end at 511 bytes

U64 = struct.Struct(">Q")
PAIR = struct.Struct(">QQ")
NODE_KEY = struct.Struct(">QBQ")


@dataclass(frozen=True, slots=True)
class Tables:
    meta: Table
    volumes: Table
    snapshots: Table
    keys: Table
    versions: Table
    children: Table
    nodes: Table
    chunks: Table
    garbage: Table

    @classmethod
    def open(cls, env: lmdb.Environment) -> "Tables":
        """Creates the tables in an empty file; refuses a file that some other format wrote."""
        with env.begin(write=True) as txn:
            fresh = txn.stat()["entries"] == 0
            tables = cls(*(env.open_db(field.name.encode(), txn=txn) for field in fields(cls)))
            if fresh:
                txn.put(b"format", FORMAT, db=tables.meta)
            found = txn.get(b"format", db=tables.meta)
            if found != FORMAT:
                # Raised inside the transaction: tables that were missing are not left behind.
                raise UnknownFormat(f"the store has format {found!r}, this code knows {FORMAT!r}")
        return tables

    @classmethod
    def count(cls) -> int:
        return len(fields(cls))

    def used_pages(self, txn: Txn) -> int:
        """Pages that hold something; the rest of the file is free for the next transactions."""
        stats = [txn.stat(), *(txn.stat(getattr(self, field.name)) for field in fields(self))]
        return sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
