"""Updates with a field mask (AIP-134): which fields of its resource a client changes."""

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from svckit.validation import Checks


def fields_to_change(
    check: Checks, resource: Message, mask: FieldMask, changeable: Collection[str]
) -> list[str]:
    """Without a mask these are the changeable fields that are set. Output only fields, which a client sends back as it got
    them, are then never looked at.
    """
    for path in mask.paths:
        check.that(path in changeable, "update_mask", f"has {path!r}, which is not {' or '.join(changeable)}")
    chosen = mask.paths or [field.name for field, _ in resource.ListFields()]
    return [name for name in changeable if name in chosen]
