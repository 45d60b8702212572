"""Updates with a field mask (AIP-134): which fields of its resource a client changes, and to what.

What of a resource can be changed is a mapping of the fields' names to readers; a reader checks its field, and gives the
columns with their new values.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from svckit.validation import Checks

Reader = Callable[[Checks, str, Any], Mapping[str, Any]]
"""Given where the request has the resource, and the resource."""


def _name(check: Checks, at: str, resource: Any) -> Mapping[str, Any]:
    check.name(f"{at}.name", resource.name)
    return {"name": resource.name}


def _description(check: Checks, at: str, resource: Any) -> Mapping[str, Any]:
    check.description(f"{at}.description", resource.description)
    return {"description": resource.description}


def _labels(check: Checks, at: str, resource: Any) -> Mapping[str, Any]:
    check.labels(f"{at}.labels", resource.labels)
    return {"labels": dict(resource.labels)}


def _expire_time(check: Checks, at: str, resource: Any) -> Mapping[str, Any]:
    if not resource.HasField("expire_time"):
        return {"expire_time": None}
    return {"expire_time": check.moment(f"{at}.expire_time", resource.expire_time)}


DESCRIBED: Mapping[str, Reader] = {"name": _name, "description": _description, "labels": _labels}
"""What can be changed of whatever a client makes."""

EXPIRING: Mapping[str, Reader] = {**DESCRIBED, "expire_time": _expire_time}
"""And of what is deleted by itself."""


def changes(
    check: Checks,
    at: str,
    resource: Message,
    mask: FieldMask,
    changeable: Mapping[str, Reader] = DESCRIBED,
) -> dict[str, Any]:
    """The columns to change, with their new values. `at` is where the request has `resource`.

    Without a mask these are the changeable fields that are set, so that an update can be sent without one; output only
    fields, which a client sends back as it got them, are never looked at.
    """
    unknown = sorted(set(mask.paths) - set(changeable))
    check.that(not unknown, "update_mask", f"has {unknown}; it may have {', '.join(changeable)}")
    chosen = mask.paths or [each.name for each, _ in resource.ListFields()]
    return _read(check, at, resource, (read for name, read in changeable.items() if name in chosen))


def everything(check: Checks, at: str, resource: Message, settable: Mapping[str, Reader]) -> dict[str, Any]:
    """The columns of a new one."""
    return _read(check, at, resource, settable.values())


def _read(check: Checks, at: str, resource: Message, readers: Iterable[Reader]) -> dict[str, Any]:
    """Each reader once: the fields of a oneof share theirs, and what is wrong with them is said once."""
    columns: dict[str, Any] = {}
    for read in dict.fromkeys(readers):
        columns |= read(check, at, resource)
    return columns
