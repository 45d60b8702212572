"""Updates with a field mask (AIP-134): which fields of its resource a client changes, and to what.

A resource says what of it can be changed with the names of fields that are here; its columns have the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from svckit.validation import Checks

DESCRIBED = ("name", "description", "labels")
"""What can be changed of whatever a client makes."""

_CHECKS: Mapping[str, Callable[[Checks, str, Any], None]] = {
    "name": Checks.name,
    "description": Checks.description,
    "labels": Checks.labels,
}
_COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    "name": lambda resource: resource.name,
    "description": lambda resource: resource.description,
    "labels": lambda resource: dict(resource.labels),
}


def changes(
    check: Checks, field: str, resource: Message, mask: FieldMask, *, changeable: tuple[str, ...] = DESCRIBED
) -> dict[str, Any]:
    """The columns to change, with their new values. `field` is where the request has `resource`.

    Without a mask these are the changeable fields that are set, so that an update can be sent without one; output only
    fields, which a client sends back as it got them, are never looked at.
    """
    unknown = sorted(set(mask.paths) - set(changeable))
    check.that(not unknown, "update_mask", f"has {unknown}; it may have {', '.join(changeable)}")
    chosen = mask.paths or [each.name for each, _ in resource.ListFields()]
    changed = [name for name in changeable if name in chosen]
    for name in changed:
        _CHECKS[name](check, f"{field}.{name}", getattr(resource, name))
    return {name: _COLUMNS[name](resource) for name in changed}
