"""stillpoint.disk.v1.ImportService: how another region's disk_svc delivers snapshots, a step at a time."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.disk.v1 import block_service_pb2, disk_snapshot_pb2, participant_service_pb2
from stillpoint.disk.v1 import import_service_pb2 as pb
from stillpoint.disk.v1.import_service_pb2_grpc import ImportServiceStub
from tests.contract.cloud import ACCOUNT, MIB, Cloud, an_unknown_id
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside, an_operation_id, step_withdrawn
from tests.contract.refusals import invalid, refused

State = disk_snapshot_pb2.DiskSnapshot
CHUNK = 16 * 1024
MOMENT = Timestamp(seconds=1_700_000_000)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What `elsewhere` sends, in steps."""

    stub: ImportServiceStub
    request: pb.BeginImportRequest

    @property
    def key(self) -> str:
        return self.request.key

    @property
    def ids(self) -> list[str]:
        return [snapshot.snapshot_id for snapshot in self.request.snapshots]

    def begin(self) -> list[str]:
        """The base of each."""
        return [base.base_source_snapshot_id for base in self.stub.BeginImport(self.request).bases]

    def write(self, number: int, *extents: tuple[int, bytes]) -> None:
        message = pb.WriteImportRequest(
            key=self.key,
            snapshot_id=self.ids[number],
            extents=[block_service_pb2.Extent(offset_bytes=at, data=data) for at, data in extents],
        )
        assert [answer.messages_durable for answer in self.stub.WriteImport(iter([message]))] == [1]

    def digest(self, number: int, offset_bytes: int, length_bytes: int) -> bytes:
        request = pb.DigestImportRequest(
            key=self.key,
            snapshot_id=self.ids[number],
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
        )
        return self.stub.DigestImport(request).sha256

    def finish(self) -> None:
        self.stub.FinishImport(pb.FinishImportRequest(key=self.key))

    def withdraw(self) -> None:
        self.stub.WithdrawImport(pb.WithdrawImportRequest(key=self.key))


class Elsewhere:
    """Another region, as far as this one can tell."""

    def __init__(self, cloud: Cloud, inside: Inside) -> None:
        self.cloud = cloud
        self.inside = inside
        self._stub = ImportServiceStub(cloud.open_channel(cloud.addresses.disk.internal))

    def delivery(
        self,
        *,
        sizes: tuple[int, ...] = (MIB,),
        source_ids: tuple[str, ...] = (),
        bases: tuple[str, ...] = (),
        instance_snapshot_id: str = "",
    ) -> Delivery:
        operation_id = an_operation_id()
        source_ids = source_ids or tuple(an_unknown_id("snap") for _ in sizes)
        return Delivery(
            self._stub,
            pb.BeginImportRequest(
                key=f"{operation_id}/begin",
                operation_id=operation_id,
                source_region="elsewhere",
                account_id=ACCOUNT,
                instance_snapshot_id=instance_snapshot_id,
                snapshots=[
                    pb.ImportedSnapshot(
                        snapshot_id=an_unknown_id("snap"),
                        source_snapshot_id=source_id,
                        name="contract-import",
                        size_bytes=size,
                        cut_time=MOMENT,
                        base_source_snapshot_ids=bases,
                    )
                    for size, source_id in zip(sizes, source_ids, strict=True)
                ],
            ),
        )

    def delivered(self, data: bytes, source_id: str) -> str:
        """A finished copy."""
        delivery = self.delivery(sizes=(MIB,), source_ids=(source_id,))
        delivery.begin()
        delivery.write(0, (0, data))
        delivery.finish()
        return delivery.ids[0]

    def holds_of(self, delivery: Delivery) -> list[tuple[str, str, str]]:
        """Kind, resource and region of what is held for its operation."""
        request = participant_service_pb2.ListHoldsRequest(page_size=500)
        return sorted(
            (hold.kind, hold.resource_id, hold.operation_region)
            for hold in self.inside.disk.ListHolds(request).holds
            if hold.operation_id == delivery.request.operation_id
        )

    def store_problems_with(self, delivery: Delivery) -> list[str]:
        answers = self.inside.disk.CheckStore(participant_service_pb2.CheckStoreRequest())
        return [
            answer.problem
            for answer in answers
            if any(snapshot_id in answer.object_id for snapshot_id in delivery.ids)
        ]


@pytest.fixture
def elsewhere(cloud: Cloud, inside: Inside) -> Elsewhere:
    return Elsewhere(cloud, inside)


@contextmanager
def begun(delivery: Delivery) -> Iterator[Delivery]:
    delivery.begin()
    try:
        yield delivery
    finally:
        delivery.withdraw()


def gone(cloud: Cloud, snapshot_id: str) -> None:
    with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
        cloud.disk_snapshot(snapshot_id)


def test_snapshots_are_creating_until_all_are_available_together(elsewhere: Elsewhere):
    whole_id = an_unknown_id("isnap")
    delivery = elsewhere.delivery(sizes=(MIB, 2 * MIB), instance_snapshot_id=whole_id)
    assert delivery.begin() == ["", ""]
    data = os.urandom(CHUNK)
    delivery.write(0, (0, data))
    delivery.write(1, (MIB, data), (0, b"beginning"))
    for snapshot in map(elsewhere.cloud.disk_snapshot, delivery.ids):
        assert (snapshot.state, snapshot.operation_id) == (
            State.STATE_CREATING,
            delivery.request.operation_id,
        )
    delivery.finish()
    delivery.finish()
    for snapshot in map(elsewhere.cloud.disk_snapshot, delivery.ids):
        assert (snapshot.state, snapshot.operation_id) == (State.STATE_AVAILABLE, "")
        assert (snapshot.cut_time, snapshot.instance_snapshot_id) == (MOMENT, whole_id)
    assert elsewhere.cloud.read(delivery.ids[0], 0, CHUNK) == data
    assert elsewhere.cloud.read(delivery.ids[1]) == (b"beginning".ljust(MIB, b"\0") + data).ljust(
        2 * MIB, b"\0"
    )
    assert elsewhere.holds_of(delivery) == []
    assert elsewhere.store_problems_with(delivery) == []


def test_the_same_key_again_answers_the_same_and_keeps_what_was_written(elsewhere: Elsewhere):
    source_id = an_unknown_id("snap")
    elsewhere.delivered(b"base", source_id)
    with begun(elsewhere.delivery(bases=(source_id,))) as delivery:
        delivery.write(0, (0, b"kept"))
        before = delivery.digest(0, 0, MIB)
        assert delivery.begin() == [source_id]
        assert delivery.digest(0, 0, MIB) == before


def test_what_is_held_for_an_import_is_named_with_the_region_whose_operation_it_is(elsewhere: Elsewhere):
    with begun(elsewhere.delivery()) as delivery:
        assert elsewhere.holds_of(delivery) == [
            ("import", delivery.ids[0], "elsewhere"),
            ("snapshot", delivery.ids[0], "elsewhere"),
        ]
        assert elsewhere.store_problems_with(delivery) == []
    assert elsewhere.holds_of(delivery) == []


def test_a_copy_begins_with_the_first_base_that_is_here(elsewhere: Elsewhere):
    older, newer = an_unknown_id("snap"), an_unknown_id("snap")
    elsewhere.delivered(b"older", older)
    elsewhere.delivered(b"newer", newer)
    delivery = elsewhere.delivery(bases=(an_unknown_id("snap"), newer, older))
    assert delivery.begin() == [newer]
    delivery.write(0, (CHUNK, b"more"))
    delivery.finish()
    assert elsewhere.cloud.read(delivery.ids[0], 0, 5) == b"newer"
    assert elsewhere.cloud.read(delivery.ids[0], CHUNK, 4) == b"more"


def test_a_copy_from_a_third_region_is_no_base(elsewhere: Elsewhere):
    source_id = an_unknown_id("snap")
    elsewhere.delivered(b"base", source_id)
    delivery = elsewhere.delivery(bases=(source_id,))
    delivery.request.source_region = "somewhere"
    assert delivery.begin() == [""]
    delivery.withdraw()


def test_a_digest_is_that_of_the_pieces_that_are_not_zero_however_zeros_are_stored(elsewhere: Elsewhere):
    with begun(elsewhere.delivery()) as delivery:
        delivery.write(0, (CHUNK + 100, b"some"), (3 * CHUNK, bytes(CHUNK)), (5 * CHUNK - 4, b"data!!"))
        content = bytearray(MIB)
        content[CHUNK + 100 : CHUNK + 104] = b"some"
        content[5 * CHUNK - 4 : 5 * CHUNK + 2] = b"data!!"
        expected = hashlib.sha256()
        for offset in (CHUNK, 4 * CHUNK, 5 * CHUNK):
            expected.update(offset.to_bytes(8) + content[offset : offset + CHUNK])
        assert delivery.digest(0, 0, MIB) == expected.digest()
        # A range that cuts a piece at either end.
        start, stop = CHUNK + 102, 5 * CHUNK + 1
        expected = hashlib.sha256()
        expected.update(start.to_bytes(8) + content[start : 2 * CHUNK])
        expected.update((4 * CHUNK).to_bytes(8) + content[4 * CHUNK : 5 * CHUNK])
        expected.update((5 * CHUNK).to_bytes(8) + content[5 * CHUNK : stop])
        assert delivery.digest(0, start, stop - start) == expected.digest()
        assert delivery.digest(0, 6 * CHUNK, CHUNK) == hashlib.sha256().digest()


def test_an_import_that_was_undone_leaves_nothing_and_takes_nothing_any_more(elsewhere: Elsewhere):
    delivery = elsewhere.delivery(sizes=(MIB, MIB))
    delivery.begin()
    delivery.write(0, (0, b"in vain"))
    delivery.withdraw()
    delivery.withdraw()
    for late in (
        delivery.begin,
        delivery.finish,
        lambda: delivery.write(0, (0, b"late")),
        lambda: delivery.digest(0, 0, MIB),
    ):
        with step_withdrawn():
            late()
    for snapshot_id in delivery.ids:
        gone(elsewhere.cloud, snapshot_id)
    assert elsewhere.store_problems_with(delivery) == []


def test_an_import_that_was_undone_before_it_came_is_refused(elsewhere: Elsewhere):
    delivery = elsewhere.delivery()
    delivery.withdraw()
    with step_withdrawn():
        delivery.begin()
    gone(elsewhere.cloud, delivery.ids[0])


def test_an_import_that_was_finished_is_not_undone_any_more(elsewhere: Elsewhere):
    delivery = elsewhere.delivery()
    delivery.begin()
    delivery.finish()
    delivery.withdraw()
    assert elsewhere.cloud.disk_snapshot(delivery.ids[0]).state == State.STATE_AVAILABLE
    assert elsewhere.store_problems_with(delivery) == []


def test_a_finished_import_takes_nothing_any_more(elsewhere: Elsewhere):
    delivery = elsewhere.delivery()
    delivery.begin()
    delivery.finish()
    for late in (
        delivery.begin,
        lambda: delivery.write(0, (0, b"late")),
        lambda: delivery.digest(0, 0, MIB),
    ):
        with step_withdrawn():
            late()


def test_a_write_beyond_the_end_is_refused_and_says_where_that_is(elsewhere: Elsewhere):
    with begun(elsewhere.delivery()) as delivery:
        with refused("OUT_OF_RANGE", "RANGE_BEYOND_END", DISK) as refusal:
            delivery.write(0, (MIB - 1, b"xx"))
    assert refusal.metadata == {"size_bytes": str(MIB)}


@pytest.mark.parametrize("size_bytes", [0, 4095, 1 << 62])
def test_what_cannot_be_the_size_of_a_disk_is_refused_and_nothing_is_listed(
    elsewhere: Elsewhere, size_bytes: int
):
    delivery = elsewhere.delivery(sizes=(MIB, size_bytes))
    with invalid("snapshots[1].size_bytes"):
        delivery.begin()
    assert elsewhere.holds_of(delivery) == []


def test_an_id_that_is_taken_is_refused_and_whose_it_is_stays(elsewhere: Elsewhere):
    taken = elsewhere.delivered(b"first", an_unknown_id("snap"))
    delivery = elsewhere.delivery(sizes=(MIB, MIB))
    delivery.request.snapshots[1].snapshot_id = taken
    with invalid("snapshots"):
        delivery.begin()
    assert elsewhere.holds_of(delivery) == []
    assert elsewhere.cloud.read(taken, 0, 5) == b"first"
