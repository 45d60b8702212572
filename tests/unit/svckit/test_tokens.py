"""Bearer tokens: who is let in, who is not and why, and keys that change under a running service."""

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from svckit.auth import tokens as module
from svckit.auth.roles import Role
from svckit.auth.tokens import TokenKeys, Tokens
from svckit.caller import Caller
from svckit.errors import Unauthenticated
from svckit.startup import CannotStart
from tests.support.issuer import Issuer, public_jwk, sign


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path / "jwks.json")


@pytest.fixture
def tokens(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.0)
    return Tokens(TokenKeys(issuer.jwks), audience="stillpoint")


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _part(**content: str) -> str:
    return _encoded(json.dumps(content).encode())


def test_a_token_says_account_subject_and_roles(issuer: Issuer, tokens: Tokens):
    token = issuer.token("team-a", "user", "admin", sub="eve@example.org")
    assert tokens.caller(token) == Caller("team-a", "eve@example.org", frozenset({Role.USER, Role.ADMIN}))


def test_rs256_is_accepted_too(issuer: Issuer, tokens: Tokens):
    issuer.publish(two=rsa.generate_private_key(65537, 2048))
    assert tokens.caller(issuer.token(key_id="two")).account_id == "team-a"


def test_a_role_that_no_token_can_give_is_not_given(issuer: Issuer, tokens: Tokens):
    assert tokens.caller(issuer.token("team-a", "service", "root")).roles == frozenset()


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"aud": None}, "aud"),
        ({"aud": "another"}, "aud"),
        ({"nbf": time.time() + 3600}, "nbf"),
        ({"account": None}, "account"),
        ({"account": "Team A"}, "account"),
        ({"account": 7}, "account"),
        ({"roles": None}, "roles"),
        ({"roles": "admin"}, "roles"),
        ({"sub": 7}, "no JWT"),
        ({"sub": ""}, "sub"),
        ({"sub": "eve\n2026-11-27 [info] alice"}, "sub"),
        ({"sub": "eve\x00"}, "sub"),
        ({"sub": "e" * 257}, "sub"),
        ({"exp": "1e999"}, "no JWT"),
        ({"exp": float("inf")}, "no JWT"),
    ],
)
def test_a_token_that_is_not_right_is_refused_with_what_is_wrong(
    issuer: Issuer, tokens: Tokens, claims: dict[str, Any], said: str
):
    with pytest.raises(Unauthenticated, match=said):
        tokens.caller(issuer.token(**claims))


def test_a_token_of_another_issuer_is_refused_where_the_settings_name_one(issuer: Issuer):
    tokens = Tokens(TokenKeys(issuer.jwks), audience="stillpoint", issuer="https://issuer.example")
    assert tokens.caller(issuer.token(iss="https://issuer.example")).account_id == "team-a"
    for claims in ({"iss": "https://other.example"}, {}):
        with pytest.raises(Unauthenticated, match="iss"):
            tokens.caller(issuer.token(**claims))


def test_a_key_that_was_not_published_opens_nothing(issuer: Issuer, tokens: Tokens):
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Unauthenticated, match="does not accept"):
        tokens.caller(sign(stranger, "another", "team-a", "admin"))
    with pytest.raises(Unauthenticated, match="signature"):
        tokens.caller(sign(stranger, "one", "team-a", "admin"))


def test_an_unsigned_token_and_one_signed_with_a_public_key_open_nothing(issuer: Issuer, tokens: Tokens):
    signed = issuer.token("team-a", "admin")
    claims = signed.split(".")[1]
    public = issuer.jwks.read_bytes()
    unsigned = f"{_part(alg='none', kid='one')}.{claims}."
    to_sign = f"{_part(alg='HS256', kid='one')}.{claims}"
    symmetric = f"{to_sign}.{_encoded(hmac.digest(public, to_sign.encode(), 'sha256'))}"
    for token in (unsigned, symmetric):
        with pytest.raises(Unauthenticated):
            tokens.caller(token)


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "ä.ö.ü", "e30.e30.e30", "x" * 100_000])
def test_what_is_no_token_is_refused_and_not_repeated(tokens: Tokens, token: str):
    with pytest.raises(Unauthenticated) as refusal:
        tokens.caller(token)
    assert len(refusal.value.message) < 100


def test_a_key_that_is_added_opens_and_one_that_is_taken_out_does_not_any_more(
    issuer: Issuer, tokens: Tokens
):
    old = issuer.token()
    tokens.caller(old)
    issuer.publish(two=ec.generate_private_key(ec.SECP256R1()))
    tokens.caller(issuer.token(key_id="two"))
    with pytest.raises(Unauthenticated):
        tokens.caller(old)


def test_a_file_that_became_unusable_changes_nothing(issuer: Issuer, tokens: Tokens):
    good = issuer.jwks.read_text()
    for bad in ("", "{", '{"keys": []}', "[]", '{"keys": 1}'):
        issuer.jwks.write_text(bad)
        tokens.caller(issuer.token())
    issuer.jwks.write_text(good)
    tokens.caller(issuer.token())


def test_a_remembered_token_expires_all_the_same(
    issuer: Issuer, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_LEEWAY_SECONDS", 0)
    token = issuer.token(exp=time.time() + 1)
    tokens.caller(token)
    time.sleep(1.1)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.caller(token)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}']
)
def test_a_service_does_not_start_on_keys_that_open_to_nobody_or_to_everybody(tmp_path: Path, content: str):
    file = tmp_path / "jwks.json"
    file.write_text(content)
    with pytest.raises(CannotStart, match=r"jwks\.json"):
        TokenKeys(file)


def test_a_symmetric_or_weak_key_beside_a_good_one_is_not_used(tmp_path: Path):
    good, weak = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)
    file = tmp_path / "jwks.json"
    keys = [
        public_jwk("good", good),
        public_jwk("weak", weak),
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "symmetric", "alg": "HS256"},
    ]
    file.write_text(json.dumps({"keys": keys}))
    found = TokenKeys(file)
    assert found.find("good") is not None
    assert found.find("weak") is None
    assert found.find("symmetric") is None
