"""`python -m svckit.probe`: exit code 0 when the service with this process's settings says that it is SERVING.

Containers are asked so, every few seconds. Hence the environment is read as it is: the settings' own class would take
three times as long to import as everything here.

It asks the internal port, where the service's own certificate is also what a client shows, and its CA is known. It goes
by number, and expects the name that is in that certificate.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PATIENCE_SECONDS = 3.0


def probe(environment: Mapping[str, str]) -> str:
    """What the service says, or why it says nothing."""
    with _open_channel(environment) as channel:
        # Its published types have no methods.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_SECONDS)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _open_channel(environment: Mapping[str, str]) -> grpc.Channel:
    host, _, port = environment["STILLPOINT_INTERNAL_ADDRESS"].rpartition(":")
    target = f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not bound
    if "STILLPOINT_INTERNAL_CERTIFICATE" not in environment:
        return grpc.insecure_channel(target)
    certificate, key, ca = (
        Path(environment[f"STILLPOINT_INTERNAL_{what}"]).read_bytes() for what in ("CERTIFICATE", "KEY", "CA")
    )
    return grpc.secure_channel(
        target,
        grpc.ssl_channel_credentials(ca, key, certificate),
        options=[("grpc.ssl_target_name_override", _name_in(certificate))],
    )


def _name_in(certificate: bytes) -> str:
    from cryptography import x509  # noqa: PLC0415 - 50 ms that only a locked door costs

    names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return str(names.value.get_values_for_type(x509.DNSName)[0])


if __name__ == "__main__":
    said = probe(os.environ)
    sys.exit(None if said == "SERVING" else f"not serving: {said}")
