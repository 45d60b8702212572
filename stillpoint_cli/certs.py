"""Certificates and keys for trying a deployment with its door locked: `stillpoint dev-certs`.

Two CAs, each gone when it has signed: one for the public ports, which clients trust, and one whose every certificate is a
service. A key that signs tokens stands in for an identity provider. Whoever runs Stillpoint for others has both already,
and needs none of this.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from jwt.algorithms import ECAlgorithm

from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import Failure

HOSTS = ("localhost", "127.0.0.1", "::1", *(service.module for service in Service))
"""What the services are reached by, on one machine and in containers."""
OPERATOR = "operator"
_LIFE = timedelta(days=365)
_CLOCKS_APART = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Certs:
    """A folder that `make` has filled."""

    folder: Path

    @property
    def ca(self) -> Path:
        """What clients of the public ports trust."""
        return self.folder / "ca.crt"

    def settings(self, service: Service) -> dict[str, str]:
        """What lets a service lock its door, without the prefix of environment variables."""
        files = {
            "PUBLIC_CERTIFICATE": "public.crt",
            "PUBLIC_KEY": "public.key",
            "INTERNAL_CERTIFICATE": f"{service.module}.crt",
            "INTERNAL_KEY": f"{service.module}.key",
            "INTERNAL_CA": "internal-ca.crt",
            "TOKEN_KEYS": "jwks.json",
        }
        return {name: str(self.folder / file) for name, file in files.items()}

    def operator_settings(self) -> dict[str, str]:
        """What lets an operator's tools in at the internal ports."""
        files = {
            "INTERNAL_CERTIFICATE": f"{OPERATOR}.crt",
            "INTERNAL_KEY": f"{OPERATOR}.key",
            "INTERNAL_CA": "internal-ca.crt",
        }
        return {name: str(self.folder / file) for name, file in files.items()}

    def token(self, account_id: str, roles: Iterable[str], *, subject: str, life: timedelta) -> str:
        """A bearer token, signed with the folder's key."""
        try:
            key = (self.folder / "signing.key").read_bytes()
            key_id = json.loads((self.folder / "jwks.json").read_text())["keys"][0]["kid"]
        except FileNotFoundError as error:
            raise Failure(
                f"{self.folder} has no signing.key; `stillpoint dev-certs {self.folder}` makes one"
            ) from error
        claims = {
            "sub": subject,
            "account": account_id,
            "roles": list(roles),
            "aud": "stillpoint",
            "iat": datetime.now(UTC),
            "exp": datetime.now(UTC) + life,
        }
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})


def make(folder: Path, hosts: Iterable[str] = ()) -> Certs:
    """Fill a folder, in which none of it may be yet. `hosts` are names and numbers of the public ports besides HOSTS."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certs = Certs(folder)
    if certs.ca.exists():
        raise Failure(f"{folder} has certificates already; remove it to make them anew")
    names = tuple(dict.fromkeys([*HOSTS, *hosts]))
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    internal = _Authority("Stillpoint services, for trying it")
    for service in Service:
        internal.issue(folder / service.module, names, [server, client])
    internal.issue(folder / OPERATOR, (), [client])
    _write(folder / "internal-ca.crt", internal.pem)
    signing = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "signing.key", _pem_of(signing))
    _write(folder / "jwks.json", json.dumps({"keys": [_jwk(signing)]}, indent=2).encode())
    public = _Authority("Stillpoint public ports, for trying it")
    public.issue(folder / "public", names, [server])
    # Last: a folder that has it has everything.
    _write(certs.ca, public.pem)
    return certs


class _Authority:
    """Signs, and keeps its key to itself."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        usage = {"key_cert_sign": True, "crl_sign": True, "digital_signature": False}
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(usage), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, path: Path, hosts: Iterable[str], purposes: list[x509.ObjectIdentifier]) -> None:
        """Write `path`.crt and `path`.key; the common name is the file's."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(path.name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage({"digital_signature": True}), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        names = [_general_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write(path.with_suffix(".key"), _pem_of(key))
        _write(path.with_suffix(".crt"), certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(given: Mapping[str, bool]) -> x509.KeyUsage:
    none = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**{**none, **given})


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    public: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": str(uuid4()), "use": "sig", "alg": "ES256"}


def _write(file: Path, content: bytes) -> None:
    """What is a key is its owner's alone from the first moment on."""
    mode = 0o600 if file.suffix == ".key" else 0o644
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
