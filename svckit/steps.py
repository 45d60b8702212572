"""The form of what services send each other, told by the names and the types of the fields alone: in every message of an
internal port they mean the same. Whoever calls there is trusted in what it wants, and may have faults all the same: what no
column can hold, or what nobody could end again, is refused before it has an effect.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.exc import IntegrityError

from svckit.database import says_that_it_is_taken
from svckit.errors import FieldProblem, InvalidRequest
from svckit.validation import Checks

_KEY = re.compile(r"([a-z0-9-]{1,64})/[a-z0-9_]{1,64}")


def must_be_well_formed(request: Message) -> None:
    """Raises InvalidRequest with every field that is not."""
    with Checks() as check:
        _check_fields(check, "", request)
        fields = request.DESCRIPTOR.fields_by_name
        # What only asks has no operation, and its key is not kept.
        if "key" in fields and not ("validate_only" in fields and _value(request, "validate_only")):
            _check_step(check, request, named="operation_id" in fields)


def must_name_each_once(
    check: Checks, field: str, key: str, messages: Iterable[Any], *, prefix: str = ""
) -> None:
    """There is at least one of the messages, and in each another id in the field `key`, which begins with `prefix`."""
    named = Counter(getattr(message, key) for message in messages)
    check.that(bool(named), field, "is empty")
    for each, times in named.items():
        check.that(bool(each), field, f"has one without {key}")
        check.that(each.startswith(prefix), field, f"has {key} {each!r}, which is no {prefix}…")
        check.that(times == 1, field, f"has {key} {each!r} {times} times")


@contextmanager
def must_be_new(field: str) -> Iterator[None]:
    """Whoever asks has picked the ids of what is to be made: one that is taken is refused, as the row that has it demands."""
    try:
        yield
    except IntegrityError as error:
        if not says_that_it_is_taken(error):
            raise
        raise InvalidRequest(
            f"{field} names what is here already", fields=[FieldProblem(field, "names what is here already")]
        ) from error


def _check_step(check: Checks, request: Message, *, named: bool) -> None:
    """design.md §6, law 3: the key is `<saga id>/<step>`. A hold that another operation had than its key says, or none,
    could not be abandoned.
    """
    key = _KEY.fullmatch(_value(request, "key"))
    check.that(key is not None, "key", "is not an operation's id, a slash and a step's name")
    if key is not None and named:
        check.that(_value(request, "operation_id") == key[1], "operation_id", "is not the one of `key`")


def _check_fields(check: Checks, at: str, message: Message) -> None:
    for field, value in message.ListFields():
        path = f"{at}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            check.labels(path, value)
        elif field.is_repeated:
            _check_each(check, path, field, value)
        else:
            _check_one(check, path, field, value)


def _check_each(check: Checks, path: str, field: FieldDescriptor, values: Iterable[Any]) -> None:
    for number, each in enumerate(values):
        _check_one(check, f"{path}[{number}]", field, each)


def _check_one(check: Checks, path: str, field: FieldDescriptor, value: Any) -> None:
    if isinstance(value, Timestamp):
        check.moment(path, value)
    elif isinstance(value, Message):
        _check_fields(check, f"{path}.", value)
    elif isinstance(value, str):
        if field.name.endswith(("_id", "_ids")):
            check.resource_id(path, value)
        elif field.name not in ("key", "page_token"):  # which are looked at where they are read
            check.description(path, value)
    elif field.enum_type is not None:
        check.enum_value(path, value, field.enum_type.values_by_number)
    elif field.name.endswith("_bytes") and isinstance(value, int):
        check.that(value >= 0, path, "is negative")


def _value(message: Any, field: str) -> Any:
    return getattr(message, field)
