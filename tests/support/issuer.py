"""An issuer of bearer tokens, for tests: keys, the JWKS file that services read, and tokens good and bad."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issuer:
    """Signs with keys that it has published in `jwks`, and with others."""

    def __init__(self, jwks: Path) -> None:
        self.jwks = jwks
        self._keys: dict[str, PrivateKey] = {}
        self.publish(one=ec.generate_private_key(ec.SECP256R1()))

    def publish(self, **keys: PrivateKey) -> None:
        """These and no others, by their ids."""
        self._keys = keys
        beside = self.jwks.with_suffix(".new")
        beside.write_text(json.dumps({"keys": [public_jwk(name, key) for name, key in keys.items()]}))
        beside.replace(self.jwks)

    def token(self, account_id: str = "team-a", *roles: str, key_id: str = "one", **claims: Any) -> str:
        """`claims` are added to the usual ones; None leaves one out."""
        return sign(self._keys[key_id], key_id, account_id, *(roles or ("user",)), **claims)


def public_jwk(key_id: str, key: PrivateKey) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig", "alg": "RS256"}
    return {**ECAlgorithm.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig", "alg": "ES256"}


def sign(key: PrivateKey, key_id: str, account_id: str, *roles: str, **claims: Any) -> str:
    all_claims = {
        "sub": "somebody",
        "account": account_id,
        "roles": list(roles),
        "aud": "stillpoint",
        "exp": time.time() + 3600,
        **claims,
    }
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    given = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(given, key, algorithm=algorithm, headers={"kid": key_id})
