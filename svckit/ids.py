"""Ids: a prefix that names the kind, then 26 characters that sort by time of creation.

They sort, so a list in order of creation is a walk along the primary key, and a page token is just the last id.
"""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter that reads like a digit


def new_id(prefix: str) -> str:
    """`<prefix>-` and 48 bits of milliseconds followed by 80 random bits."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return f"{prefix}-" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
