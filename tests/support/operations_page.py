"""What docs/operations.md tells people to copy from it. Tests run the page's own words."""

import json
import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def page() -> str:
    return _PAGE.read_text()


def service_config() -> str:
    """The one that clients give their channels."""
    found = re.search(r"```json\n(.*?)```", page(), re.DOTALL)
    assert found is not None
    return json.dumps(json.loads(found[1]))


def script(title: str) -> str:
    """The commands of the block whose first line is this comment."""
    found = re.search(rf"```sh\n *# {re.escape(title)}\n(.*?)```", page(), re.DOTALL)
    assert found is not None, title
    return found[1]
