"""stillpoint.disk.v1.BlockService: the bytes."""

import queue
from collections.abc import Callable, Iterator

import pytest

from stillpoint.disk.v1 import block_service_pb2 as pb
from tests.contract.cloud import MIB, Cloud, an_unknown_id, joined, write_message
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused


def read_of(source: str, object_id: str) -> pb.ReadBlocksRequest:
    """`source` is `disk_id` or `snapshot_id`."""
    request = pb.ReadBlocksRequest()
    setattr(request, source, object_id)
    return request


class OpenWriter:
    """A stream of WriteBlocks that goes on while the test does other things."""

    def __init__(self, cloud: Cloud, disk_id: str) -> None:
        self._messages: queue.SimpleQueue[pb.WriteBlocksRequest | None] = queue.SimpleQueue()
        self._answers = cloud.blocks.WriteBlocks(iter(self._messages.get, None))
        self._next_disk_id = disk_id

    def send(self, *extents: tuple[int, bytes]) -> None:
        self._messages.put(write_message(self._next_disk_id, *extents))
        self._next_disk_id = ""

    def answer(self) -> pb.WriteBlocksResponse:
        return next(self._answers)

    def write(self, *extents: tuple[int, bytes]) -> pb.WriteBlocksResponse:
        self.send(*extents)
        return self.answer()

    def end(self) -> list[pb.WriteBlocksResponse]:
        self._messages.put(None)
        return list(self._answers)


Opened = Callable[[str], OpenWriter]


@pytest.fixture
def open_writer(cloud: Cloud, request: pytest.FixtureRequest) -> Opened:
    def make(disk_id: str) -> OpenWriter:
        writer = OpenWriter(cloud, disk_id)
        # A thread of grpc waits for the next message until there is an end.
        request.addfinalizer(lambda: writer._messages.put(None))
        return writer

    return make


class TestWriteBlocks:
    def test_answers_each_message_with_how_much_is_durable(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        messages = [
            write_message(disk_id, (0, b"abc")),
            write_message("", (4096, b"d"), (8192, b"ef")),
            write_message(disk_id, (100, b"g")),
        ]
        answers = list(cloud.blocks.WriteBlocks(iter(messages)))
        assert [(a.messages_durable, a.bytes_durable) for a in answers] == [(1, 3), (2, 6), (3, 7)]

    def test_answers_a_message_before_the_stream_has_ended(self, cloud: Cloud, open_writer: Opened):
        disk_id = cloud.a_disk()
        writer = open_writer(disk_id)
        assert writer.write((0, b"first")).messages_durable == 1
        assert cloud.read(disk_id, 0, 5) == b"first"
        assert writer.write((0, b"again")).messages_durable == 2
        assert writer.end() == []

    def test_applies_messages_in_the_order_sent(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        messages = [write_message(disk_id, (0, b"%03d" % number)) for number in range(100)]
        *_, last = cloud.blocks.WriteBlocks(iter(messages))
        assert last.messages_durable == 100
        assert cloud.read(disk_id, 0, 3) == b"099"

    def test_lets_the_later_of_overlapping_extents_win(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (10, b"aaaaaaaa"), (12, b"bbbb"), (14, b"c"))
        assert cloud.read(disk_id, 9, 10) == b"\0aabbcbaa\0"

    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 1), (1, 1), (4095, 2), (16383, 2), (16384, 16384), (12345, 54321), (MIB - 1, 1), (0, MIB)],
    )
    def test_takes_extents_of_any_alignment(self, cloud: Cloud, offset: int, length: int):
        disk_id = cloud.a_disk()
        data = bytes(1 + (index * 7) % 251 for index in range(length))
        cloud.write(disk_id, (offset, data))
        assert cloud.read(disk_id) == bytes(offset) + data + bytes(MIB - offset - length)

    def test_takes_messages_of_up_to_4_mib(self, cloud: Cloud):
        disk_id = cloud.a_disk(size_bytes=8 * MIB)
        half = b"\x5a" * (2 * MIB)
        cloud.write(disk_id, (0, half), (6 * MIB, half))
        assert cloud.read(disk_id) == half + bytes(4 * MIB) + half

    def test_writes_at_the_far_end_of_the_largest_disk(self, cloud: Cloud):
        size = 64 << 40
        disk_id = cloud.a_disk(size_bytes=size)
        cloud.write(disk_id, (size - 3, b"end"))
        assert cloud.read(disk_id, size - 4, 4) == b"\0end"

    def test_writes_while_a_snapshot_is_being_taken(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id):
            cloud.write(machine.system_disk_id, (0, b"not paused"))
            assert cloud.read(machine.system_disk_id, 0, 10) == b"not paused"

    def test_ends_a_stream_without_messages_without_an_answer(self, cloud: Cloud):
        assert list(cloud.blocks.WriteBlocks(iter([]))) == []

    @pytest.mark.parametrize("disk_id", ["", "No Id"])
    def test_fails_when_the_first_message_names_no_disk(self, cloud: Cloud, disk_id: str):
        with invalid("disk_id"):
            cloud.write(disk_id, (0, b"x"))

    def test_fails_when_a_later_message_names_another_disk_and_keeps_what_came_before(self, cloud: Cloud):
        first, other = cloud.a_disk(), cloud.a_disk()
        answers = cloud.blocks.WriteBlocks(
            iter([write_message(first, (0, b"kept")), write_message(other, (0, b"lost"))])
        )
        with invalid("disk_id"):
            assert next(answers).messages_durable == 1
            next(answers)
        assert cloud.read(first, 0, 4) == b"kept"
        assert cloud.read(other, 0, 4) == bytes(4)

    @pytest.mark.parametrize(
        ("extents", "field"),
        [
            ([], "extents"),
            ([(number, b"x") for number in range(1025)], "extents"),
            ([(0, b"")], "extents[0].data"),
            ([(0, b"x"), (5, b"")], "extents[1].data"),
            ([(-1, b"x")], "extents[0].offset_bytes"),
            ([(0, bytes(4 * MIB + 1))], "extents"),
            ([(0, bytes(2 * MIB)), (0, bytes(2 * MIB)), (0, b"x")], "extents"),
        ],
    )
    def test_fails_when_a_message_has_no_data_or_too_much_or_a_negative_offset(
        self, cloud: Cloud, extents: list[tuple[int, bytes]], field: str
    ):
        disk_id = cloud.a_disk(size_bytes=8 * MIB)
        with invalid(field):
            cloud.write(disk_id, *extents)
        assert cloud.read(disk_id, 0, 10) == bytes(10)

    def test_a_thousand_malformed_extents_still_get_an_answer(self, cloud: Cloud):
        with refused("INVALID_ARGUMENT", "INVALID_REQUEST") as refusal:
            cloud.write(cloud.a_disk(), *[(-1, b"")] * 1024)
        assert refusal.fields[:2] == ["extents[0].offset_bytes", "extents[0].data"]

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.write(an_unknown_id("disk"), (0, b"x"))

    @pytest.mark.parametrize(
        ("offset", "length"), [(MIB, 1), (MIB - 1, 2), (0, MIB + 1), (1 << 62, 1), ((1 << 63) - 1, 1)]
    )
    def test_fails_when_an_extent_goes_beyond_the_end_and_applies_nothing_of_its_message(
        self, cloud: Cloud, offset: int, length: int
    ):
        disk_id = cloud.a_disk()
        with refused("OUT_OF_RANGE", "RANGE_BEYOND_END", DISK) as refusal:
            cloud.write(disk_id, (0, b"whole or not at all"), (offset, bytes(length)))
        assert refusal.metadata == {"size_bytes": str(MIB)}
        assert cloud.read(disk_id, 0, 19) == bytes(19)

    def test_fails_when_the_disk_is_being_made(self, cloud: Cloud, inside: Inside):
        with inside.being_made("") as [disk_id]:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                cloud.write(disk_id, (0, b"x"))
        assert refusal.metadata["state"] == "CREATING"

    def test_fails_when_the_disk_is_being_rolled_back(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)) as operation_id:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK) as refusal:
                cloud.write(disk_id, (0, b"x"))
        assert refusal.metadata["operation_id"] == operation_id
        cloud.write(disk_id, (0, b"x"))

    def test_is_fenced_when_the_disk_is_detached_meanwhile_and_keeps_what_was_answered(
        self, cloud: Cloud, open_writer: Opened
    ):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        writer = open_writer(disk_id)
        writer.write((0, b"kept"))
        cloud.detach(machine.id, disk_id)
        with refused("ABORTED", "WRITER_FENCED", DISK) as refusal:
            writer.write((0, b"late"))
        assert refusal.metadata == {"disk_id": disk_id}
        assert cloud.read(disk_id, 0, 4) == b"kept"
        cloud.write(disk_id, (0, b"anew"))

    def test_is_fenced_when_the_disk_is_deleted_meanwhile(self, cloud: Cloud, open_writer: Opened):
        disk_id = cloud.a_disk()
        writer = open_writer(disk_id)
        writer.write((0, b"x"))
        cloud.delete_disk(disk_id)
        with refused("ABORTED", "WRITER_FENCED", DISK):
            writer.write((0, b"late"))

    def test_is_fenced_when_the_disk_is_reserved_for_a_rollback_meanwhile(
        self, cloud: Cloud, inside: Inside, open_writer: Opened
    ):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        writer = open_writer(disk_id)
        writer.write((0, b"kept"))
        with inside.rolling_back((disk_id, snapshot_id)):
            with refused("ABORTED", "WRITER_FENCED", DISK):
                writer.write((0, b"late"))
        assert cloud.read(disk_id, 0, 4) == b"kept"

    def test_is_fenced_when_its_instance_is_deleted_meanwhile(self, cloud: Cloud, open_writer: Opened):
        machine = cloud.an_instance(data_disks=1, stopped=True)
        writers = [open_writer(disk_id) for disk_id in machine.disk_ids]
        for writer in writers:
            writer.write((0, b"x"))
        cloud.delete_instance(machine.id)
        for writer in writers:
            with refused("ABORTED", "WRITER_FENCED", DISK):
                writer.write((0, b"late"))

    def test_is_not_fenced_by_a_detachment_that_is_repeated_after_the_disk_was_attached_again(
        self, cloud: Cloud, inside: Inside, open_writer: Opened
    ):
        machine = cloud.an_instance(data_disks=1)
        [disk_id] = machine.data_disk_ids
        detachment = inside.detach_request(machine.id, disk_id)
        inside.disk.DetachDisk(detachment)
        cloud.attach(machine.id, disk_id)
        writer = open_writer(disk_id)
        writer.write((0, b"1"))
        inside.disk.DetachDisk(detachment)
        writer.write((1, b"2"))
        assert cloud.read(disk_id, 0, 2) == b"12"

    def test_is_not_fenced_by_a_snapshot(self, cloud: Cloud, open_writer: Opened):
        machine = cloud.an_instance()
        writer = open_writer(machine.system_disk_id)
        writer.write((0, b"1"))
        cloud.an_instance_snapshot(machine.id)
        assert writer.write((1, b"2")).messages_durable == 2


class TestReadBlocks:
    def test_streams_a_range_in_order_in_messages_of_up_to_1_mib(self, cloud: Cloud):
        disk_id = cloud.a_disk(size_bytes=4 * MIB)
        content = b"".join(number.to_bytes(4, "big") for number in range(MIB * 3 // 4))
        cloud.write(disk_id, (0, content))
        pieces = cloud.read_pieces(disk_id, 5, 3 * MIB)
        assert len(pieces) >= 3
        assert joined(pieces, 5) == (content + bytes(MIB))[5 : 5 + 3 * MIB]

    def test_sends_holes_without_their_zeros(self, cloud: Cloud):
        size = 64 << 40
        disk_id = cloud.a_disk(size_bytes=size)
        [piece] = cloud.read_pieces(disk_id)
        assert (piece.offset_bytes, piece.length_bytes, piece.data) == (0, size, b"")
        cloud.write(disk_id, (1 << 40, b"island"))
        pieces = cloud.read_pieces(disk_id)
        assert sum(piece.length_bytes for piece in pieces) == size
        assert b"island" in b"".join(piece.data for piece in pieces)
        assert sum(len(piece.data) for piece in pieces) <= MIB

    def test_reads_to_the_end_when_no_length_is_given(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (MIB - 3, b"end"))
        assert cloud.read(disk_id, MIB - 4) == b"\0end"

    def test_reads_nothing_at_the_very_end(self, cloud: Cloud):
        assert cloud.read_pieces(cloud.a_disk(), MIB) == []

    def test_reads_a_snapshot_after_its_disk_was_deleted(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        cloud.write(disk_id, (777, b"still here"))
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        cloud.delete_disk(disk_id)
        assert cloud.read(snapshot_id, 777, 10) == b"still here"

    def test_reads_each_snapshot_as_the_disk_was_at_its_moment(self, cloud: Cloud):
        disk_id = cloud.a_disk()
        taken = []
        for number in range(3):
            cloud.write(disk_id, (number, b"%d" % number))
            taken.append(cloud.a_disk_snapshot(disk_id))
        assert [cloud.read(each, 0, 3) for each in taken] == [b"0\0\0", b"01\0", b"012"]

    def test_fails_when_no_source_is_named(self, cloud: Cloud):
        with invalid("source"):
            list(cloud.blocks.ReadBlocks(pb.ReadBlocksRequest(length_bytes=1)))

    @pytest.mark.parametrize("source", ["disk_id", "snapshot_id"])
    @pytest.mark.parametrize("malformed", ["", "No Id"])
    def test_fails_when_the_sources_id_is_malformed(self, cloud: Cloud, source: str, malformed: str):
        with invalid(source):
            list(cloud.blocks.ReadBlocks(read_of(source, malformed)))

    def test_fails_when_offset_and_length_are_negative(self, cloud: Cloud):
        with invalid("offset_bytes", "length_bytes"):
            cloud.read_pieces(cloud.a_disk(), -1, -1)

    def test_fails_when_the_disk_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
            cloud.read(an_unknown_id("disk"))

    def test_fails_when_the_snapshot_is_not_there(self, cloud: Cloud):
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            cloud.read(an_unknown_id("snap"))

    @pytest.mark.parametrize(
        ("offset", "length"),
        [
            (MIB + 1, 0),
            (MIB, 1),
            (0, MIB + 1),
            (MIB - 1, 2),
            ((1 << 63) - 1, 0),
            ((1 << 63) - 1, (1 << 63) - 1),
        ],
    )
    @pytest.mark.parametrize("of_snapshot", [False, True])
    def test_fails_when_the_range_goes_beyond_the_end(
        self, cloud: Cloud, offset: int, length: int, of_snapshot: bool
    ):
        object_id = cloud.a_disk_snapshot() if of_snapshot else cloud.a_disk()
        with refused("OUT_OF_RANGE", "RANGE_BEYOND_END", DISK) as refusal:
            cloud.read(object_id, offset, length)
        assert refusal.metadata == {"size_bytes": str(MIB)}

    def test_fails_when_the_disk_is_being_rolled_back(self, cloud: Cloud, inside: Inside):
        disk_id = cloud.a_disk()
        snapshot_id = cloud.a_disk_snapshot(disk_id)
        with inside.rolling_back((disk_id, snapshot_id)):
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                cloud.read(disk_id)
            assert cloud.read(snapshot_id, 0, 1) == b"\0"

    def test_fails_when_the_disk_is_being_made(self, cloud: Cloud, inside: Inside):
        with inside.being_made("") as [disk_id]:
            with refused("FAILED_PRECONDITION", "DISK_BUSY", DISK):
                cloud.read(disk_id)

    def test_fails_when_the_snapshot_is_being_made(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.snapshotting(machine.id) as point:
            with refused("FAILED_PRECONDITION", "SNAPSHOT_STATE", DISK):
                cloud.read(point.members[0].snapshot_id)


def test_a_stream_of_reads_that_is_left_half_way_leaves_the_service_well(cloud: Cloud):
    disk_id = cloud.a_disk(size_bytes=8 * MIB)
    for offset in range(0, 8, 4):
        cloud.write(disk_id, (offset * MIB, b"\xa5" * (4 * MIB)))
    for _ in range(5):
        pieces: Iterator[pb.ReadBlocksResponse] = cloud.blocks.ReadBlocks(
            pb.ReadBlocksRequest(disk_id=disk_id)
        )
        next(pieces)
        pieces.cancel()  # type: ignore[attr-defined] # a call is an iterator that can be cancelled
    assert cloud.read(disk_id, 7 * MIB, 4) == b"\xa5" * 4
