"""The ErrorReason enums and the code that refuses agree, in both directions."""

import importlib
from collections.abc import Iterator

import grpc
import pytest

import compute_svc.errors
import compute_svc.service
import disk_svc.errors
import disk_svc.service.disks
import snapshot_svc.errors
import svckit.edge
import svckit.errors
import svckit.saga.refusals
from svckit.errors import Refusal
from tests.contract.error_tables import (
    COMMON,
    COMPUTE,
    DISK,
    EVERYWHERE,
    REASONS,
    SNAPSHOT,
    TABLES,
    Reason,
    is_public,
)

_PACKAGES = {COMMON: "operation", COMPUTE: "compute", DISK: "disk", SNAPSHOT: "snapshot"}
_GATHERING = {
    COMPUTE: compute_svc.service,
    DISK: disk_svc.service.disks,
    SNAPSHOT: svckit.saga.refusals,
}
"""Where each service gathers refusals, which become PRECONDITIONS."""


def refusals(base: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for refusal in base.__subclasses__():
        yield refusal
        yield from refusals(refusal)


RAISED: dict[tuple[str, str], list[type[Refusal]]] = {}
for each in refusals():
    if each.reason and not each.__module__.startswith("tests."):
        RAISED.setdefault((each.domain, each.reason), []).append(each)


def test_there_are_refusals_of_every_service():
    assert {domain for domain, _ in RAISED} == _PACKAGES.keys()
    assert {svckit.edge.InternalError, disk_svc.errors.DiskBusy, snapshot_svc.errors.MemberFailed} <= {
        refusal for found in RAISED.values() for refusal in found
    }
    assert compute_svc.errors.DOMAIN == COMPUTE


@pytest.mark.parametrize(("domain", "reason"), RAISED)
def test_every_reason_that_is_raised_is_in_its_enum(domain: str, reason: str):
    module = importlib.import_module(f"stillpoint.{_PACKAGES[domain]}.v1.error_reason_pb2")
    assert f"ERROR_REASON_{reason}" in module.ErrorReason.keys()  # noqa: SIM118 - an enum wrapper is no mapping
    assert (domain, reason) in REASONS


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: f"{reason.domain}/{reason.name}")
def test_every_reason_of_an_enum_is_raised(reason: Reason):
    if reason.name == "PRECONDITIONS":
        assert hasattr(_GATHERING[reason.domain], "refuse_all")
    else:
        assert RAISED.get((reason.domain, reason.name)), "nothing raises it: take it out, or raise it"


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: f"{reason.domain}/{reason.name}")
def test_every_reason_is_documented_with_its_code(reason: Reason):
    assert reason.codes
    assert reason.codes <= {code.name for code in grpc.StatusCode}
    for refusal in RAISED.get((reason.domain, reason.name), []):
        if "code" in vars(refusal):
            assert refusal.code.name in reason.codes


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: f"{reason.domain}/{reason.name}")
def test_every_reason_is_in_an_error_table_or_says_where_else_it_is_seen(reason: Reason):
    in_tables = any(
        name == reason.name and code in reason.codes
        for method, table in TABLES.items()
        for code, name in table
        if is_public(method)
    )
    elsewhere = ("Seen only between services", "in an operation's error", "try again; nothing was changed")
    every_rpc = reason.name in {name for _, name in EVERYWHERE}
    assert in_tables or every_rpc or any(words in reason.comment for words in elsewhere)


def test_every_table_names_known_reasons_with_their_codes():
    by_name: dict[str, set[str]] = {}
    for reason in REASONS.values():
        by_name.setdefault(reason.name, set()).update(reason.codes)
    wrong = [
        f"{method}: {code} / {name}"
        for method, table in TABLES.items()
        for code, name in table
        if code not in by_name.get(name, ())
    ]
    assert not wrong


def test_every_public_method_has_a_table():
    assert [method for method, table in TABLES.items() if not table and is_public(method)] == []
