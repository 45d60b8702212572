"""The tree of versions: who descends from whom, and who is alive.

A version is one state of one volume's map: the head, which is written to, or a snapshot, which is frozen. Ids only
grow and are never used again, so a child's id is above its parent's. Only a frozen version gets children (a cut
freezes the head and puts a new head below it; a clone or a restore puts a head below a snapshot), so what a version
holds is fixed by the time somebody descends from it.

    HEAD ──cut──▶ SNAPSHOT ──delete──▶ DYING ──its walk is done──▶ GHOST ──at most one child──▶ (spliced out)
    HEAD ──delete, restore───────────▶ DYING

A ghost holds nothing. It stays only while two lines of descent meet in it: without it, two clones of a deleted snapshot
would look unrelated, and each would free what the other still reads.
"""

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from disk_svc.blockstore.garbage import Entry, GarbageQueue
from disk_svc.blockstore.layout import PAIR, U64, Tables, Txn
from disk_svc.blockstore.tree import LEVELS, Head

_VERSION = struct.Struct(">QQB")
_NEXT = b"next_version"


class State(enum.IntEnum):
    HEAD = 1
    SNAPSHOT = 2
    DYING = 3
    GHOST = 4

    @property
    def live(self) -> bool:
        return self <= State.SNAPSHOT


class Version(NamedTuple):
    parent: int
    root: int
    state: State
    owner: str
    """The volume or snapshot whose content this is; of a dead version, was."""


class Versions:
    def __init__(self, txn: Txn, tables: Tables, garbage: GarbageQueue) -> None:
        self._txn = txn
        self._tables = tables
        self._garbage = garbage

    def find(self, version: int) -> Version | None:
        value = self._txn.get(U64.pack(version), db=self._tables.versions)
        return decode_version(value) if value is not None else None

    def get(self, version: int) -> Version:
        """Of a version that something refers to, and which is therefore there."""
        record = self.find(version)
        assert record is not None
        return record

    def put(self, version: int, record: Version) -> None:
        value = _VERSION.pack(record.parent, record.root, record.state) + record.owner.encode()
        self._txn.put(U64.pack(version), value, db=self._tables.versions)

    def new_head(self, parent: int, root: int, owner: str) -> int:
        version: int = U64.unpack(self._txn.get(_NEXT, U64.pack(1), db=self._tables.meta))[0]
        self._txn.put(_NEXT, U64.pack(version + 1), db=self._tables.meta)
        self.put(version, Version(parent, root, State.HEAD, owner))
        self._link(parent, version)
        return version

    def head(self, version: int) -> Head:
        record = self.get(version)
        alone = not record.parent or self.get(record.parent).state.live
        return Head(version, record.root, self.live_ancestor(version), alone)

    def live_ancestor(self, version: int) -> int:
        """The nearest live version above this one; 0 if there is none."""
        ancestor = self.get(version).parent
        while ancestor and not (record := self.get(ancestor)).state.live:
            ancestor = record.parent
        return ancestor

    def rivals(self, version: int) -> tuple[int, set[int]]:
        """Whom to ask before something that `version` holds or held is freed.

        The nearest live ancestor, and the live versions, itself included, that are reached from `version` through
        dead versions alone. Holders of an object are connected in the tree (reclaim.py), so when any live version holds
        it, one of these does.
        """
        ancestor = self.live_ancestor(version)
        found: set[int] = set()
        seen = {0, ancestor, version}
        around = [version]
        while around:
            here = around.pop()
            record = self.get(here)
            if not record.state.live:
                near = {record.parent, *self._children(here)}
            else:
                found.add(here)
                # A live version ends the search, except the one it begins with: from there it goes up. What is below
                # it can hold only what it holds itself.
                near = {record.parent} if here == version else set()
            around.extend(near - seen)
            seen |= near
        return ancestor, found

    def kill(self, version: int) -> None:
        record = self.get(version)
        self.put(version, record._replace(state=State.DYING))
        self._garbage.append(Entry(version, LEVELS, 0, record.root))

    def bury(self, version: int) -> None:
        """Its walk is done: nothing is stored for it any more but its place in the tree, and that only if needed."""
        self.put(version, self.get(version)._replace(state=State.GHOST))
        while version and (record := self.get(version)).state is State.GHOST:
            heirs = list(self._children(version))
            if len(heirs) > 1:
                return
            self._unlink(record.parent, version)
            self._txn.delete(U64.pack(version), db=self._tables.versions)
            for heir in heirs:
                self._unlink(version, heir)
                self.put(heir, self.get(heir)._replace(parent=record.parent))
                self._link(record.parent, heir)
            # The parent's children grew fewer only if nobody took this one's place; looking again is harmless.
            version = record.parent

    def _children(self, version: int) -> Iterator[int]:
        with self._txn.cursor(self._tables.children) as cursor:
            if not cursor.set_range(U64.pack(version)):
                return
            for key in cursor.iternext(values=False):
                parent, child = PAIR.unpack(key)
                if parent != version:
                    return
                yield child

    def _link(self, parent: int, child: int) -> None:
        if parent:
            self._txn.put(PAIR.pack(parent, child), b"", db=self._tables.children)

    def _unlink(self, parent: int, child: int) -> None:
        if parent:
            self._txn.delete(PAIR.pack(parent, child), db=self._tables.children)


def decode_version(value: bytes) -> Version:
    parent, root, state = _VERSION.unpack_from(value)
    return Version(parent, root, State(state), value[_VERSION.size :].decode())
