"""docs/security.md has every RPC, the role that its proto names, and tests that are there."""

import importlib
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from svckit.auth.roles import Role, needed_roles

ROOT = Path(__file__).resolve().parents[2]
_SAID = {Role.USER: "user, admin", Role.ADMIN: "admin", Role.SERVICE: "service"}


def _services() -> list[ServiceDescriptor]:
    files = sorted((ROOT / "protos").rglob("*_service.proto"))
    modules = [
        importlib.import_module(".".join(file.relative_to(ROOT / "protos").with_suffix("").parts) + "_pb2")
        for file in files
    ]
    return [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]


ROLES = needed_roles(_services())
ROWS = {
    f"/{rpc}": (roles, tests.split(", "))
    for rpc, roles, tests in re.findall(
        r"^\| `(stillpoint\.\S+)` \| (.*?) \| (.*?) \|$",
        (ROOT / "docs/security.md").read_text(),
        re.MULTILINE,
    )
}


def test_there_is_a_row_for_each_rpc_and_no_other():
    assert ROWS.keys() == ROLES.keys()


@pytest.mark.parametrize("rpc", ROLES)
def test_a_row_has_the_roles_that_the_proto_names(rpc: str):
    assert ROWS[rpc][0] == _SAID[ROLES[rpc]]


@pytest.mark.parametrize("test", sorted({test for _, tests in ROWS.values() for test in tests}))
def test_a_test_that_the_page_names_is_there(test: str):
    file, _, name = test.strip("`").partition("::")
    assert f"def {name}(" in (ROOT / "tests/contract" / file).read_text()
