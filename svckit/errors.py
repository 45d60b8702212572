"""Refusals: every definite "no" a service gives, as an exception inside and as google.rpc details outside.

Refusal
├── InvalidRequest        INVALID_ARGUMENT     every malformed field at once
│   └── PageTokenInvalid
├── RequestIdReused       ALREADY_EXISTS
├── OperationNotFound     NOT_FOUND
├── OperationEnded        FAILED_PRECONDITION
├── OperationAbandoned    ABORTED              in an operation's error, and to who waits for its answer
├── StepWithdrawn         ABORTED              a step that comes after its undo
├── RegionNotFound        NOT_FOUND
├── Unauthenticated       UNAUTHENTICATED      no token, or none that is accepted
├── RoleRequired          PERMISSION_DENIED
├── Overloaded            RESOURCE_EXHAUSTED   with RetryInfo
├── DependencyUnavailable UNAVAILABLE
├── DatabaseUnavailable   UNAVAILABLE          said by the edge only: inside, it is no definite no
├── DatabaseHasNoRoom     RESOURCE_EXHAUSTED   the same, with RetryInfo
└── what each service adds in its own errors.py

A refusal says which, why, and everything that stands in the way: that is why it carries lists. It travels: a
participant raises it, its server's edge turns it into a status, the caller's `svckit.calls` turns that into a Refusal
again, and the saga keeps its bytes until the client asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from typing import ClassVar, Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as pb
from google.rpc import status_pb2

_SENTENCES_IN_MESSAGE = 8
_MAX_TRAILER_BYTES = 7_500
"""A status travels in trailers, of which many clients take 8 KiB and no more."""
_MAX_MESSAGE_BYTES = 2_000
_SHORT_MESSAGE_BYTES = 500
_ALL = None

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that stands in the way: `type` is a reason, `subject` is like `disk/disk-01…`, or a field of the request."""

    type: str
    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One full quota: its subject, the metric's name, its limit, and a sentence that also says the use."""

    subject: str
    metric: str
    limit: int
    description: str


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One malformed field of a request."""

    field: str
    description: str


class Refusal(Exception):
    """A definite no. Subclasses set `code`, `reason` and `domain`; an instance adds what it is about."""

    code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
    reason: str = ""
    domain: str = "stillpoint"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        preconditions: Sequence[Violation] = (),
        quotas: Sequence[QuotaViolation] = (),
        fields: Sequence[FieldProblem] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.preconditions = tuple(preconditions)
        self.quotas = tuple(quotas)
        self.fields = tuple(fields)
        self.retry_after_seconds = retry_after_seconds

    def about(self, field: str) -> Self:
        """Itself, said of one of several messages in a request: `field` names that."""
        self.message = f"{field}: {self.message}"
        self.args = (self.message,)
        self.preconditions = tuple(
            replace(violation, subject=field, description=self.message) for violation in self.preconditions
        )
        self.fields = tuple(replace(problem, field=f"{field}.{problem.field}") for problem in self.fields)
        return self

    def to_status(self) -> status_pb2.Status:
        """The google.rpc.Status that a client sees. One that is too large loses the sentences on single violations, and
        most of its own; every violation is still named, unless there are more than a request has disks: then the first are.
        """
        status = self._status(_MAX_MESSAGE_BYTES, str, _ALL)
        for most in (_ALL, 64, 16, 4, 1):
            if _trailer_bytes(status) <= _MAX_TRAILER_BYTES:
                break
            status = self._status(_SHORT_MESSAGE_BYTES, lambda _sentence: "", most)
        return status

    def _status(self, message_bytes: int, said: Callable[[str], str], most: int | None) -> status_pb2.Status:
        messages: list[Message] = [
            pb.ErrorInfo(reason=self.reason, domain=self.domain, metadata=self.metadata)
        ]
        if self.preconditions:
            blocked = pb.PreconditionFailure()
            for violation in self.preconditions[:most]:
                blocked.violations.add(
                    type=violation.type, subject=violation.subject, description=said(violation.description)
                )
            messages.append(blocked)
        if self.quotas:
            full = pb.QuotaFailure()
            for quota in self.quotas[:most]:
                full.violations.add(
                    subject=quota.subject,
                    description=said(quota.description),
                    quota_metric=quota.metric,
                    quota_value=quota.limit,
                )
            messages.append(full)
        if self.fields:
            bad = pb.BadRequest()
            for problem in self.fields[:most]:
                bad.field_violations.add(field=problem.field, description=said(problem.description))
            messages.append(bad)
        if self.retry_after_seconds is not None:
            retry = pb.RetryInfo()
            retry.retry_delay.FromMilliseconds(round(self.retry_after_seconds * 1000))
            messages.append(retry)
        status = status_pb2.Status(code=self.code.value[0], message=_short(self.message, message_bytes))
        for message in messages:
            status.details.add().Pack(message, deterministic=True)
        return status

    @staticmethod
    def from_status(status: status_pb2.Status) -> "Refusal | None":
        """The refusal that a status carries; None for a status that no Stillpoint service wrote."""
        details = {packed.TypeName(): packed.value for packed in status.details}
        info = pb.ErrorInfo.FromString(details.get("google.rpc.ErrorInfo", b""))
        if not info.domain.endswith("stillpoint"):
            return None
        failure = pb.PreconditionFailure.FromString(details.get("google.rpc.PreconditionFailure", b""))
        full = pb.QuotaFailure.FromString(details.get("google.rpc.QuotaFailure", b""))
        bad = pb.BadRequest.FromString(details.get("google.rpc.BadRequest", b""))
        retry = details.get("google.rpc.RetryInfo")
        refusal = Refusal(
            status.message,
            metadata=info.metadata,
            preconditions=[Violation(v.type, v.subject, v.description) for v in failure.violations],
            quotas=[
                QuotaViolation(v.subject, v.quota_metric, v.quota_value, v.description)
                for v in full.violations
            ],
            fields=[FieldProblem(v.field, v.description) for v in bad.field_violations],
            retry_after_seconds=None
            if retry is None
            else pb.RetryInfo.FromString(retry).retry_delay.ToMilliseconds() / 1000,
        )
        refusal.code, refusal.reason, refusal.domain = _CODES[status.code], info.reason, info.domain
        return refusal

    @staticmethod
    def from_bytes(status: bytes) -> "Refusal":
        """The refusal that `to_status().SerializeToString()` kept."""
        refusal = Refusal.from_status(status_pb2.Status.FromString(status))
        if refusal is None:
            raise ValueError("these bytes are not a kept refusal")
        return refusal


def _short(message: str, most: int) -> str:
    """As much of it as takes no more bytes in a trailer."""
    bytes_so_far = accumulate(_escaped_bytes(byte) for byte in message.encode())
    kept = sum(1 for _ in takewhile(lambda so_far: so_far <= most, bytes_so_far))
    return message.encode()[:kept].decode(errors="ignore")


def _trailer_bytes(status: status_pb2.Status) -> int:
    """Of its message, which gRPC sends escaped, and of all of it, which goes in base 64."""
    return sum(map(_escaped_bytes, status.message.encode())) + status.ByteSize() * 4 // 3


def _escaped_bytes(byte: int) -> int:
    return 1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3


def refuse_all(refusals: Sequence[Refusal], domain: str) -> None:
    """Raise what was gathered, if anything was, as one refusal with every single reason.

    design.md §4: "FAILED_PRECONDITION with one PreconditionFailure violation for every blocking thing, or
    RESOURCE_EXHAUSTED with a QuotaFailure violation for every full disk; when both hold, FAILED_PRECONDITION with both
    details."
    """
    if not refusals:
        return
    if len(refusals) == 1:
        raise refusals[0]
    preconditions = [violation for refusal in refusals for violation in refusal.preconditions]
    quotas = [violation for refusal in refusals for violation in refusal.quotas]
    sentences = [refusal.message for refusal in refusals]
    if len(sentences) > _SENTENCES_IN_MESSAGE:
        sentences[_SENTENCES_IN_MESSAGE:] = [f"and {len(refusals) - _SENTENCES_IN_MESSAGE} more"]
    combined = Refusal("; ".join(sentences), preconditions=preconditions, quotas=quotas)
    if preconditions:
        combined.reason, combined.domain = "PRECONDITIONS", domain
    else:
        first = refusals[0]
        combined.code, combined.reason, combined.domain = first.code, first.reason, first.domain
    raise combined


class InvalidRequest(Refusal):
    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class PageTokenInvalid(InvalidRequest):
    reason = "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "page_token was not issued by this list with this filter",
            fields=[FieldProblem("page_token", "was not issued by this list with this filter")],
        )


class RequestIdReused(Refusal):
    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request_id {request_id} was used before with other arguments")


class OperationNotFound(Refusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"

    def __init__(self, operation_id: str) -> None:
        super().__init__(f"operation {operation_id} is not here", metadata={"operation_id": operation_id})


class OperationEnded(Refusal):
    reason = "OPERATION_ENDED"

    def __init__(self, operation_id: str) -> None:
        super().__init__(
            f"operation {operation_id} has ended",
            metadata={"operation_id": operation_id},
            preconditions=[Violation("OPERATION_ENDED", f"operation/{operation_id}", "it has ended")],
        )


class OperationAbandoned(Refusal):
    code = grpc.StatusCode.ABORTED
    reason = "OPERATION_ABANDONED"

    def __init__(self, operation_id: str, actor: str, where: str, why: str) -> None:
        super().__init__(
            f"operation {operation_id} was abandoned by {actor}, at {where}: {why}",
            metadata={"operation_id": operation_id},
        )


class StepWithdrawn(Refusal):
    code = grpc.StatusCode.ABORTED
    reason = "STEP_WITHDRAWN"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} was undone before it arrived", metadata={"key": key})


class Unauthenticated(Refusal):
    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class RoleRequired(Refusal):
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "ROLE_REQUIRED"

    def __init__(self, role: str) -> None:
        super().__init__(f"this needs the role {role}", metadata={"role": role})


class Overloaded(Refusal):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"
    RETRY_AFTER_SECONDS: ClassVar[float] = 0.5

    def __init__(self) -> None:
        super().__init__(
            "the service holds as many requests, or unfinished operations, as it can carry",
            retry_after_seconds=self.RETRY_AFTER_SECONDS,
        )


class RegionNotFound(Refusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "REGION_NOT_FOUND"

    def __init__(self, region: str, known: Sequence[str]) -> None:
        knows = f"; the settings know {', '.join(known)}" if known else "; the settings know no peer"
        super().__init__(
            f"region {region} is not known here{knows}",
            metadata={"region": region, "known_regions": ",".join(known)},
        )


class DependencyUnavailable(Refusal):
    code = grpc.StatusCode.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"

    def __init__(self, operation_id: str, message: str) -> None:
        """`operation_id` is empty where there is no operation: a request was only validated."""
        super().__init__(message, metadata={"operation_id": operation_id} if operation_id else None)


class DatabaseUnavailable(Refusal):
    code = grpc.StatusCode.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("the service's database does not answer; try again with the same request_id")


class DatabaseHasNoRoom(Refusal):
    """With a time to try again: what can be mended elsewhere is no definite no, to a client as little as to a saga."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "DATABASE_FULL"
    RETRY_AFTER_SECONDS: ClassVar[float] = 5.0

    def __init__(self) -> None:
        super().__init__(
            "the service's database has no room; try again with the same request_id when there is some",
            retry_after_seconds=self.RETRY_AFTER_SECONDS,
        )
