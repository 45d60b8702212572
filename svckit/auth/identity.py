"""Who a service is: certificates for its two ports, and for its calls to others.

The public port shows a certificate to anyone. The internal port asks for one as well, and whoever has one of the internal
CA is a service: that CA signs for nobody else.
"""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Certificate:
    """A PEM file with a certificate and those between it and its CA, and one with its key."""

    certificate: Path
    key: Path

    def server_credentials(self) -> grpc.ServerCredentials:
        """Of a port where clients prove themselves with tokens."""
        return grpc.ssl_server_credentials([(self.key.read_bytes(), self.certificate.read_bytes())])


@dataclass(frozen=True, slots=True)
class Identity:
    """What a service proves itself with to the others, and the CA that they are proved by."""

    own: Certificate
    ca: Path

    def server_credentials(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials(
            [(self.own.key.read_bytes(), self.own.certificate.read_bytes())],
            root_certificates=self.ca.read_bytes(),
            require_client_auth=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), self.own.key.read_bytes(), self.own.certificate.read_bytes()
        )
