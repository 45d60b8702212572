"""What a power cut may leave of a file: all that was synced, and of the rest any part.

A real process runs under strace, which writes down each write and sync with its bytes, in the order in which they began and
ended. From that the file can be made again as it may be found after a cut at any moment.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

STRACE = shutil.which("strace")
_CALLS = "openat,lseek,pwrite64,pwritev,writev,write,fdatasync,fsync,ftruncate"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class Write:
    """Of the file that is watched. `began` and `ended` are places in the order of everything; `synced` says that it was on
    disk when it ended.
    """

    began: int
    ended: int
    offset_bytes: int
    data: bytes
    synced: bool


@dataclass(frozen=True, slots=True)
class Sync:
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Recording:
    """All that happened to one file; `said` is what the process said in between, each with its place."""

    writes: Sequence[Write]
    syncs: Sequence[Sync]
    said: Sequence[tuple[int, str]]

    @property
    def moments(self) -> range:
        """The places at which the power may be cut."""
        return range(max(write.ended for write in self.writes) + 2)

    def said_before(self, moment: int) -> list[str]:
        return [text for place, text in self.said if place < moment]

    def durable(self, moment: int) -> list[Write]:
        """What is on disk for certain when the power is cut then."""
        synced_until = max((sync.began for sync in self.syncs if sync.ended < moment), default=-1)
        return [
            write
            for write in self.writes
            if write.ended < synced_until or (write.synced and write.ended < moment)
        ]

    def in_the_air(self, moment: int) -> list[Write]:
        """What was begun, and may be there or not."""
        durable = {id(write) for write in self.durable(moment)}
        return [write for write in self.writes if write.began < moment and id(write) not in durable]

    def leave(self, file: Path, moment: int, survives: Callable[[], bool]) -> None:
        """Make the file as a cut at that moment leaves it; `survives` is asked of each sector that was in the air."""
        file.write_bytes(b"")
        durable = self.durable(moment)
        with file.open("r+b") as disk:
            for write in sorted([*durable, *self.in_the_air(moment)], key=lambda write: write.began):
                certain = any(write is each for each in durable)
                for offset, sector in _sectors(write):
                    if certain or survives():
                        disk.seek(offset)
                        disk.write(sector)


def _sectors(write: Write) -> Iterator[tuple[int, bytes]]:
    start = write.offset_bytes
    end = start + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield start, write.data[start - write.offset_bytes : stop - write.offset_bytes]
        start = stop


def record(command: Sequence[str], *, file: Path, folder: Path) -> Recording:
    """Run a command, and return what it did to this file and said on its standard output, a line in a write."""
    assert STRACE is not None
    log = folder / "strace"
    subprocess.run(
        [STRACE, "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={_CALLS}", "-o", str(log), *command],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return _read(log, file)


@dataclass(frozen=True, slots=True)
class _Call:
    began: int
    ended: int
    name: str
    arguments: str
    result: int


def _calls(log: Path) -> Iterator[_Call]:
    """In the order in which they ended; a call that another came between is in two lines."""
    begun: dict[str, tuple[int, str]] = {}
    with log.open() as lines:
        for place, line in enumerate(lines):
            found = _LINE.match(line)
            assert found is not None
            pid, rest, began = found["pid"], found["rest"], place
            if rest.endswith(_UNFINISHED):
                begun[pid] = (place, rest.removesuffix(_UNFINISHED))
                continue
            if resumed := _RESUMED.match(rest):
                began, first = begun.pop(pid)
                rest = first + resumed["rest"]
            if call := _CALL.match(rest):
                yield _Call(began, place, call["name"], call["arguments"], int(call["result"]))


def _read(log: Path, file: Path) -> Recording:
    writes: list[Write] = []
    syncs: list[Sync] = []
    said: list[tuple[int, str]] = []
    position: dict[str, int] = {}
    synchronous: set[str] = set()
    escaped = "".join(f"\\x{byte:02x}" for byte in str(file).encode())
    for call in _calls(log):
        if call.name == "openat":
            if escaped in call.arguments and re.search(r"O_D?SYNC", call.arguments):
                synchronous.add(str(call.result))
            continue
        descriptor, _, opened = call.arguments.partition("<")
        if call.name == "write" and descriptor == "1":
            said.append((call.ended, _bytes(call.arguments)[0].decode().strip()))
        if not opened.startswith(f"{escaped}>"):
            continue
        if call.name in ("fdatasync", "fsync"):
            syncs.append(Sync(call.began, call.ended))
        elif call.name == "lseek":
            position[descriptor] = call.result
        elif call.name in ("pwrite64", "pwritev", "writev", "write"):
            data = b"".join(_bytes(call.arguments))
            assert len(data) == call.result
            if call.name.startswith("p"):
                offset = int(call.arguments.rpartition(", ")[2])
            else:
                offset = position[descriptor]
                position[descriptor] = offset + len(data)
            writes.append(Write(call.began, call.ended, offset, data, descriptor in synchronous))
        else:
            raise AssertionError(f"{call.name} is not known here")
    return Recording(writes, syncs, said)


def _bytes(arguments: str) -> list[bytes]:
    """The buffers of a call."""
    return [
        bytes.fromhex(found.replace("\\x", "")) for found in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)
    ]


def luck(chance: random.Random, share: float) -> Callable[[], bool]:
    """For `leave`: this share of the sectors survives."""
    return lambda: chance.random() < share
