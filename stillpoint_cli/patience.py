"""Waiting for a service that is away for a moment: it is restarted, or the network has lost it.

How long depends on what is known. Where something says that a service is there (an address that was typed, a login, the
file of `up`, an answer a moment ago), it is waited for as long as a restart takes. At a default port, where nothing says
so, a user is told soon that nothing runs.
"""

import socket
import ssl
import time
from dataclasses import dataclass

import grpc

from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import DoorLocked, Failure, NotTrusted, Unreachable, unpack_details
from stillpoint_cli.output import say

_QUICK_SECONDS = (0.1, 0.3, 0.6)
_PATIENT_SECONDS = (*_QUICK_SECONDS, *(1.0,) * 11)
# A service that waits for another one may take long to say no; asking it once more and again would only look hung.
_AT_MOST_SECONDS = 20.0
_OF_PLUGIN = "Getting metadata from plugin failed with error: "
_PROBE_SECONDS = 1.0


@dataclass(slots=True)
class Target:
    """A service at an address. `known` says that it is there, as far as anybody can tell."""

    service: Service
    address: str
    known: bool
    plain: bool

    def must_be_worth_waiting_for(self, call: grpc.Call) -> None:
        """Raises what no waiting mends: a door that is locked, a certificate that is not trusted, a token that is not there."""
        text = call.details() or ""
        if text.startswith(_OF_PLUGIN):
            raise Failure(text.removeprefix(_OF_PLUGIN))
        if "WRONG_VERSION_NUMBER" in text:
            raise NotTrusted(self.service, self.address, "it speaks no TLS")
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = text.partition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
            raise NotTrusted(
                self.service, self.address, why or "its certificate is of a CA that is not trusted"
            )
        if "Hostname Verification Check failed" in text:
            raise NotTrusted(self.service, self.address, "its certificate is for another name")
        if self.plain and _speaks_tls(self.address):
            raise DoorLocked(self.service, self.address)

    def answered(self) -> None:
        self.known = True

    def give_up(self, call: grpc.Call) -> Unreachable:
        """From here on it is waited for no longer than what nobody knows."""
        self.known = False
        return Unreachable(self.service, self.address, call.details())


class Wait:
    """The pauses until a service answers again: one anew from each answer on."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._patient = target.known
        self._pauses = iter(_PATIENT_SECONDS if self._patient else _QUICK_SECONDS)
        self._began = time.monotonic()
        self._said = False

    def sleep(self, at_least: float = 0.0) -> bool:
        """False, at once, when it was long enough."""
        pause = next(self._pauses, None)
        if pause is None:
            return False
        seconds = max(pause, at_least)
        waited = time.monotonic() - self._began
        if waited + seconds > _AT_MOST_SECONDS:
            return False
        if self._patient and waited >= 1 and not self._said:
            say(f"Waiting for {self._target.service.module} at {self._target.address} …")
            self._said = True
        time.sleep(seconds)
        return True

    def sleep_after(self, error: Exception) -> None:
        """After a stream that broke, which may be opened again. Raises what else ended it, Unreachable when the service
        stays away, and what no waiting mends.
        """
        if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise error
        if is_broken(error):
            self._target.must_be_worth_waiting_for(error)
        if not self.sleep():
            raise self._target.give_up(error) if is_broken(error) else error


def is_broken(call: grpc.Call) -> bool:
    """Whether UNAVAILABLE is what gRPC itself says: a service that says so gives its reason."""
    return call.code() is grpc.StatusCode.UNAVAILABLE and not any(unpack_details(call))


def _speaks_tls(address: str) -> bool:
    host, _, port = address.partition(",")[0].strip().rpartition(":")
    # It is asked what it speaks, not who it is: nothing is sent to it.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except (OSError, ValueError):
        return False
