"""The form of what services send each other."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.compute.v1 import instance_pb2
from stillpoint.compute.v1 import participant_service_pb2 as compute
from stillpoint.disk.v1 import import_service_pb2 as imports
from stillpoint.disk.v1 import participant_service_pb2 as disk
from svckit.errors import InvalidRequest
from svckit.steps import must_be_well_formed, must_name_each_once
from svckit.validation import Checks

OPERATION = "op-s-01m8f8dghjwanay41msfakvve3"


def _fields_of(refuse: Callable[[], object]) -> list[str]:
    try:
        refuse()
    except InvalidRequest as refusal:
        return [problem.field for problem in refusal.fields]
    return []


def _problems(request: Any) -> list[str]:
    return _fields_of(lambda: must_be_well_formed(request))


def test_a_step_as_a_saga_calls_it_is_let_through():
    begin = imports.BeginImportRequest(
        key=f"{OPERATION}/begin",
        operation_id=OPERATION,
        source_region="north",
        account_id="local",
        snapshots=[
            imports.ImportedSnapshot(
                snapshot_id="snap-1",
                name="Zürich-20261127T194422Z",
                description="Two\nlines",
                labels={"a": "1"},
                size_bytes=1 << 20,
                cut_time=Timestamp(seconds=1),
                base_source_snapshot_ids=["snap-2", "snap-3"],
            )
        ],
    )
    assert _problems(begin) == []
    assert _problems(disk.WithdrawConsistencyPointRequest(key=f"{OPERATION}/cut")) == []
    assert _problems(disk.ListHoldsRequest(page_token="=" * 5000)) == []


@pytest.mark.parametrize(
    "key", ["", OPERATION, f"{OPERATION}/", f"{OPERATION}/cut\0", "/cut", f"{OPERATION}/a/b"]
)
def test_a_key_is_an_operations_id_and_a_steps_name(key: str):
    assert _problems(disk.ApplyRollbackRequest(key=key)) == ["key"]


@pytest.mark.parametrize("operation_id", ["", "op-s-another"])
def test_a_hold_is_for_the_operation_whose_step_it_is(operation_id: str):
    request = compute.LeaseInstanceRequest(key=f"{OPERATION}/lease", operation_id=operation_id)
    assert _problems(request) == ["operation_id"]


def test_what_only_asks_is_no_step():
    assert _problems(compute.LeaseInstanceRequest(key="/lease", validate_only=True)) == []


def test_what_no_column_can_hold_is_named_wherever_it_is():
    request = imports.BeginImportRequest(
        key=f"{OPERATION}/begin",
        operation_id=OPERATION,
        account_id="loc\0al",
        source_region="south\0",
        snapshots=[
            imports.ImportedSnapshot(snapshot_id="snap-1"),
            imports.ImportedSnapshot(
                snapshot_id="SNAP",
                name="a" * 257,
                labels={"\0": ""},
                size_bytes=-1,
                cut_time=Timestamp(seconds=253_402_300_800),
                base_source_snapshot_ids=["snap-2", "snap-\0"],
            ),
        ],
    )
    assert set(_problems(request)) == {
        "account_id",
        "source_region",
        "snapshots[1].snapshot_id",
        "snapshots[1].name",
        "snapshots[1].labels",
        "snapshots[1].size_bytes",
        "snapshots[1].cut_time",
        "snapshots[1].base_source_snapshot_ids[1]",
    }


def test_an_enum_has_values_that_it_knows():
    request = compute.LeaseInstanceRequest(
        key=f"{OPERATION}/lease",
        operation_id=OPERATION,
        allowed_states=[instance_pb2.Instance.STATE_RUNNING, 99],  # type: ignore[list-item] # of a later version
    )
    assert _problems(request) == ["allowed_states[1]"]


@pytest.mark.parametrize("disk_ids", [[], [""], ["disk-1", "disk-2", "disk-1"]])
def test_what_is_to_be_done_with_several_names_each_of_them_once(disk_ids: list[str]):
    def check_targets() -> None:
        with Checks() as check:
            targets = [disk.RollbackTarget(disk_id=each) for each in disk_ids]
            must_name_each_once(check, "targets", "disk_id", targets)

    assert _fields_of(check_targets) == ["targets"]
