"""What every list promises: pages that neither skip nor repeat, and tokens that are good for nothing else."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.cloud import Cloud
from tests.contract.methods import LISTS, Method
from tests.contract.refusals import invalid, refused

each_list = pytest.mark.parametrize("method", LISTS, ids=str)


@pytest.fixture(scope="module")
def something_to_list(cloud: Cloud) -> None:
    """At least four of everything."""
    machine = cloud.an_instance(data_disks=1)
    for _ in range(3):
        cloud.an_instance()
    for _ in range(4):
        cloud.an_instance_snapshot(machine.id)
        cloud.a_disk()
        cloud.a_policy()


def filter_fields(method: Method) -> Mapping[str, Any]:
    message = method.request.DESCRIPTOR.fields_by_name["filter"].message_type
    assert message is not None
    return message.fields_by_name


def page(cloud: Cloud, method: Method, **fields: Any) -> tuple[list[Any], str]:
    answer = method.call(cloud, method.request(**fields))
    [(_, rows)] = [
        (field, value) for field, value in answer.ListFields() if field.name != "next_page_token"
    ] or [(None, [])]
    return list(rows), answer.next_page_token


def key(row: Any) -> Any:
    return row.sequence if hasattr(row, "sequence") else row.id


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_pages_follow_each_other_newest_first_without_gaps_or_repetitions(cloud: Cloud, method: Method):
    at_once, _ = page(cloud, method, page_size=4)
    assert len(at_once) == 4
    assert [key(row) for row in at_once] == sorted((key(row) for row in at_once), reverse=True)
    for size in (1, 3):
        walked, token = page(cloud, method, page_size=size)
        while len(walked) < 4:
            assert token
            rows, token = page(cloud, method, page_size=size, page_token=token)
            walked += rows
        assert walked[:4] == at_once


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_the_last_page_has_no_token(cloud: Cloud, method: Method):
    token, pages = "", 0
    while True:
        rows, token = page(cloud, method, page_size=500, page_token=token)
        pages += 1
        if not token:
            break
        assert len(rows) == 500
    assert pages < 100


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_no_page_size_means_50_and_a_huge_one_at_most_500(cloud: Cloud, method: Method):
    rows, token = page(cloud, method)
    assert len(rows) == 50 or (len(rows) < 50 and not token)
    many, token = page(cloud, method, page_size=(1 << 31) - 1)
    assert len(many) == 500 or (len(many) < 500 and not token)
    assert many[: len(rows)] == rows


@each_list
@pytest.mark.parametrize("page_size", [-1, -(1 << 31)])
def test_fails_when_page_size_is_negative(cloud: Cloud, method: Method, page_size: int):
    with invalid("page_size"):
        page(cloud, method, page_size=page_size)


def a_forged_token(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@each_list
@pytest.mark.parametrize(
    "token",
    [
        "1",
        "not a token",
        "ünicode",
        "AAAA",
        "====",
        a_forged_token(),
        a_forged_token("x", "y", "z"),
        a_forged_token("0123456789abcdef", "i-0"),
        base64.urlsafe_b64encode(b"null").decode(),
        "A" * 10_000,
    ],
)
def test_fails_when_the_token_is_none(cloud: Cloud, method: Method, token: str):
    with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID") as refusal:
        page(cloud, method, page_token=token)
    assert refusal.fields == ["page_token"]


@each_list
@pytest.mark.usefixtures("something_to_list")
@pytest.mark.parametrize("forged", [None, 1.5, True, [], {}, "x\x00", "\ud800", 1 << 70, -(1 << 70)])
def test_fails_when_the_token_was_tampered_with(cloud: Cloud, method: Method, forged: object):
    _, token = page(cloud, method, page_size=1)
    binding, _ = json.loads(base64.urlsafe_b64decode(token))
    with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
        page(cloud, method, page_size=1, page_token=a_forged_token(binding, forged))


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_fails_when_the_token_is_of_another_list(cloud: Cloud, method: Method):
    others = [other for other in LISTS if other.path != method.path]
    for other in others:
        _, token = page(cloud, other, page_size=1)
        with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
            page(cloud, method, page_size=1, page_token=token)


def a_value_of(field: FieldDescriptor) -> object:
    if field.message_type is not None:
        return (
            {"seconds": 1} if field.message_type.full_name == Timestamp.DESCRIPTOR.full_name else {"a": "1"}
        )
    if field.enum_type is not None:
        return 1
    return "x" if field.type == FieldDescriptor.TYPE_STRING else True


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_fails_when_the_token_is_of_this_list_with_another_filter(cloud: Cloud, method: Method):
    _, token = page(cloud, method, page_size=1)
    fields = filter_fields(method).values()
    for field in fields:
        value = a_value_of(field)
        with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
            page(cloud, method, page_size=1, page_token=token, filter={field.name: value})


@each_list
@pytest.mark.usefixtures("something_to_list")
def test_takes_a_token_with_another_page_size(cloud: Cloud, method: Method):
    four, _ = page(cloud, method, page_size=4)
    _, token = page(cloud, method, page_size=1)
    assert page(cloud, method, page_size=3, page_token=token)[0] == four[1:]


@each_list
@pytest.mark.parametrize("unknown", [99, -1])
def test_fails_when_a_state_or_the_like_to_filter_by_is_unknown(cloud: Cloud, method: Method, unknown: int):
    enums = [field.name for field in filter_fields(method).values() if field.enum_type is not None]
    if enums:
        with invalid(*(f"filter.{name}" for name in enums)):
            page(cloud, method, filter=dict.fromkeys(enums, unknown))


@each_list
def test_fails_when_labels_or_moments_to_filter_by_are_none(cloud: Cloud, method: Method):
    no_moment, messages = {"nanos": -1}, [f for f in filter_fields(method).values() if f.message_type]
    malformed = {
        field.name: no_moment if a_value_of(field) == {"seconds": 1} else {"No Key": ""} for field in messages
    }
    if malformed:
        with invalid(*(f"filter.{name}" for name in malformed)):
            page(cloud, method, filter=malformed)
