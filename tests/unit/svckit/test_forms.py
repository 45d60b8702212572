"""The form of requests, ids and moments."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter, ValidationError

from svckit.clock import from_timestamp, to_timestamp
from svckit.errors import InvalidRequest
from svckit.ids import new_id
from svckit.settings import RegionName
from svckit.validation import Checks


def _problems(check_all: Callable[[Checks], object]) -> list[tuple[str, str]]:
    try:
        with Checks() as check:
            check_all(check)
    except InvalidRequest as refusal:
        found = refusal
    else:
        return []
    assert all(problem.field in found.message for problem in found.fields)
    return [(problem.field, problem.description) for problem in found.fields]


def test_every_malformed_field_is_named_in_one_refusal():
    def check_all(check: Checks) -> None:
        check.request_id("no")
        check.resource_id("disk_id", "")
        check.page_size(-1)

    assert [field for field, _ in _problems(check_all)] == ["request_id", "disk_id", "page_size"]


def test_a_well_formed_request_is_let_through():
    def check_all(check: Checks) -> None:
        check.request_id("")
        check.request_id("0f0e0d0c-0000-4000-8000-00000000abcd")
        check.resource_id("disk_id", new_id("disk"))
        check.resource_id("filter.disk_id", "", required=False)
        check.name("name", "n" * 65)
        check.name("name", "", required=False)
        check.name("name", "système 1")
        check.description("description", "")
        check.description("description", "Two lines,\n" + "日" * 245)
        check.labels("labels", {})
        check.labels("labels", {f"k{number}": "" for number in range(16)})
        check.labels("labels", {"a" * 63: "v" * 63, "team/a.b_c-d": "Prod/1.0_x-y", "z9": "9"})
        check.enum_value("state", 0, [0, 1])
        check.page_size(0)
        check.disk_size("size_bytes", 1 << 20)
        check.line("filter.type", "create_instance/undo create_disks")
        check.line("filter.actor", "")
        check.moment("filter.time_from", Timestamp())

    assert _problems(check_all) == []


def test_another_error_inside_the_block_is_not_hidden_by_what_was_found():
    with pytest.raises(KeyError), Checks() as check:  # noqa: PT012 - what the block does is what is tested
        check.page_size(-1)
        raise KeyError


@pytest.mark.parametrize("value", ["", "a b", "A", "a" * 65, "../x", "a\n"])
def test_what_is_not_an_id_is_refused(value: str):
    assert _problems(lambda check: check.resource_id("id", value))


@pytest.mark.parametrize(
    "name", ["n", "N9", "日本", "Ω-1", "é_/. -9", "n" * 65, "web-1-20260228T235959Z", "a  b"]
)
def test_a_name_is_a_letter_of_any_script_then_letters_digits_and_some_marks(name: str):
    assert _problems(lambda check: check.name("name", name)) == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "n" * 66,
        " n",
        "n ",
        " ",
        "n\n",
        "a\x00b",
        "\x7f",
        "9n",
        "-n",
        "_n",
        "/n",
        ".n",
        "n:1",
        "n²",
        "n١",
        "a\u00a0b",
        "n🙂",
        "n,",
        "a\tb",
        "n\u200b",
    ],
)
def test_what_is_not_a_name_is_refused(value: str):
    assert _problems(lambda check: check.name("name", value))


@pytest.mark.parametrize("value", ["d" * 257, "a\tb", "a\r\nb", "\x00", "\x7f", "\x85", "\x1b[2J"])
def test_what_is_not_a_description_is_refused(value: str):
    assert _problems(lambda check: check.description("description", value))


@pytest.mark.parametrize(
    ("labels", "problems"),
    [
        ({f"k{number}": "" for number in range(17)}, 1),
        ({"": ""}, 1),
        ({"k" * 64: ""}, 1),
        ({"Key": ""}, 1),
        ({"1k": ""}, 1),
        ({'k"': ""}, 1),
        ({"k\n": ""}, 1),
        ({"k": "v" * 64}, 1),
        ({"k": "a b"}, 1),
        ({"k": "v\n"}, 1),
        ({"k": "é"}, 1),
        ({"K": "a b", "L": "", "m": "!"}, 4),
    ],
)
def test_every_label_that_is_none_is_refused(labels: dict[str, str], problems: int):
    assert [field for field, _ in _problems(lambda check: check.labels("labels", labels))] == [
        "labels"
    ] * problems


def test_a_refusal_of_very_many_labels_stays_small():
    labels = {f"Key {number}": "" for number in range(100_000)}
    assert len(_problems(lambda check: check.labels("labels", labels))) == 17


def test_a_timestamp_that_is_no_moment_is_refused():
    assert _problems(lambda check: check.moment("from", Timestamp(seconds=1 << 60)))
    assert _problems(lambda check: check.moment("from", Timestamp(nanos=-1)))
    assert _problems(lambda check: check.moment("from", Timestamp(seconds=1))) == []


@pytest.mark.parametrize(("value", "required"), [(7, False), (0, True), (-1, True)])
def test_what_is_not_a_set_value_of_an_enum_is_refused(value: int, required: bool):
    assert _problems(lambda check: check.enum_value("state", value, [0, 1, 2], required=required))


@pytest.mark.parametrize("value", [0, -4096, 4096, (1 << 20) + 1, (64 << 40) + 4096])
def test_what_is_not_the_size_of_a_disk_is_refused(value: int):
    assert _problems(lambda check: check.disk_size("size_bytes", value))


@pytest.mark.parametrize("value", ["a\x00", "a\nb", "\x7f"])
def test_what_is_not_a_line_is_refused(value: str):
    assert len(_problems(lambda check: check.line("filter.actor", value))) == 1


@pytest.mark.parametrize(
    "value", [Timestamp(seconds=1 << 60), Timestamp(seconds=-(1 << 60)), Timestamp(nanos=-1)]
)
def test_what_is_no_moment_is_refused(value: Timestamp):
    assert len(_problems(lambda check: check.moment("filter.time_from", value))) == 1


def test_ids_sort_by_the_time_of_their_creation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("svckit.ids._last", 0)
    moments = [1, 31, 32, 1_000, 1_700_000_000_000, 1_700_000_000_001, (1 << 48) - 1]
    ids = []
    for milliseconds in moments:
        monkeypatch.setattr("time.time_ns", lambda now=milliseconds: now * 1_000_000)
        ids.append(new_id("disk"))
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"disk-[0-9a-hjkmnp-tv-z]{26}", made) for made in ids)


def test_ids_of_one_moment_differ_and_keep_the_order_they_were_made_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("svckit.ids._last", 0)
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    ids = [new_id("disk") for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_ids_keep_their_order_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("svckit.ids._last", 0)
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    before = new_id("disk")
    monkeypatch.setattr("time.time_ns", lambda: 1_600_000_000_000_000_000)
    assert new_id("disk") > before


def test_ids_made_by_many_threads_differ():
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id("disk"), range(4000)))
    assert len(set(ids)) == 4000


def test_a_moment_is_the_same_after_its_way_as_a_timestamp():
    moment = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    sent = to_timestamp(moment.astimezone(timezone(timedelta(hours=-8))))
    assert sent is not None
    assert from_timestamp(sent) == moment
    assert to_timestamp(None) is None


@pytest.mark.parametrize("name", ["local", "eu", "eu-west-1", "a", "a" * 63])
def test_a_region_may_have_this_name(name: str):
    assert TypeAdapter(RegionName).validate_python(name) == name
    assert not _problems(lambda check: check.destination("destination_region", name, here="here"))


@pytest.mark.parametrize("name", ["", "EU", "1st", "-a", "a.b", "a" * 64, "../a", "a b", "a\n"])
def test_a_region_may_not_have_this_name(name: str):
    with pytest.raises(ValidationError):
        TypeAdapter(RegionName).validate_python(name)
    assert _problems(lambda check: check.destination("destination_region", name, here="here"))


def test_a_region_is_no_destination_from_itself():
    found = _problems(lambda check: check.destination("destination_region", "here", here="here"))
    assert found == [("destination_region", "is this region")]
