"""What must hold after the rollback, each as a claim with the numbers that bear it out or contradict it.

Everything here is read from files that came out of the services: a proof asks no service, and trusts none.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from demo.filesystems import MIB, FileSystem, Kind, Manifest, Verdict, count_files
from demo.machine import Snapshot
from demo.writer import LogContent, Progress
from stillpoint_cli.errors import Failure
from stillpoint_cli.values import format_size

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Proof:
    """A claim, whether it holds, and the evidence."""

    claim: str
    holds: bool
    evidence: str


def prove_damage(kind: Kind, verdicts: Sequence[Verdict]) -> Proof:
    broken = sum(not verdict.sound for verdict in verdicts)
    return Proof(
        "The damage was real",
        broken == len(verdicts),
        f"{kind.checker} failed on {broken} of {len(verdicts)} disks before the rollback",
    )


def prove_sound(kind: Kind, disks: Sequence[tuple[FileSystem, Path]]) -> Proof:
    verdicts = [(made.plan.name, kind.check(image)) for made, image in disks]
    broken = [f"{name}: {verdict.words}" for name, verdict in verdicts if not verdict.sound]
    return Proof(
        "Every file system is sound",
        not broken,
        "; ".join(broken) or f"{kind.checker}: {verdicts[0][1].words}, on {len(disks)} of {len(disks)} disks",
    )


def prove_files(kind: Kind, disks: Sequence[tuple[FileSystem, Path]]) -> Proof:
    """Every file as it was, and no file that was not."""
    faults = []
    files = 0
    for made, image in disks:
        try:
            found = kind.manifest(image)
        except Failure as failure:
            faults.append(f"{made.plan.name}: {failure}")
            continue
        files += count_files(found)
        if differing := _differing(made.manifest, found):
            faults.append(f"{made.plan.name}: {differing}")
    return Proof(
        "Every file is what it was",
        not faults,
        "; ".join(faults) or f"{files:,} files, every sha256 is equal",
    )


def prove_bytes(disks: Sequence[tuple[FileSystem, Path]]) -> Proof:
    """Nobody wrote to the file systems but the damage: not one bit may differ, in use or not."""
    faults = []
    for made, image in disks:
        size = made.plan.size_bytes
        if _digest(made.image, size) != _digest(image, size):
            faults.append(
                f"{made.plan.name}: {_count_differing(made.image, image, size):,} of {size // MIB:,} MiB differ"
            )
    total = sum(made.plan.size_bytes for made, _ in disks)
    return Proof(
        "And so is every byte",
        not faults,
        "; ".join(faults) or f"{format_size(total)} of file systems, the sha256 of each is equal",
    )


def prove_order(a: LogContent, b: LogContent) -> Proof:
    faults = [f"{log.disk_name}: {log.fault}" for log in (a, b) if log.fault]
    if a.last - b.last not in {0, 1}:
        faults.append(f"{a.disk_name} ends with record {a.last:,}, {b.disk_name} with {b.last:,}")
    return Proof(
        "The records are in write order",
        not faults,
        "; ".join(faults)
        or f"1 to {a.last:,} on {a.disk_name}, 1 to {b.last:,} on {b.disk_name}: none missing, none torn",
    )


def prove_moment(a: LogContent, b: LogContent, snapshot: Snapshot) -> Proof:
    """The cut lies between question and answer, and at the time that the service says."""
    before, after = snapshot.before, snapshot.after
    in_between = before.durable_a <= a.last <= after.begun_a and before.durable_b <= b.last <= after.begun_b
    last_write = datetime.fromtimestamp(max(a.last_time, b.last_time), UTC)
    evidence = (
        f"{before.durable_a:,} records were durable at the request, {after.begun_a:,} begun at the answer: "
        f"it ends with {max(a.last, b.last):,}"
    )
    if last_write > snapshot.cut_time:
        evidence += (
            f", written at {last_write:%H:%M:%S.%f} UTC, after the moment {snapshot.cut_time:%H:%M:%S.%f}"
        )
    return Proof("The moment is the one asked for", in_between and last_write <= snapshot.cut_time, evidence)


def prove_nothing_later(a: LogContent, b: LogContent, end: Progress) -> Proof:
    """The writer went on after the moment, so that the cut is a cut; what it wrote then is gone."""
    return Proof(
        "What came later is gone",
        not a.fault and not b.fault and a.last < end.durable_a and b.last < end.durable_b,
        f"{end.durable_a:,} records had been written: {a.last:,} before the moment, {end.durable_a - a.last:,} after it",
    )


def _differing(expected: Manifest, found: Manifest) -> str:
    names = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    if not names:
        return ""
    shown = ", ".join(islice(names, _NAMED))
    return f"{len(names):,} differ or are missing ({shown}{', …' if len(names) > _NAMED else ''})"


def _digest(image: Path, size_bytes: int) -> bytes:
    digest = hashlib.sha256()
    with image.open("rb") as file:
        for _ in range(0, size_bytes, MIB):
            digest.update(file.read(MIB))
    return digest.digest()


def _count_differing(one: Path, other: Path, size_bytes: int) -> int:
    with one.open("rb") as left, other.open("rb") as right:
        return sum(left.read(MIB) != right.read(MIB) for _ in range(0, size_bytes, MIB))
