"""The names under which an instance sees its disks: vda … vdz, vdaa, vdab …; vda is the system disk."""

from collections.abc import Collection, Iterator
from itertools import count, product
from string import ascii_lowercase

SYSTEM_DEVICE = "vda"


def data_devices(taken: Collection[str] = ()) -> Iterator[str]:
    """The names that a data disk may get, the lowest first, without those that are taken."""
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            device = f"vd{''.join(letters)}"
            if device != SYSTEM_DEVICE and device not in taken:
                yield device


def order_of(device: str) -> tuple[int, str]:
    """Sorts vdz before vdaa."""
    return len(device), device
