"""What is made for trying a locked door."""

from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner, Result

from stillpoint_cli.main import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_token_is_alone_on_standard_output_and_says_what_was_asked_for(tmp_path: Path):
    made = run("dev-certs", tmp_path / "certs", "--host", "stillpoint.example")
    assert made.exit_code == 0, made.output
    assert f"export STILLPOINT_CA={tmp_path}/certs/ca.crt" in made.stdout
    printed = run("dev-token", tmp_path / "certs", "--account", "team-a", "--role", "admin", "--life", "2h")
    assert printed.exit_code == 0, printed.output
    claims = jwt.decode(printed.stdout.strip(), options={"verify_signature": False})
    assert (claims["account"], claims["roles"], claims["exp"] - claims["iat"]) == ("team-a", ["admin"], 7200)
    assert printed.stdout.count("\n") == 1
    usual = jwt.decode(
        run("dev-token", tmp_path / "certs", "--account", "a").stdout.strip(),
        options={"verify_signature": False},
    )
    assert (usual["roles"], usual["exp"] - usual["iat"]) == (["user"], 7 * 86400)


def test_certificates_that_are_there_are_not_made_anew(tmp_path: Path):
    assert run("dev-certs", tmp_path / "certs").exit_code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "certs").iterdir()}
    assert run("dev-certs", tmp_path / "certs").exit_code == 1
    assert {file.name: file.read_bytes() for file in (tmp_path / "certs").iterdir()} == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--account", "Team A", "is no account"),
        ("--life", "soon", "is not a span"),
        ("--role", "service", "is none of"),
    ],
)
def test_what_no_token_can_say_is_refused(option: str, value: str, said: str, tmp_path: Path):
    run("dev-certs", tmp_path / "certs")
    refused = run("dev-token", tmp_path / "certs", "--account", "a", option, value)
    assert refused.exit_code == 2
    assert said in refused.stderr
