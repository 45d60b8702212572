"""Pruning over a real database and a real store, at moments that processes hit only by chance."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from disk_svc.blockstore import BlockStore, LmdbBlockStore, SnapshotEntry
from disk_svc.errors import PolicyNotFound, SnapshotQuotaExceeded
from disk_svc.repository import disk_rows, hold_rows, policy_rows, snapshot_rows
from disk_svc.states import SnapshotState, Task
from svckit.calls import Unanswered
from svckit.errors import StepWithdrawn
from tests.unit.disk_svc.replica import ACCOUNT, QUOTA, Replica

POLICY = "asp-1"


class DyingStore(LmdbBlockStore):
    """Does not answer when it is told to delete, while `dies` is true."""

    dies = False

    def delete_snapshots(self, snapshot_ids: Sequence[str]) -> None:
        if self.dies:
            raise ConnectionError("as if killed")
        super().delete_snapshots(snapshot_ids)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DyingStore]:
    store = DyingStore(tmp_path / "store")
    yield store
    store.close()


def take(replica: Replica, disk_id: str, number: int, policy_id: str = POLICY) -> str:
    operation_id = f"op-d-take-{disk_id}-{number}"
    snapshot_id, cut_time = replica.automatic.take(
        f"{operation_id}/cut",
        operation_id,
        account_id=ACCOUNT,
        disk_id=disk_id,
        policy_id=policy_id,
        name="s",
    )
    with replica.database.write() as session:
        hold_rows.mark_cut(session, f"{operation_id}/cut", cut_time)
        replica.points.finish(session, f"{operation_id}/cut")
    return snapshot_id


def prune(replica: Replica, disk_id: str, *, keep: int | None = None, days: int | None = None) -> int:
    """Always the same step of the same saga, by a policy that keeps so many, or for so many days."""
    replica.set_policy(POLICY, disk_id, retention_count=keep, retention_days=days)
    return replica.automatic.prune(
        f"op-d-{disk_id}/prune",
        f"op-d-{disk_id}",
        account_id=ACCOUNT,
        disk_id=disk_id,
        policy_id=POLICY,
    )


def left(replica: Replica, disk_id: str) -> list[str]:
    """The policy's snapshots that are AVAILABLE, oldest first."""
    with replica.database.write() as session:
        taken = policy_rows.snapshots_taken(session, policy_id=POLICY, disk_id=disk_id)
        return [snapshot.id for snapshot in taken]


def held(replica: Replica, snapshot_id: str) -> tuple[SnapshotState, str] | None:
    with replica.database.read() as session:
        found = snapshot_rows.snapshots_by_id(
            session, [snapshot_id], account_id=ACCOUNT, region=replica.realm.region
        ).get(snapshot_id)
        return (found.state, found.operation_id) if found else None


def kept_by(store: BlockStore) -> set[str]:
    """The snapshots whose bytes it has."""
    return {entry.snapshot_id for entry in store.inventory() if isinstance(entry, SnapshotEntry)}


def test_a_step_that_is_repeated_late_deletes_nothing_more_than_it_did(replica: Replica):
    """A worker slept through its claim; another one has pruned and taken the new snapshot meanwhile."""
    disk_id = replica.a_disk()
    snapshots = [take(replica, disk_id, number) for number in range(2)]
    assert prune(replica, disk_id, keep=2) == 1
    newest = take(replica, disk_id, 2)
    assert prune(replica, disk_id, keep=2) == 1
    assert left(replica, disk_id) == [snapshots[1], newest]


def test_what_a_crash_left_half_deleted_is_deleted_by_the_next_try(replica: Replica, store: DyingStore):
    disk_id = replica.a_disk()
    snapshot_id = take(replica, disk_id, 0)
    store.dies = True
    with pytest.raises(ConnectionError):
        prune(replica, disk_id, keep=1)
    assert held(replica, snapshot_id) == (SnapshotState.DELETING, f"op-d-{disk_id}")
    assert snapshot_id in kept_by(store)
    store.dies = False
    assert prune(replica, disk_id, keep=1) == 1
    assert held(replica, snapshot_id) is None
    assert snapshot_id not in kept_by(store)


def test_what_is_half_deleted_when_the_saga_is_turned_back_is_deleted_and_nothing_begins_after_that(
    replica: Replica, store: DyingStore
):
    disk_id = replica.a_disk()
    old = take(replica, disk_id, 0)
    store.dies = True
    with pytest.raises(ConnectionError):
        prune(replica, disk_id, keep=1)
    store.dies = False
    for _ in range(2):
        replica.automatic.end_pruning(f"op-d-{disk_id}/prune")
    assert held(replica, old) is None
    newer = take(replica, disk_id, 1)
    with pytest.raises(StepWithdrawn):
        prune(replica, disk_id, keep=1)
    assert left(replica, disk_id) == [newer]


def test_nothing_begins_after_a_step_that_never_came_was_undone(replica: Replica):
    disk_id = replica.a_disk()
    snapshot_id = take(replica, disk_id, 0)
    replica.automatic.end_pruning(f"op-d-{disk_id}/prune")
    with pytest.raises(StepWithdrawn):
        prune(replica, disk_id, keep=1)
    assert left(replica, disk_id) == [snapshot_id]


def test_nothing_is_deleted_for_a_policy_that_is_gone_or_has_let_go_of_the_disk(replica: Replica):
    disk_id, another = replica.a_disk(), replica.a_disk()
    replica.set_policy(POLICY, disk_id, retention_count=1, retention_days=None)
    taken = [take(replica, disk_id, number) for number in range(2)]
    step = {"account_id": ACCOUNT, "disk_id": disk_id, "policy_id": POLICY}
    replica.set_policy(POLICY, another)
    with pytest.raises(PolicyNotFound):
        replica.automatic.prune("op-d-1/prune", "op-d-1", **step)
    with replica.database.write() as session:
        replica.policies.delete(session, POLICY)
    with pytest.raises(PolicyNotFound):
        replica.automatic.prune("op-d-2/prune", "op-d-2", **step)
    assert left(replica, disk_id) == taken


def test_a_retention_that_was_changed_while_the_disk_was_busy_counts_as_it_is_now(replica: Replica):
    disk_id = replica.a_disk()
    taken = [take(replica, disk_id, number) for number in range(3)]
    replica.set_policy(POLICY, disk_id, retention_count=1, retention_days=None)
    replica.set_policy(POLICY, disk_id, retention_count=None, retention_days=None)
    assert prune(replica, disk_id) == 0
    assert left(replica, disk_id) == taken


def test_nothing_is_deleted_of_a_busy_disk(replica: Replica):
    disk_id = replica.a_disk()
    snapshot_id = take(replica, disk_id, 0)
    with replica.database.write() as session:
        disk_rows.set_task(session, [disk_id], Task.RESIZING, "op-d-resize")
    with pytest.raises(Unanswered, match="RESIZING by operation op-d-resize"):
        prune(replica, disk_id, keep=1)
    assert left(replica, disk_id) == [snapshot_id]
    with replica.database.write() as session:
        disk_rows.clear_tasks(session, "op-d-resize", Task.RESIZING)
    assert prune(replica, disk_id, keep=1) == 1


def test_nothing_is_deleted_for_a_snapshot_that_would_not_fit_in_all_the_same(replica: Replica):
    disk_id = replica.a_disk()
    for number in range(QUOTA):
        take(replica, disk_id, number, policy_id="asp-other")
    with pytest.raises(SnapshotQuotaExceeded):
        prune(replica, disk_id, keep=1)


def test_days_are_counted_by_the_clock_from_the_time_each_was_taken(replica: Replica):
    disk_id = replica.a_disk()
    snapshots = [take(replica, disk_id, number) for number in range(2)]
    with replica.database.read() as session:
        newest = replica.snapshots.get(session, snapshots[1])
    replica.now = newest.create_time + timedelta(days=3)
    assert prune(replica, disk_id, days=3) == 1
    assert left(replica, disk_id) == [snapshots[1]]
