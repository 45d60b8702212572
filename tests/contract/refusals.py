"""`with refused(...)`: the call inside is refused, for this reason, in the form that every refusal has."""

from types import TracebackType
from typing import Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.error_tables import COMMON, REASONS

_KNOWN_DETAILS = {
    "google.rpc.ErrorInfo",
    "google.rpc.BadRequest",
    "google.rpc.PreconditionFailure",
    "google.rpc.QuotaFailure",
    "google.rpc.RetryInfo",
}


class refused:  # noqa: N801 - reads as the sentence it is
    """What a client can tell from a refusal, readable when the block has ended."""

    message: str
    metadata: dict[str, str]
    fields: list[str]
    """Paths of the malformed fields."""
    violations: list[tuple[str, str]]
    """Type and subject of everything that blocks, in order."""
    quotas: dict[str, error_details_pb2.QuotaFailure.Violation]
    """By subject."""
    retry_after_seconds: float | None

    def __init__(self, code: str, reason: str, domain: str = COMMON) -> None:
        self._expected = (code, reason, domain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        if error is None:
            raise AssertionError(f"was accepted; expected {self._expected}")
        if not isinstance(error, grpc.RpcError):
            return False
        self._read(error)
        return True

    def _read(self, error: grpc.RpcError) -> None:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # what a stub raises is a Call too
        assert status is not None, f"{error.code()} without details: {error.details()}"
        packed = {detail.TypeName(): detail for detail in status.details}
        assert len(packed) == len(status.details), "a detail came twice"
        assert packed.keys() <= _KNOWN_DETAILS
        info = error_details_pb2.ErrorInfo()
        assert packed["google.rpc.ErrorInfo"].Unpack(info)
        assert (error.code().name, info.reason, info.domain) == self._expected, status.message
        self.message = status.message
        assert self.message
        assert "Traceback" not in self.message

        self.metadata = dict(info.metadata)
        documented = REASONS[info.domain, info.reason]
        assert error.code().name in documented.codes, "the enum's comment has another code"
        assert self.metadata.keys() <= documented.metadata, "the enum's comment does not have this metadata"

        bad, full = error_details_pb2.BadRequest(), error_details_pb2.QuotaFailure()
        failure, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
        for detail in (bad, full, failure, retry):
            if detail.DESCRIPTOR.full_name in packed:
                packed[detail.DESCRIPTOR.full_name].Unpack(detail)
        self.fields = [violation.field for violation in bad.field_violations]
        self.violations = [(violation.type, violation.subject) for violation in failure.violations]
        self.quotas = {violation.subject: violation for violation in full.violations}
        has_retry = retry.HasField("retry_delay")
        self.retry_after_seconds = retry.retry_delay.ToMilliseconds() / 1000 if has_retry else None


def invalid(*fields: str) -> "_Invalid":
    """Refused as malformed, with exactly these fields named."""
    return _Invalid(fields)


class _Invalid(refused):
    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__("INVALID_ARGUMENT", "INVALID_REQUEST")
        self._fields = sorted(fields)

    def _read(self, error: grpc.RpcError) -> None:
        super()._read(error)
        assert sorted(set(self.fields)) == self._fields
