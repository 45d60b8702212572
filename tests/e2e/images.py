"""Files of bytes that go into disks, and come out of them again."""

import hashlib
import random
from pathlib import Path


def write_image(path: Path, size_bytes: int) -> Path:
    """A file of bytes that no other image has, with a hole in the middle, as a real image has many."""
    data = bytearray(random.randbytes(size_bytes))
    data[size_bytes // 2 : size_bytes * 3 // 4] = bytes(size_bytes * 3 // 4 - size_bytes // 2)
    path.write_bytes(data)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
