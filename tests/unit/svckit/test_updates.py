"""What an update with a field mask changes, asked of a message that a real RPC has."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from stillpoint.disk.v1.disk_pb2 import Disk
from svckit import updates
from svckit.errors import InvalidRequest
from svckit.validation import Checks


def changes(disk: Disk, *paths: str) -> dict[str, object]:
    with Checks() as check:
        return updates.changes(check, "disk", disk, FieldMask(paths=paths))


def refused_fields(disk: Disk, *paths: str) -> list[str]:
    with pytest.raises(InvalidRequest) as refusal:
        changes(disk, *paths)
    assert all(problem.field in refusal.value.message for problem in refusal.value.fields)
    return [problem.field for problem in refusal.value.fields]


def test_a_mask_says_what_changes_and_what_it_names_unset_is_taken_away():
    disk = Disk(name="new", description="not asked for", size_bytes=5)
    assert changes(disk, "name", "labels") == {"name": "new", "labels": {}}
    assert changes(Disk(), "description") == {"description": ""}


def test_without_a_mask_what_is_set_and_can_be_changed_changes():
    disk = Disk(id="disk-1", description="d", labels={"a": "1"}, size_bytes=5, role=Disk.ROLE_DATA)
    assert changes(disk) == {"description": "d", "labels": {"a": "1"}}
    assert changes(Disk(id="disk-1")) == {}


def test_every_path_that_cannot_be_changed_is_named_in_one_problem():
    with pytest.raises(InvalidRequest) as refusal:
        changes(Disk(name="n"), "name", "size_bytes", "labels.a", "*", "")
    [problem] = refusal.value.fields
    assert problem.field == "update_mask"
    for path in ("size_bytes", "labels.a", "*", "''"):
        assert path in problem.description


def test_what_is_not_asked_for_is_not_looked_at():
    assert changes(Disk(name=" no name ", description="d"), "description") == {"description": "d"}


def test_each_malformed_field_is_named_where_the_request_has_it():
    disk = Disk(name="9", description="\t", labels={"K": ""})
    assert refused_fields(disk) == ["disk.name", "disk.description", "disk.labels"]
    assert refused_fields(Disk(), "name", "state") == ["update_mask", "disk.name"]


def test_a_reader_that_fields_share_is_asked_once_and_says_what_is_wrong_once():
    def size(check: Checks, at: str, disk: Disk) -> dict[str, object]:
        check.that(disk.size_bytes > 0, f"{at}.size", "is nothing")
        return {"size": disk.size_bytes}

    shared = {"size_bytes": size, "source_snapshot_id": size}
    mask = FieldMask(paths=[*shared])
    with pytest.raises(InvalidRequest) as of_change, Checks() as check:
        updates.changes(check, "disk", Disk(), mask, shared)
    with pytest.raises(InvalidRequest) as of_new, Checks() as check:
        updates.everything(check, "disk", Disk(), shared)
    for refusal in (of_change, of_new):
        assert [problem.field for problem in refusal.value.fields] == ["disk.size"]
