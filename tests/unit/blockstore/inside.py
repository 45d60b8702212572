"""A look inside an LmdbBlockStore, for tests that must know what is stored and not only what is answered."""

from collections import Counter

from disk_svc.blockstore import LmdbBlockStore
from disk_svc.blockstore.layout import NODE_KEY, PAIR, U64
from disk_svc.blockstore.tree import FAN_OUT, LEVELS, Tree
from disk_svc.blockstore.versions import State, decode_version

Keys = set[tuple[int, ...]]


def stored_keys(store: LmdbBlockStore) -> tuple[Keys, Keys]:
    """Every (birth, level, index) of a node and (birth, number) of a chunk in the file."""
    with store._env.begin() as txn:
        with txn.cursor(store._tables.nodes) as cursor:
            nodes = {NODE_KEY.unpack(key) for key in cursor.iternext(values=False)}
        with txn.cursor(store._tables.chunks) as cursor:
            chunks = {PAIR.unpack(key) for key in cursor.iternext(values=False)}
    return nodes, chunks


def reachable_keys(store: LmdbBlockStore) -> tuple[Keys, Keys]:
    """The same, found by walking the trees of all live versions."""
    nodes: Keys = set()
    chunks: Keys = set()
    with store._env.begin() as txn:
        tree = Tree(txn, store._tables)

        def walk(birth: int, level: int, index: int) -> None:
            if not birth or (birth, level, index) in nodes:
                return
            if level == 0:
                chunks.add((birth, index))
                return
            nodes.add((birth, level, index))
            for slot, child in enumerate(tree.node(birth, level, index)):
                walk(child, level - 1, index * FAN_OUT + slot)

        with txn.cursor(store._tables.versions) as cursor:
            for value in cursor.iternext(keys=False):
                version = decode_version(value)
                if version.state.live:
                    walk(version.root, LEVELS, 0)
    return nodes, chunks


def assert_nothing_leaked(store: LmdbBlockStore) -> None:
    """For a store whose reclaim has nothing left to do."""
    assert store.usage().reclaim_queue_length == 0
    assert stored_keys(store) == reachable_keys(store)
    with store._env.begin() as txn:
        with txn.cursor(store._tables.versions) as cursor:
            versions = {U64.unpack(key)[0]: decode_version(value) for key, value in cursor}
        with txn.cursor(store._tables.children) as cursor:
            links = {PAIR.unpack(key) for key in cursor.iternext(values=False)}
    assert links == {(version.parent, key) for key, version in versions.items() if version.parent}
    children = Counter(version.parent for version in versions.values())
    for key, version in versions.items():
        assert version.state is not State.DYING
        assert version.state is not State.GHOST or children[key] > 1
