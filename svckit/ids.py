"""Ids: a prefix that names the kind, then 26 characters that sort by time of creation.

They sort, so a list in order of creation is a walk along the primary key, and a page token is just the last id. Within a
process each is greater than the one before, also within a millisecond, so that things made together keep their order.
"""

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter that reads like a digit
_RANDOM_BITS = 80

_guard = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """`<prefix>-` and 48 bits of milliseconds followed by 80 random bits."""
    global _last  # noqa: PLW0603 - the process's own order is what is kept here
    value = time.time_ns() // 1_000_000 << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BITS // 8))
    with _guard:
        if value >> _RANDOM_BITS <= _last >> _RANDOM_BITS:
            value = _last + 1
        _last = value
    return f"{prefix}-" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
