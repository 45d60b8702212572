"""Rollbacks over a real database and a real store, at a moment that processes hit only by chance."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from disk_svc.blockstore import Extent, LmdbBlockStore, Restore
from disk_svc.migrations import SCHEMA
from disk_svc.service.disks import Disks, InstanceDisk
from disk_svc.service.points import Points
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Rollbacks
from disk_svc.states import Kind, Role
from svckit.database import Database
from svckit.errors import StepWithdrawn

MIB = 1 << 20
KEY = "op-c-1/reserve"


class OvertakenStore(LmdbBlockStore):
    """Undoes the rollback after it was looked up and before it is applied."""

    rollbacks: Rollbacks

    def restore(self, key: str, restores: Sequence[Restore]) -> None:
        self.rollbacks.withdraw(key)
        super().restore(key, restores)


def test_a_rollback_that_is_overtaken_by_its_undo_leaves_the_bytes_as_they_are(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'disk.db'}", connections=4)
    SCHEMA.migrate(database)
    store = OvertakenStore(tmp_path / "store")
    try:
        realm = Realm(database, store, "local", {Kind.MANUAL: 4, Kind.AUTOMATIC: 4})
        points = Points(realm)
        store.rollbacks = rollbacks = Rollbacks(realm)
        Disks(realm).create_for_instance(
            "op-c-0/create_disks",
            "op-c-0",
            "local",
            "i-1",
            [InstanceDisk("disk-1", "d", Role.SYSTEM, MIB, "")],
        )
        [member], _ = points.create(
            "op-s-1/cut",
            "op-s-1",
            account_id="local",
            instance_id="i-1",
            must_have="",
            instance_snapshot_id="isnap-1",
            snapshot_name="before",
        )
        with database.write() as session:
            points.finish(session, "op-s-1/cut")
        store.write(store.open_writer("disk-1"), [Extent(0, b"written since")]).result()

        target = Restore("disk-1", member.snapshot_id)
        rollbacks.reserve(KEY, "op-c-1", account_id="local", instance_id="i-1", targets=[target])
        with pytest.raises(StepWithdrawn):
            rollbacks.apply(KEY)
        assert store.read("disk-1", 0, 13) == b"written since"
    finally:
        store.close()
        database.dispose()
