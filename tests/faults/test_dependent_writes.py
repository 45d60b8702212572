"""One moment for all disks, shown by the dependent write: "a writer that writes n to disk A, waits for the answer, then writes
n to disk B, forever, never finds B ahead of A in any snapshot" (design.md §5).
"""

from dataclasses import dataclass

import pytest

from stillpoint.disk.v1 import block_service_pb2, disk_snapshot_service_pb2
from tests.faults.stage import BLOCK_BYTES, Stage
from tests.faults.streams import DependentWriter, number_in
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

SNAPSHOTS = 110
CONTROL_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot's numbers on the disks A and B of one writer, and what the writer knew before and after it."""

    acknowledged_before: tuple[int, int]
    held: tuple[int, int]
    sent_after: tuple[int, int]


def faults_of(taken: Taken) -> list[str]:
    a, b = taken.held
    faults = []
    if b > a:
        faults.append(f"B is ahead: {a} on A, {b} on B")
    if a > b + 1:
        faults.append(f"A is more than one ahead: {a} on A, {b} on B")
    for disk, number, acknowledged, sent in zip(
        "AB", taken.held, taken.acknowledged_before, taken.sent_after, strict=True
    ):
        if number < acknowledged:
            faults.append(
                f"{disk} has {number} and lacks {acknowledged}, acknowledged before the request was sent"
            )
        if number > sent:
            faults.append(f"{disk} has {number}, and only {sent} was sent when the answer arrived")
    return faults


def number_of(stage: Stage, snapshot_id: str) -> int:
    request = block_service_pb2.ReadBlocksRequest(snapshot_id=snapshot_id, length_bytes=BLOCK_BYTES)
    return number_in(b"".join(piece.data for piece in stage.blocks.ReadBlocks(request)))


def test_in_every_one_of_a_hundred_snapshots_no_disk_is_ahead_of_the_disk_it_depends_on(stage: Stage):
    machine = stage.make_machine(data_disks=5)
    pairs = zip(machine.disk_ids[::2], machine.disk_ids[1::2], strict=True)
    writers = [DependentWriter(stage, *pair) for pair in pairs]
    eventually(lambda: all(writer.b.acknowledged for writer in writers), what="the first writes")
    looks = []
    for _ in range(SNAPSHOTS):
        before = [writer.acknowledged() for writer in writers]
        answer = stage.begin_snapshot(machine).result()
        after = [writer.sent() for writer in writers]
        looks.append((answer.instance_snapshot, before, after))
        assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    for writer in writers:
        writer.stop()

    taken = []
    for snapshot, before, after in looks:
        numbers = {member.disk_id: number_of(stage, member.snapshot_id) for member in snapshot.members}
        for writer, acknowledged, sent in zip(writers, before, after, strict=True):
            disk_a, disk_b = writer.disk_ids
            taken.append(Taken(acknowledged, (numbers[disk_a], numbers[disk_b]), sent))
    assert [(look, faults_of(look)) for look in taken if faults_of(look)] == []
    # The writers were not waiting for the snapshots, nor the snapshots for the writers.
    assert len({look.held for look in taken}) > SNAPSHOTS
    assert any(a == b + 1 for a, b in (look.held for look in taken)), "no cut fell between the two writes"
    stage.assert_nothing_left()


def wait_for_another_write(writer: DependentWriter) -> None:
    by_now = writer.b.sent
    eventually(lambda: writer.b.acknowledged > by_now + 1, what="another write")


def test_the_same_check_catches_disks_that_are_cut_one_after_the_other(stage: Stage):
    machine = stage.make_machine(data_disks=1)
    disk_a, disk_b = machine.disk_ids
    writer = DependentWriter(stage, disk_a, disk_b)

    def cut(disk_id: str) -> str:
        request = disk_snapshot_service_pb2.CreateDiskSnapshotRequest(disk_id=disk_id)
        answer = stage.disk_snapshots.CreateDiskSnapshot(request)
        assert stage.outcome(answer.operation_id) == "SUCCEEDED"
        return answer.snapshot.id

    looks = []
    for _ in range(CONTROL_ROUNDS):
        before = writer.acknowledged()
        first = cut(disk_a)
        wait_for_another_write(writer)
        second = cut(disk_b)
        looks.append((before, first, second, writer.sent()))
    writer.stop()
    for before, first, second, after in looks:
        taken = Taken(before, (number_of(stage, first), number_of(stage, second)), after)
        assert any("B is ahead" in fault for fault in faults_of(taken)), taken
    stage.assert_nothing_left()
