"""The door of a port: tells who asks by what the call brings, and lets in whoever has the role that the RPC needs."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc

from svckit.auth.roles import Role
from svckit.auth.tokens import Tokens
from svckit.caller import LOCAL, Caller
from svckit.errors import RoleRequired, Unauthenticated

_SCHEME = "bearer "


class Door(Protocol):
    """One for each way to prove oneself."""

    def caller(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        """Raises Unauthenticated."""


class OpenDoor:
    """On loopback, without authentication: whoever comes is LOCAL."""

    def caller(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:  # noqa: ARG002 - nobody is asked
        return LOCAL


class TokenDoor:
    """Of the public port: a bearer token says who it is."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def caller(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        brought = [
            value
            for key, value in context.invocation_metadata() or ()
            if key == "authorization" and isinstance(value, str)
        ]
        if len(brought) != 1 or brought[0][: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated(
                "the call has no metadata `authorization: Bearer <token>`, or more than one"
            )
        return self._tokens.caller(brought[0][len(_SCHEME) :].strip())


class CertificateDoor:
    """Of the internal port: the handshake has proved that the client is a service; its certificate's common name says which."""

    def caller(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        proved = context.auth_context()
        if list(proved.get("transport_security_type", ())) != [b"ssl"] or not proved.get("x509_pem_cert"):
            raise Unauthenticated("the client showed no certificate")
        subject = next(
            (name.decode(errors="replace") for name in proved.get("x509_common_name", ())), "service"
        )
        return Caller(account_id="", subject=subject, roles=frozenset({Role.SERVICE}))


def let_in(
    door: Door, needed: Mapping[str, Role], method: str, context: "grpc.aio.ServicerContext[Any, Any]"
) -> Caller:
    """Raises Unauthenticated or RoleRequired. A method that `needed` does not have lets nobody in."""
    caller = door.caller(context)
    role = needed[method]
    if not caller.may(role):
        raise RoleRequired(role)
    return caller
