"""Freeing what no live version holds: the rules, why they are right, and one slice of the work.

**Holders are connected.** A version holds a node or chunk x when its tree leads to x. x appears in the version that is
its birth; every other holder got it from its parent, and a version's content is fixed before it has children. So the
holders of x, dead ones counted with what they held when they died, form one connected piece of the tree of versions
with x's birth on top. Splicing out a ghost contracts the tree and keeps that true. Two consequences:

1. On a line of descent, an ancestor a of a holder of x holds x exactly when birth(x) <= a, because ids only grow.
2. If any live version holds x, then so does one of the live versions reached from a given holder through dead versions
   alone (`Versions.rivals`): walk from the holder to the live one along holders and stop at the first that is alive.

**When x loses a holder.** Either a version dies, and an entry (version, root) is queued. Or a head h replaces x by a
copy, a new chunk or a hole (`WritableTree._drop`), and then:
- birth(x) <= h's live ancestor: that ancestor holds x. Nothing to do.
- birth(x) = h: nobody else ever held x; it goes at once.
- No dead version between h and its live ancestor: x's birth, and whatever lay between, has been spliced out, which
  happens only after its walk and with one line of descent left, ours. No other holder exists, no walk is pending that
  needs x as its path; it goes at once.
- Otherwise the entry (h, x) is queued. h's own place stands for x's: h's parent held x, or h could not have.

**Processing an entry** walks x's subtree in post-order. It leaves alone, with all that is below, whatever the live
ancestor holds (rule 1) or a rival holds at the same position (rule 2), and deletes the rest. Hence the invariant:

    A node is deleted only by a walk that entered it after it had lost its last live holder, and after that walk has
    dealt with everything below it.

So **nothing live is deleted** (rivals are computed in the transaction that deletes), and **nothing leaks**. Let y lose
its last live holder u. If u dropped y, y's own entry is queued. If u died, its walk is queued, and at that moment the
whole path from u's root to y is stored. Should a part of that path be deleted before u's walk arrives, it was deleted
by a walk that entered it after u had died (u held it until then), so after y had lost its last holder: that walk has
deleted y. A missing node therefore means that its subtree is done, not that it is lost. It is why an entry for a
dropped node must walk below the node instead of deleting it alone: others may need it as their path.

**Order.** An entry names a version, which must still have its place in the tree. Entries (h, x) are queued while h
lives, before h's own entry; the queue is first in, first out; and only h's own entry, when done, lets h be spliced out.

**Slices.** A slice deletes a bounded number of keys in one transaction and stores how far the walk came. Keys are never
used again, so that a slice done twice would be harmless, and the cursor only saves the time.
"""

from collections.abc import Iterator

from disk_svc.blockstore.garbage import Entry, GarbageQueue
from disk_svc.blockstore.tree import FAN_OUT, LEVELS, SPANS, Position, Rotten, WritableTree
from disk_svc.blockstore.versions import Versions


class Reclaimer:
    """Valid for one transaction: who rivals whom does not change under a slice, even as versions are spliced out."""

    def __init__(self, tree: WritableTree, versions: Versions, garbage: GarbageQueue) -> None:
        self._tree = tree
        self._versions = versions
        self._garbage = garbage
        self._rivals: dict[int, tuple[int, set[int]]] = {}

    def slice(self, limit_keys: int) -> bool:
        """Deletes up to `limit_keys` keys; an entry counts as one. True while entries are left."""
        left = limit_keys
        for position, entry in self._garbage.entries():
            if left <= 0:
                return True
            for done_below in self._walk(entry):
                left -= 1
                if left <= 0:
                    self._garbage.advance(position, entry, done_below)
                    return True
            left -= 1
            self._garbage.remove(position)
            if entry.level == LEVELS and not self._versions.get(entry.version).state.live:
                self._finish(entry)
        return False

    def _finish(self, entry: Entry) -> None:
        # An entry (h, old root) of a head that has died since has the same level; h's own entry names h's last root.
        if self._versions.get(entry.version).root == entry.birth:
            self._versions.bury(entry.version)

    def _walk(self, entry: Entry) -> Iterator[int]:
        """Deletes one key per step and yields the chunk number below which everything is done."""
        if entry.version not in self._rivals:
            self._rivals[entry.version] = self._versions.rivals(entry.version)
        ancestor, rivals = self._rivals[entry.version]
        roots = {self._versions.get(rival).root for rival in rivals}
        try:
            theirs = self._at(roots - {0}, entry.level, entry.number)
        except Rotten:
            return
        yield from self._free((entry.birth, entry.level, entry.number), theirs, ancestor, entry.cursor)

    def _at(self, births: set[int], level: int, index: int) -> set[int]:
        """What stands at a position below these roots."""
        for above in range(LEVELS, level, -1):
            slot = index // SPANS[above - 1 - level] % FAN_OUT
            births = self._below(births, above, index // SPANS[above - level], slot)
        return births

    def _below(self, births: set[int], level: int, index: int, slot: int) -> set[int]:
        return {self._tree.node(birth, level, index)[slot] for birth in births} - {0}

    def _free(self, position: Position, theirs: set[int], ancestor: int, cursor: int) -> Iterator[int]:
        birth, level, index = position
        if birth <= ancestor or birth in theirs:
            return
        if level > 0:
            if not self._tree.stored(birth, level, index):
                return
            try:
                node = self._tree.node(birth, level, index)
                others = [self._tree.node(other, level, index) for other in theirs]
            except Rotten:
                # Rot hides who holds what below. What lies there stays: lost room is better than lost data.
                return
            for slot, child in enumerate(node):
                below = index * FAN_OUT + slot
                end = (below + 1) * SPANS[level - 1]
                # Of a node that ends at the cursor, the node itself may be what is left.
                if child > ancestor and (end > cursor or (end == cursor and level > 1)):
                    rivals = {other[slot] for other in others}
                    yield from self._free((child, level - 1, below), rivals - {0}, ancestor, cursor)
        self._tree.delete(birth, level, index)
        yield (index + 1) * SPANS[level]
