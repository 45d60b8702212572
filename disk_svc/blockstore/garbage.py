"""The reclaim queue: what may have lost its last holder, first in, first out, in the store's own transactions."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from disk_svc.blockstore.layout import U64, Tables, Txn

_ENTRY = struct.Struct(">QBQQQ")


class Entry(NamedTuple):
    """The node or chunk at this position, which `version` held until it died or replaced it."""

    version: int
    level: int
    number: int
    birth: int
    cursor: int = 0
    """Chunks below this number were dealt with by earlier slices."""


class GarbageQueue:
    def __init__(self, txn: Txn, tables: Tables) -> None:
        self._txn = txn
        self._table = tables.garbage
        self.grew = False

    def append(self, entry: Entry) -> None:
        with self._txn.cursor(self._table) as cursor:
            position = U64.unpack(cursor.key())[0] + 1 if cursor.last() else 1
        self._txn.put(U64.pack(position), _ENTRY.pack(*entry), db=self._table, append=True)
        self.grew = True

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Oldest first. The caller may delete the one it was given before it asks for the next."""
        while True:
            with self._txn.cursor(self._table) as cursor:
                if not cursor.first():
                    return
                position, value = cursor.item()
            yield position, Entry(*_ENTRY.unpack(value))

    def advance(self, position: bytes, entry: Entry, cursor: int) -> None:
        self._txn.put(position, _ENTRY.pack(*entry._replace(cursor=cursor)), db=self._table)

    def remove(self, position: bytes) -> None:
        self._txn.delete(position, db=self._table)

    def __len__(self) -> int:
        return self._txn.stat(self._table)["entries"]
