"""What a client sends: requests such as a service accepts, such with one thing wrong, such with nothing right, and bytes
that are no message at all.
"""

from collections.abc import Iterable
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.fuzz.knowledge import Knowledge
from tests.fuzz.likely import Likely, is_map, kind_of
from tests.fuzz.methods import Target
from tests.fuzz.values import odd_page_token, odd_scalar

MOST_BYTES = 6 << 20
"""Less than a server takes in: what is larger is gRPC's own to refuse."""

_HOW_MANY = (0, 1, 2, 3, 17, 65, 101, 1025, 5000)
_FEW = 5
"""Of these in messages within messages."""
_SHORT = 100
_PREFIXES = ("i", "disk", "snap", "isnap", "asp", "op-c", "op-d", "op-s")
_FIELDS_OF_NO_MESSAGE = b"\xfa\x3f\x05odd!?\x82\x7d\x03abc"
_TEXT_THAT_IS_NO_UTF_8 = b"\x0a\x02\xff\xfe"


class Messages:
    """Of one client of the run, which has dice of its own."""

    def __init__(self, random: Random, knowledge: Knowledge) -> None:
        self._random = random
        self._knowledge = knowledge
        self._likely = Likely(random, knowledge)

    def stream(self, target: Target) -> list[bytes]:
        """One, where the method takes one. (A call that ends without any is left unanswered by grpc.aio itself.)"""
        if not target.descriptor.client_streaming:
            return [self._one(target)]
        count = self._random.choice((0, 1, 1, 2, 3, 20))
        first = self._one(target)
        return [first if self._random.random() < 0.7 else self._one(target) for _ in range(count)]

    def _one(self, target: Target) -> bytes:
        die = self._random.random()
        if die < 0.5:
            return self._likely.request(target).SerializeToString()
        if die < 0.72:
            return self._with_one_oddity(self._likely.request(target))
        if die < 0.8 and (accepted := self._knowledge.accepted(self._random, target)) is not None:
            again = self._random.random() < 0.5
            return accepted if again else self._with_one_oddity(target.request.FromString(accepted))
        if die < 0.84 and (page := self._knowledge.page(self._random, target)) is not None:
            return self._next_page(target, *page)
        if die < 0.93:
            return _bounded(self._make_all_odd(target.request()))
        return self._no_message(self._likely.request(target).SerializeToString())

    def _next_page(self, target: Target, request: bytes, token: str) -> bytes:
        message: Any = target.request.FromString(request)
        message.page_token = token if self._random.random() < 0.4 else odd_page_token(self._random, token)
        return _bounded(message)

    def _with_one_oddity(self, message: Message) -> bytes:
        """Somewhere in it."""
        at: Any = message
        while (inner := list(_messages_in(at))) and self._random.random() < 0.6:
            at = self._random.choice(inner)
        fields: list[FieldDescriptor] = at.DESCRIPTOR.fields
        if fields:
            self._make_odd(at, self._random.choice(fields), depth=0)
        return _bounded(message)

    def _make_all_odd(self, message: Message, depth: int = 0) -> Message:
        descriptor: Any = message.DESCRIPTOR
        for field in descriptor.fields:
            if self._random.random() < 0.7:
                self._make_odd(message, field, depth)
        return message

    def _make_odd(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if self._random.random() < 0.1:
            message.ClearField(field.name)
        elif is_map(field):
            self._make_entries(getattr(message, field.name), field, depth)
        elif field.is_repeated:
            self._make_many(getattr(message, field.name), field, depth)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            self._make_all_odd(getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, self._odd_value(message.DESCRIPTOR, field))

    def _odd_value(self, descriptor: Descriptor, field: FieldDescriptor) -> Any:
        if kind_of(descriptor, field) is None or self._random.random() < 0.5:
            return odd_scalar(self._random, field)
        # What is there, of whatever kind: an id in the wrong place, or in the right one at a bad time.
        prefix = self._random.choice(_PREFIXES)
        return self._knowledge.fact(self._random, prefix).get(prefix) or self._likely.new_id(prefix)

    def _make_entries(self, entries: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(self._how_many(depth)):
            entries[self._short(key)] = self._short(value)

    def _make_many(self, elements: Any, field: FieldDescriptor, depth: int) -> None:
        count = self._how_many(depth)
        if field.message_type is not None:
            for _ in range(min(count, 1025)):
                self._make_all_odd(elements.add(), depth + 1)
        elif count <= 2:
            elements.extend(odd_scalar(self._random, field) for _ in range(count))
        else:
            again = self._short(field)
            elements.extend(
                again if self._random.random() < 0.5 else self._short(field) for _ in range(count)
            )

    def _how_many(self, depth: int) -> int:
        return self._random.choice(_HOW_MANY if depth == 0 else _HOW_MANY[:_FEW])

    def _short(self, field: FieldDescriptor) -> Any:
        """Of many."""
        value = odd_scalar(self._random, field)
        return value[:_SHORT] if isinstance(value, (str, bytes)) else value

    def _no_message(self, encoded: bytes) -> bytes:
        random = self._random
        place = random.randrange(len(encoded) + 1)
        return random.choice(
            (
                encoded[:place],
                encoded[:place] + random.randbytes(1) + encoded[place + 1 :],
                random.randbytes(random.choice((1, 2, 10, 100, 5000))),
                encoded + _FIELDS_OF_NO_MESSAGE,
                b"\x0a" * random.choice((1, 2, 4000)),
                encoded + _TEXT_THAT_IS_NO_UTF_8,
            )
        )


def parsed(target: Target, encoded: bytes) -> Message | None:
    """None for what is no message."""
    try:
        return target.request.FromString(encoded)
    except DecodeError:
        return None


def _messages_in(message: Message) -> Iterable[Message]:
    for field, value in message.ListFields():
        if field.message_type is not None and not is_map(field):
            yield from value if field.is_repeated else (value,)


def _bounded(message: Message) -> bytes:
    encoded = message.SerializeToString()
    return encoded if len(encoded) <= MOST_BYTES else b""
