"""Refusals: what a client sees of them, and that they survive the way there and back."""

from collections.abc import Callable
from urllib.parse import quote_from_bytes

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from svckit.errors import (
    DependencyUnavailable,
    FieldProblem,
    InvalidRequest,
    OperationEnded,
    OperationNotFound,
    Overloaded,
    PageTokenInvalid,
    QuotaViolation,
    Refusal,
    RequestIdReused,
    StepWithdrawn,
    Violation,
    refuse_all,
)

BUSY = Violation("DISK_BUSY", "disk/disk-1", "disk-1 is RESIZING")
DEBT = Violation("ACCOUNT_IN_DEBT", "account/local", "the account is in debt")
FULL = QuotaViolation("disk/disk-1", "manual-snapshots", 256, "disk-1 has 256 of 256")
BLOCKED = ("FAILED_PRECONDITION", "PRECONDITIONS", "snapshot.stillpoint")
FULL_UP = ("RESOURCE_EXHAUSTED", "QUOTA_FULL", "disk.stillpoint")
FULLER = QuotaViolation("disk/disk-2", "manual-snapshots", 256, "disk-2 has 256 of 256")


class DiskBusy(Refusal):
    reason = "DISK_BUSY"
    domain = "disk.stillpoint"


class QuotaFull(Refusal):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_FULL"
    domain = "disk.stillpoint"


@pytest.mark.parametrize(
    "refusal",
    [
        InvalidRequest("bad", fields=[FieldProblem("name", "is empty"), FieldProblem("size", "is zero")]),
        PageTokenInvalid(),
        RequestIdReused("1"),
        OperationNotFound("op-1"),
        OperationEnded("op-1"),
        StepWithdrawn("op-1/cut"),
        Overloaded(),
        DependencyUnavailable("op-1", "nobody there"),
        DiskBusy(
            "busy", preconditions=[BUSY, DEBT], quotas=[FULL], metadata={"disk_id": "disk-1", "é": "ü…"}
        ),
        QuotaFull("full", quotas=[FULL, FULLER]),
        Refusal("", retry_after_seconds=0.0),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
def test_a_refusal_is_the_same_after_its_way_as_a_status(refusal: Refusal):
    returned = Refusal.from_status(status_pb2.Status.FromString(refusal.to_status().SerializeToString()))
    assert returned is not None
    for name in (
        "code",
        "reason",
        "domain",
        "message",
        "metadata",
        "preconditions",
        "quotas",
        "fields",
        "retry_after_seconds",
    ):
        assert getattr(returned, name) == getattr(refusal, name), name
    assert returned.to_status() == refusal.to_status()
    assert Refusal.from_bytes(refusal.to_status().SerializeToString()).message == refusal.message


def test_every_status_says_the_reason_and_the_domain_first():
    details = DiskBusy("busy", preconditions=[BUSY]).to_status().details
    info = error_details_pb2.ErrorInfo()
    assert details[0].Unpack(info)
    assert (info.reason, info.domain) == ("DISK_BUSY", "disk.stillpoint")


def test_a_status_that_no_stillpoint_service_wrote_is_no_refusal():
    assert Refusal.from_status(status_pb2.Status(code=9, message="no")) is None
    foreign = any_pb2.Any()
    foreign.Pack(error_details_pb2.ErrorInfo(reason="DISK_BUSY", domain="googleapis.com"))
    assert Refusal.from_status(status_pb2.Status(code=9, details=[foreign])) is None
    with pytest.raises(ValueError, match="not a kept refusal"):
        Refusal.from_bytes(b"")


def _raised(*refusals: Refusal) -> Refusal:
    with pytest.raises(Refusal) as caught:
        refuse_all(refusals, "snapshot.stillpoint")
    return caught.value


def test_nothing_gathered_refuses_nothing():
    refuse_all([], "snapshot.stillpoint")


def test_one_refusal_is_raised_as_it_is():
    busy = DiskBusy("busy", preconditions=[BUSY])
    assert _raised(busy) is busy


def _busy() -> Refusal:
    return DiskBusy("busy", preconditions=[BUSY])


def _debt() -> Refusal:
    return DiskBusy("debt", preconditions=[DEBT])


def _full() -> Refusal:
    return QuotaFull("full", quotas=[FULL])


def _fuller() -> Refusal:
    return QuotaFull("fuller", quotas=[FULLER])


@pytest.mark.parametrize(
    ("made", "name", "preconditions", "quotas"),
    [
        ((_busy, _debt), BLOCKED, (BUSY, DEBT), ()),
        ((_full, _fuller), FULL_UP, (), (FULL, FULLER)),
        ((_full, _busy), BLOCKED, (BUSY,), (FULL,)),
        (
            (_busy, _full, _debt, _fuller),
            BLOCKED,
            (BUSY, DEBT),
            (FULL, FULLER),
        ),
    ],
)
def test_several_refusals_become_one_that_names_every_blocking_thing(
    made: tuple[Callable[[], Refusal], ...],
    name: tuple[str, str, str],
    preconditions: tuple[Violation, ...],
    quotas: tuple[QuotaViolation, ...],
):
    refusals = [make() for make in made]
    combined = _raised(*refusals)
    assert (combined.code.name, combined.reason, combined.domain) == name
    assert (combined.preconditions, combined.quotas) == (preconditions, quotas)
    assert combined.message == "; ".join(refusal.message for refusal in refusals)
    returned = Refusal.from_status(combined.to_status())
    assert returned is not None
    assert (returned.preconditions, returned.quotas) == (preconditions, quotas)


def test_a_refusal_about_sixty_disks_names_each_and_fits_into_a_clients_trailers():
    busy = [
        DiskBusy(f"{n} is busy", preconditions=[Violation("DISK_BUSY", f"disk/{n}", "x" * 200)])
        for n in range(60)
    ]
    combined = _raised(*busy)
    assert combined.message.endswith("7 is busy; and 52 more")
    status = combined.to_status()
    returned = Refusal.from_status(status)
    assert returned is not None
    assert [violation.subject for violation in returned.preconditions] == [f"disk/{n}" for n in range(60)]
    assert _bytes_in_trailers(status) < 8192


@pytest.mark.parametrize(
    "refusal",
    [
        InvalidRequest("bad", fields=[FieldProblem(f"extents[{n}].data", "is empty") for n in range(5000)]),
        InvalidRequest("日" * 5000, fields=[FieldProblem("labels", "日" * 5000)]),
        InvalidRequest("%" * 5000, fields=[FieldProblem("labels", "\0" * 700)]),
        DiskBusy("busy", preconditions=[Violation("DISK_BUSY", f"disk/{n:064}", "") for n in range(5000)]),
    ],
    ids=["fields", "a message that is escaped", "a sentence that is not", "violations"],
)
def test_however_much_is_wrong_the_refusal_fits_into_a_clients_trailers(refusal: Refusal):
    status = refusal.to_status()
    assert _bytes_in_trailers(status) < 8192
    returned = Refusal.from_status(status)
    assert returned is not None
    assert (returned.reason, returned.message) == (refusal.reason, refusal.message[: len(returned.message)])
    for left, all_of_them in (
        (returned.fields, refusal.fields),
        (returned.preconditions, refusal.preconditions),
    ):
        assert [each.field if isinstance(each, FieldProblem) else each.subject for each in left] == [
            each.field if isinstance(each, FieldProblem) else each.subject for each in all_of_them
        ][: len(left)]
        assert bool(left) == bool(all_of_them)


def _bytes_in_trailers(status: status_pb2.Status) -> float:
    """With the names of the headers: details in base 64, and the message as gRPC escapes it."""
    escaped = len(quote_from_bytes(status.message.encode(), safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}"))
    return status.ByteSize() * 4 / 3 + escaped + 300
