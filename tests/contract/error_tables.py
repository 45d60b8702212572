"""The promises in the comments of protos/: each RPC's error table and each reason's line; and what was seen of them."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.rpc import status_pb2

from svckit.errors import Refusal

PROTOS = Path(__file__).resolve().parents[2] / "protos"
COMMON, COMPUTE, DISK, SNAPSHOT = "stillpoint", "compute.stillpoint", "disk.stillpoint", "snapshot.stillpoint"
_DOMAINS = {"operation": COMMON, "compute": COMPUTE, "disk": DISK, "snapshot": SNAPSHOT}

EVERYWHERE = {
    ("INVALID_ARGUMENT", "INVALID_REQUEST"),
    ("RESOURCE_EXHAUSTED", "OVERLOADED"),
    ("RESOURCE_EXHAUSTED", "DATABASE_FULL"),
    ("UNAVAILABLE", "DATABASE_UNAVAILABLE"),
    ("INTERNAL", "INTERNAL"),
    ("UNAUTHENTICATED", "UNAUTHENTICATED"),
    ("PERMISSION_DENIED", "ROLE_REQUIRED"),
    ("ABORTED", "OPERATION_ABANDONED"),
}
"""What "every RPC may also answer"."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A value of an ErrorReason enum, as its comment has it."""

    domain: str
    name: str
    codes: frozenset[str]
    metadata: frozenset[str]
    comment: str


def _reasons() -> Iterator[Reason]:
    for file in PROTOS.rglob("error_reason.proto"):
        domain = _DOMAINS[file.parts[-3]]
        for comment, name in re.findall(
            r"((?:^ *//.*\n)+) *ERROR_REASON_([A-Z_]+) = \d+;", file.read_text(), re.MULTILINE
        ):
            said = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
            if name == "UNSPECIFIED":
                continue
            codes = frozenset(re.findall(r"[A-Z_]{4,}", said.partition(":")[0]))
            metadata = frozenset(re.findall(r"`([a-z_]+)`", said.partition("Metadata:")[2]))
            yield Reason(domain, name, codes, metadata, said)


REASONS = {(reason.domain, reason.name): reason for reason in _reasons()}


def _tables() -> Iterator[tuple[str, frozenset[tuple[str, str]]]]:
    for file in PROTOS.rglob("*_service.proto"):
        package = f"stillpoint.{file.parts[-3]}.v1"
        service, comment = "", list[str]()
        for line in file.read_text().splitlines():
            stripped = line.strip()
            if stripped.startswith("//"):
                comment.append(line.partition("//")[2])
                continue
            if found := re.match(r"service (\w+)", stripped):
                service = found[1]
            elif found := re.match(r"rpc (\w+)", stripped):
                yield f"/{package}.{service}/{found[1]}", frozenset(_lines(comment))
            comment = []


def _lines(comment: list[str]) -> Iterator[tuple[str, str]]:
    """The code and reason pairs of a table. An entry is set off by three blanks, its continuation by five."""
    entries: list[str] = []
    for line in comment:
        if re.match(r" {3}[A-Z_]+ / ", line):
            entries.append(line.strip())
        elif line.startswith(" " * 5) and entries:
            entries[-1] += " " + line.strip()
    for entry in entries:
        code = ""
        for word, before_slash in re.findall(r"([A-Z][A-Z_]{3,})( /)?", entry.partition(":")[0]):
            if before_slash:
                code = word
            else:
                yield code, word


TABLES = dict(_tables())
"""Of each method, by its full name."""


def is_public(method: str) -> bool:
    """Not served on an internal port only."""
    return method.split("/")[1].rpartition(".")[2] not in ("ParticipantService", "ImportService")


class Observed:
    """Every refusal that any client of the session got."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.reasons: set[tuple[str, str, str]] = set()
        """Method, code and reason."""
        self.violations: set[tuple[str, str]] = set()
        """Method and reason of everything that one refusal named."""

    def note(self, method: str, code: grpc.StatusCode, status: status_pb2.Status) -> None:
        refusal = Refusal.from_status(status)
        if refusal is None:
            return
        with self._guard:
            self.reasons.add((method, code.name, refusal.reason))
            self.violations |= {(method, violation.type) for violation in refusal.preconditions}
            if refusal.quotas:
                self.violations.add((method, "SNAPSHOT_QUOTA_EXCEEDED"))

    def unseen(self) -> list[str]:
        """Lines of public tables that no client met."""
        return sorted(
            f"{method}: {code} / {reason}"
            for method, table in TABLES.items()
            if is_public(method)
            for code, reason in table
            if (method, code, reason) not in self.reasons and (method, reason) not in self.violations
        )

    def undocumented(self) -> list[str]:
        """What clients met and no table has."""
        return sorted(
            f"{method}: {code} / {reason}"
            for method, code, reason in self.reasons
            if (code, reason) not in TABLES[method] | EVERYWHERE
        )
