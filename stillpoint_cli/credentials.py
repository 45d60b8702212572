"""What the command line proves itself with: a bearer token at the public ports, a client certificate at the internal ones.

A token goes over TLS only. There is no way round that here: gRPC has no plain channel that carries credentials, and what
asks for a plain one while there is a token is refused.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc

from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import Failure
from stillpoint_cli.logins import Login
from svckit.auth.identity import Certificate, Identity

INTERNAL = (
    "STILLPOINT_INTERNAL_CERTIFICATE",
    "STILLPOINT_INTERNAL_KEY",
    "STILLPOINT_INTERNAL_CA",
)
# RFC 6750's form. Anything else gRPC would refuse as metadata, with the token in its message.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Credentials:
    """What the environment says, and after it what a login has left."""

    def __init__(self, environment: Mapping[str, str], login: Login | None = None) -> None:
        self._environment = environment
        self._login = login

    def public(self, service: Service, address: str) -> grpc.ChannelCredentials | None:
        """For a service's public port; None is a plain channel."""
        login = self._login if self._login is not None and self._login.is_for(service, address) else None
        token = self._token(login)
        ca = self._ca(login)
        chosen = self._environment.get("STILLPOINT_TLS", "")
        if chosen not in ("", "0", "1"):
            raise Failure(f"STILLPOINT_TLS is {chosen!r}; it can be 1, or 0 for a plain channel")
        if chosen == "0":
            if token is not None:
                raise Failure(
                    "a token is never sent over a plain channel, which STILLPOINT_TLS=0 asks for.\n"
                    "Unset STILLPOINT_TLS, or go without a token."
                )
            return None
        if token is None and ca is None and login is None and chosen != "1":
            return None
        channel = _trusting(ca)
        if token is None:
            return channel
        return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(_Bearer(token)))

    def internal(self) -> grpc.ChannelCredentials | None:
        """For the internal ports; None where no certificate is named."""
        files = {name: self._environment.get(name, "") for name in INTERNAL}
        missing = [name for name, file in files.items() if not file]
        if len(missing) == len(INTERNAL):
            return None
        if missing:
            raise Failure(
                f"the internal ports need all of {', '.join(INTERNAL)}; not set: {', '.join(missing)}"
            )
        certificate, key, ca = (Path(file) for file in files.values())
        return Identity(Certificate(certificate, key), ca).channel_credentials()

    def _token(self, login: Login | None) -> Callable[[], str] | None:
        """Reads the token, of which the file may have another the next time."""
        if token := self._environment.get("STILLPOINT_TOKEN", ""):
            checked = check_token(token, "STILLPOINT_TOKEN")
            return lambda: checked
        if file := self._environment.get("STILLPOINT_TOKEN_FILE", ""):
            read_token(Path(file))  # what is wrong with it is said now
            return lambda: read_token(Path(file))
        return None if login is None else lambda: login.token

    def _ca(self, login: Login | None) -> bytes | None:
        if file := self._environment.get("STILLPOINT_CA", ""):
            return read_ca(Path(file)).encode()
        return login.ca.encode() if login is not None and login.ca else None


def read_token(file: Path) -> str:
    return check_token(file.read_text(errors="replace"), str(file))


def check_token(text: str, where: str) -> str:
    """The token without what stands around it. A refusal says where it is from, never what it is."""
    token = text.strip()
    if not token:
        raise Failure(f"there is no token in {where}")
    if _TOKEN.fullmatch(token) is None:
        raise Failure(f"what is in {where} does not have the form of a token")
    return token


def read_ca(file: Path) -> str:
    pem = file.read_text(errors="replace")
    if "-----BEGIN CERTIFICATE-----" not in pem:
        raise Failure(f"{file} has no certificate in it, which a PEM file of a CA begins with")
    return pem


def _trusting(ca: bytes | None) -> grpc.ChannelCredentials:
    # Without any gRPC takes the roots that it brings along, which know nothing of a company's own.
    system = ssl.get_default_verify_paths().cafile
    if ca is None and system is not None:
        ca = Path(system).read_bytes()
    return grpc.ssl_channel_credentials(ca)


class _Bearer(grpc.AuthMetadataPlugin):
    """Asked at each call, streams too, so that a token that is replaced in its file is taken up."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(
        self,
        context: grpc.AuthMetadataContext,  # noqa: ARG002 - gRPC's signature
        callback: grpc.AuthMetadataPluginCallback,
    ) -> None:
        try:
            metadata = (("authorization", f"Bearer {self._token()}"),)
        except (Failure, OSError) as error:
            callback((), error)
        else:
            callback(metadata, None)
