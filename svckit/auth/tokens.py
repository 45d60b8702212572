"""Bearer tokens: a JWT, signed with ES256 or RS256, whose claims are the caller.

`sub` is the subject that the log names, `account` the tenant, `roles` a list of `user` and `admin`; `exp` is required, `aud` must
be the deployment's, `iss` too where the settings name one. Its issuer's public keys are in a JWKS file, which is read again
when it changes: a key that is taken out of it opens nothing any more.
"""

import json
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jwt
import structlog

from svckit.auth.roles import OF_TOKENS
from svckit.caller import Caller
from svckit.errors import Unauthenticated
from svckit.startup import CannotStart
from svckit.validation import is_resource_id

ALGORITHMS = ("ES256", "RS256")
_LOOK_AGAIN_SECONDS = 1.0
_LEEWAY_SECONDS = 5
"""How far the clocks of issuer and service may be apart."""
_REMEMBERED = 4096
_RSA_BITS = 2048
_SUBJECT_MAX = 256

_log = structlog.get_logger()


class TokenKeys:
    """The public keys in a JWKS file. Raises CannotStart unless the file has at least one that can be used."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._seen = self._stamp()
            self._keys = _read(file)
        except (OSError, ValueError) as error:
            raise CannotStart(f"the token keys in {file} cannot be used: {error}") from error
        self.generation = 0
        """Grows when the keys are others."""
        self._looked = time.monotonic()

    def refresh(self) -> None:
        """Look at the file, at most once a second. One that has become unusable changes nothing, but for a line in the log:
        half a file must not lock everybody out.
        """
        if time.monotonic() - self._looked < _LOOK_AGAIN_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._keys = _read(self._file)
        except (OSError, ValueError) as error:
            _log.error("the token keys could not be read again; the ones before stay", error=str(error))
            return
        self._seen = stamp
        self.generation += 1
        _log.info("token keys read again", keys=len(self._keys))

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key that a token names; one that names none means the only one there is."""
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    def _stamp(self) -> tuple[int, int, int]:
        found = self._file.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size


def _read(file: Path) -> list[jwt.PyJWK]:
    """Raises ValueError, or OSError, for a file that opens to nobody."""
    try:
        keys = jwt.PyJWKSet.from_json(file.read_text()).keys
    except (jwt.PyJWTError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no JWKS: {error}") from error
    usable = [key for key in keys if _is_usable(key)]
    if not usable:
        raise ValueError(f"it has no key for {' or '.join(ALGORITHMS)}")
    return usable


def _is_usable(key: jwt.PyJWK) -> bool:
    # A symmetric key in the file would make whoever may verify able to sign.
    if key.algorithm_name not in ALGORITHMS or key.public_key_use not in (None, "sig"):
        return False
    return key.algorithm_name == "ES256" or getattr(key.key, "key_size", 0) >= _RSA_BITS


class Tokens:
    """Tells a caller by its token. For use by the event loop and by threads."""

    def __init__(self, keys: TokenKeys, *, audience: str, issuer: str = "") -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        # A signature costs 0.1 ms; a client shows the same token with each call.
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._known_in = keys.generation
        self._guard = threading.Lock()

    def caller(self, token: str) -> Caller:
        """Raises Unauthenticated, whose sentence never repeats the token."""
        with self._guard:
            self._keys.refresh()
            if self._known_in != self._keys.generation:
                self._known.clear()
                self._known_in = self._keys.generation
            known = self._known.get(token)
            if known is not None and time.time() < known[1] + _LEEWAY_SECONDS:
                return known[0]
            caller, expires = self._verify(token)
            self._known[token] = caller, expires
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            key = self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise Unauthenticated("the token is signed with a key that this deployment does not accept")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer or None,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "aud", *(["iss"] if self._issuer else [])]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated(f"the token is not for {self._audience!r}: claim aud") from error
        except jwt.InvalidIssuerError as error:
            raise Unauthenticated(
                "the token is not of the issuer that this deployment trusts: claim iss"
            ) from error
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim {error.claim}") from error
        except jwt.ImmatureSignatureError as error:
            raise Unauthenticated("the token is not valid yet: claim nbf or iat") from error
        except jwt.InvalidSignatureError as error:
            raise Unauthenticated("the token's signature is not of the key that it names") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated("the token is no JWT of a form that is accepted here") from error
        return _caller(claims), float(claims["exp"])


def _caller(claims: dict[str, Any]) -> Caller:
    subject: str = claims["sub"]
    # It is written into every event and into lines of the log.
    if not 0 < len(subject) <= _SUBJECT_MAX or not subject.isprintable():
        raise Unauthenticated(f"the token's claim sub is not 1 to {_SUBJECT_MAX} printable characters")
    account_id, roles = claims.get("account"), claims.get("roles")
    if not isinstance(account_id, str) or not is_resource_id(account_id):
        raise Unauthenticated("the token's claim account is not of the form [a-z0-9-]{1,64}")
    if not isinstance(roles, list):
        raise Unauthenticated("the token's claim roles is not a list")
    given = {role for role in OF_TOKENS if role in roles}
    return Caller(account_id=account_id, subject=subject, roles=frozenset(given))
