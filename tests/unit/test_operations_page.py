"""docs/operations.md says of every setting what the code says."""

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import compute_svc.settings
import disk_svc.settings
import snapshot_svc.settings
from svckit.settings import ServiceSettings
from tests.support import operations_page

_SERVICES: list[type[ServiceSettings]] = [
    compute_svc.settings.Settings,
    disk_svc.settings.Settings,
    snapshot_svc.settings.Settings,
]
_SHARED = ServiceSettings.model_fields
_DIFFERS = {
    name
    for name, field in _SHARED.items()
    if field.is_required()
    or any(each.model_fields[name].get_default() != field.get_default() for each in _SERVICES)
}


def _row(name: str, field: FieldInfo) -> str:
    described = field.description or _SHARED[name].description
    assert described, f"{name} does not say what it means"
    default = field.get_default()
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    told = (
        ""
        if default in (None, "", {})
        else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )
    return f"| `STILLPOINT_{name.upper()}` | {told} | {described} |"


def _rows(settings: type[ServiceSettings]) -> list[str]:
    """Of every service: what has one default for all. Of a service: its own, and what has another default there."""
    if settings is ServiceSettings:
        own = {name: field for name, field in _SHARED.items() if name not in _DIFFERS}
    else:
        own = {
            name: field
            for name, field in settings.model_fields.items()
            if name not in _SHARED or name in _DIFFERS
        }
    return ["| setting | default | |", "|---|---|---|", *(_row(name, field) for name, field in own.items())]


@pytest.mark.parametrize(
    "settings", [ServiceSettings, *_SERVICES], ids=["shared", "compute", "disk", "snapshot"]
)
def test_the_page_has_every_setting_with_its_default_and_what_it_means(settings: type[ServiceSettings]):
    table = "\n".join(_rows(settings))
    assert f"\n\n{table}\n\n" in operations_page.page(), (
        f"docs/operations.md should have this table:\n{table}"
    )
