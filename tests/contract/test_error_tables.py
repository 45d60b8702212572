"""Looks back at a whole run of this suite: what clients met is what protos/ promises, and all of it was met."""

from pathlib import Path

import pytest

from tests.contract.error_tables import TABLES, Observed
from tests.contract.methods import METHODS


def test_the_tables_are_read_as_they_are_written():
    table = TABLES["/stillpoint.compute.v1.InstanceService/AttachDisk"]
    assert table >= {
        ("NOT_FOUND", "INSTANCE_NOT_FOUND"),
        ("NOT_FOUND", "DISK_NOT_FOUND"),
        ("FAILED_PRECONDITION", "DISK_STATE"),
        ("INVALID_ARGUMENT", "INVALID_REQUEST"),
        ("ALREADY_EXISTS", "REQUEST_ID_REUSED"),
    }
    point = TABLES["/stillpoint.disk.v1.ParticipantService/CreateConsistencyPoint"]
    assert point >= {
        ("RESOURCE_EXHAUSTED", "SNAPSHOT_QUOTA_EXCEEDED"),
        ("FAILED_PRECONDITION", "PRECONDITIONS"),
    }
    assert {method.path for method in METHODS} <= TABLES.keys()


@pytest.mark.usefixtures("database_kind")
def test_no_client_met_a_refusal_that_its_rpcs_table_does_not_have(observed: Observed):
    assert observed.undocumented() == []


@pytest.mark.usefixtures("database_kind")
def test_every_line_of_every_public_error_table_was_seen(request: pytest.FixtureRequest, observed: Observed):
    config = request.config
    files = {Path(item.path) for item in request.session.items}
    whole = files >= set(Path(__file__).parent.glob("test_*.py"))
    chosen = config.option.keyword or config.option.markexpr or any("::" in each for each in config.args)
    if not whole or chosen or config.getoption("target"):
        pytest.skip("looks back at a run of the whole suite, with services that fail on purpose")
    assert observed.unseen() == []
