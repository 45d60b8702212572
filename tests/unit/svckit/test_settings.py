"""Where a service may listen, what authentication needs, and where secrets come from."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from svckit.settings import ServiceSettings
from svckit.startup import sentences

LOOPBACK = {"public_address": "127.0.0.1:1", "internal_address": "127.0.0.1:2"}
DOOR = (
    "public_certificate",
    "public_key",
    "internal_certificate",
    "internal_key",
    "internal_ca",
    "token_keys",
)


@pytest.fixture(autouse=True)
def _no_secrets_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STILLPOINT_SECRETS_DIR", str(tmp_path / "none"))


def settings(**values: object) -> ServiceSettings:
    return ServiceSettings(**{"database_url": "sqlite://", **LOOPBACK, **values})


def door(folder: Path) -> dict[str, Path]:
    for name in DOOR:
        (folder / name).touch()
    return {name: folder / name for name in DOOR}


def refused(**values: object) -> str:
    with pytest.raises(ValidationError) as error:
        settings(**values)
    return "\n".join(sentences(error.value))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:50051", "[::1]:50051"])
def test_a_service_binds_loopback(address: str):
    assert settings(public_address=address).public_address == address


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"])
@pytest.mark.parametrize("port", ["public_address", "internal_address"])
def test_without_authentication_it_binds_nothing_else_and_says_what_is_missing(port: str, address: str):
    said = refused(**{port: address})
    assert address in said
    assert "STILLPOINT_TOKEN_KEYS" in said


def test_with_authentication_it_binds_any_address(tmp_path: Path):
    open_to_all = settings(public_address="0.0.0.0:1", internal_address="[::]:2", **door(tmp_path))
    assert open_to_all.certificate is not None
    assert open_to_all.identity is not None


@pytest.mark.parametrize("address", ["127.0.0.1", ":1", "example.org:1", "127.0.0.1:http"])
def test_an_address_is_the_number_of_an_interface_and_a_port(address: str):
    assert address.rpartition(":")[0] in refused(public_address=address)


@pytest.mark.parametrize("left_out", DOOR)
def test_half_of_authentication_is_refused_with_the_settings_that_are_not_there(
    left_out: str, tmp_path: Path
):
    values: dict[str, object] = {**door(tmp_path), left_out: None}
    said = refused(**values)
    assert [name for name in DOOR if f"STILLPOINT_{name.upper()}" in said] == [left_out]


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    said = refused(**{**door(tmp_path), "public_key": tmp_path / "gone"})
    assert "STILLPOINT_PUBLIC_KEY" in said


def test_a_setting_can_be_a_file_of_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STILLPOINT_SECRETS_DIR", str(tmp_path))
    (tmp_path / "stillpoint_database_password").write_text("a secret\n")
    found = settings(database_url="postgresql+psycopg://somebody@server/base")
    assert found.database.password == "a secret"


def test_a_password_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STILLPOINT_DATABASE_PASSWORD", "a secret")
    found = settings(database_url="postgresql+psycopg://somebody@server/base")
    assert "a secret" not in f"{found!r} {found} {found.database!r} {found.database}"
