"""How a call ended, as a client under load has to know it."""

from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

OVERLOADED = "RESOURCE_EXHAUSTED OVERLOADED"


@dataclass(frozen=True, slots=True)
class Answer:
    """`named` is the code, and the reason where there is one. `retry_after_seconds` is 0 without RetryInfo."""

    named: str
    retry_after_seconds: float = 0.0

    @property
    def is_overloaded(self) -> bool:
        """By the letter of the contract: with the time to try again."""
        return self.named == OVERLOADED and self.retry_after_seconds > 0

    @classmethod
    def of(cls, call: Any) -> Self:
        """Of a call that has ended, or an error of grpc.aio: both have the status."""
        code = call.code()
        if code is grpc.StatusCode.OK:
            return cls(code.name)
        status = rpc_status.from_call(call)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details if status else ():
            for known in (info, retry):
                if detail.Is(known.DESCRIPTOR):
                    detail.Unpack(known)
        return cls(f"{code.name} {info.reason}".strip(), retry.retry_delay.ToMilliseconds() / 1000)
