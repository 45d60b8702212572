"""Values that a field can have and nobody means: what falls off the ends of types, databases, encodings and rules."""

import base64
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

LONG_TEXT_BYTES = 1 << 20

# The first and the last second of what a Timestamp may be, and those beside them, among the ends of the integers.
_INTEGERS = (
    *(0, 1, -1, 2, 499, 500, 501, 4095, 4096, 4097, 999_999_999, 1_000_000_000, -4096),
    *(1 << 20, (1 << 20) - 4096, 3 << 20, 64 << 40, (64 << 40) + 4096, 1 << 62),
    *(-62_135_596_801, -62_135_596_800, 253_402_300_799, 253_402_300_800),
    *((1 << 31) - 1, -(1 << 31), 1 << 31, (1 << 63) - 1, -(1 << 63)),
)
_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "disk-\0",
        "\x01\x1f\x7f",
        "\n",
        "a\nb",
        "\u2028",
        "\ufeff",
        "\ufffe",
        "\U0010ffff",
    ),
    *("é", "e\u0301", "日本", "ß" * 65, "\u202eabc", "👩‍👩‍👧‍👦", "İ", "A", "Ⅷ", "٣"),
    *(
        "'; DROP TABLE disks; --",
        '"',
        "%",
        "_",
        "\\",
        "%s%n%x",
        "{0}",
        "{{7*7}}",
        "$(reboot)",
        "`",
        "*",
        "$.a",
        "a.b",
    ),
    *("../../etc/passwd", "/", "-", "--", "null", "None", "NaN", "1e309", "0x10", "true", "[]", "{}"),
    *("a" * 63, "a" * 64, "a" * 65, "a" * 66, "a" * 256, "a" * 257, "a" * 3000, "a" * 70_000),
    *(
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "local",
        "south",
        "north",
    ),
    *(
        "i-0",
        "disk-0",
        "snap-0",
        "isnap-0",
        "asp-0",
        "op-c-0",
        "op-d-0",
        "op-s-0",
        "op-x-0",
        "op-s-0/cut",
        "/",
        "a/",
    ),
    *("labels.a", "name", "id", "state", "UTC", "Europe/Berlin", "../UTC", "Mars/Olympus", "posix/UTC"),
)
_KEYS_OF_PAGES: tuple[Any, ...] = (
    *("", "\0", "disk-\0", "zzz", "1/2", f"{1 << 80}/1", f"1/{1 << 80}", "-1/-1", "a/b", "١/١", "\ud800"),
    *(0, -1, 1 << 63, -(1 << 63), 10**400, 1.5, float("nan"), None, True, [], {}, [[[[]]]]),
)


def odd_text(random: Random) -> str:
    if random.random() < 0.01:
        return random.choice("a\0é") * (LONG_TEXT_BYTES // 2)
    if random.random() < 0.2:
        return "".join(chr(_a_code_point(random)) for _ in range(random.randrange(1, 80)))
    return random.choice(_TEXTS)


def _a_code_point(random: Random) -> int:
    """Any but a surrogate, which protobuf's text cannot have."""
    point = random.randrange(0x110000 if random.random() < 0.5 else 0x80)
    return point if not 0xD800 <= point < 0xE000 else 0xD7FF


def odd_bytes(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 7, 511, 4096, 4097, 65_537)))


def odd_page_token(random: Random, known: str) -> str:
    """A forgery: what a list has issued, with another key in it."""
    try:
        binding, key = json.loads(base64.urlsafe_b64decode(known.encode()))
    except ValueError:
        return odd_text(random)
    match random.randrange(4):
        case 0:
            forged: Any = [binding, random.choice(_KEYS_OF_PAGES)]
        case 1:
            forged = random.choice(([key, binding], [binding], {}, binding, None, [binding, key, key]))
        case 2:
            return known[: random.randrange(len(known))]
        case _:
            return base64.urlsafe_b64encode(b"[" * 100_000).decode()
    return base64.urlsafe_b64encode(json.dumps(forged).encode()).decode()


def odd_scalar(random: Random, field: FieldDescriptor) -> Any:
    """What the type of the field can hold."""
    if field.enum_type is not None:
        return random.choice((*field.enum_type.values_by_number, 99, -1, (1 << 31) - 1, -(1 << 31)))
    return _SCALARS[field.type](random)


def _fitting(random: Random, bits: int) -> int:
    number = random.choice(_INTEGERS)
    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else number % (1 << bits - 1)


_SCALARS: Mapping[int, Callable[[Random], Any]] = {
    FieldDescriptor.TYPE_STRING: odd_text,
    FieldDescriptor.TYPE_BYTES: odd_bytes,
    FieldDescriptor.TYPE_BOOL: lambda random: random.random() < 0.5,
    FieldDescriptor.TYPE_INT32: lambda random: _fitting(random, 32),
    FieldDescriptor.TYPE_INT64: lambda random: _fitting(random, 64),
}
"""By the types that the protos have."""


def odd_metadata(random: Random) -> list[tuple[str, str | bytes]]:
    """Such as gRPC lets a client send."""
    some: tuple[list[tuple[str, str | bytes]], ...] = (
        [("x-request-id", "r" * 7000)],
        [("x-request-id", "one"), ("x-request-id", "two"), ("x-request-id", " ")],
        [("x-request-id", "a b'\"{}%s")],
        [("traceparent", "00-zz-zz-zz")],
        [("traceparent", "ff-" + "0" * 32 + "-" + "0" * 16 + "-ff"), ("tracestate", "=,=")],
        [("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")] * 3,
        [("authorization", "Bearer " + "a" * 2000)],
        [("authorization", ""), ("authorization", "Basic")],
        [("grpc-trace-bin", random.randbytes(40)), ("odd-bin", b"\0\xff")],
        [(f"x-{number}", "v") for number in range(60)],
    )
    return random.choice(some)
