"""What the kernel says of a service's process while it works: its memory, its open files, its threads, its processor time."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stillpoint_cli.addresses import Service

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_KIB_A_MIB = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one process. `memory_mib` is what it holds for itself (RssAnon): pages of the block store's file, which
    the kernel shows and takes away as it sees fit, are in `file_mib`.
    """

    seconds: float
    memory_mib: float
    file_mib: float
    open_files: int
    threads: int
    processor_seconds: float


def look_at(pid: int, *, since: float = 0.0) -> Sample:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    kib = {name: int(status[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")}
    # Behind the name, which is in brackets and may hold anything.
    behind = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Sample(
        seconds=time.monotonic() - since,
        memory_mib=kib["RssAnon"] / _KIB_A_MIB,
        file_mib=(kib["RssFile"] + kib["RssShmem"]) / _KIB_A_MIB,
        open_files=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names are all that is counted
        threads=int(status["Threads"]),
        processor_seconds=(int(behind[11]) + int(behind[12])) / _TICKS_A_SECOND,
    )


@contextmanager
def watched(pids: Mapping[Service, int]) -> Iterator[dict[Service, list[Sample]]]:
    """A sample of each process every second, until the block ends; the lists grow meanwhile."""
    samples: dict[Service, list[Sample]] = {service: [] for service in pids}
    begun, done = time.monotonic(), threading.Event()

    def look() -> None:
        while not done.wait(1.0):
            for service, pid in pids.items():
                samples[service].append(look_at(pid, since=begun))

    thread = threading.Thread(target=look, name="samples")
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
