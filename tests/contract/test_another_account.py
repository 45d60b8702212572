"""An account is a tenant: what one has is not there for another, whoever asks there, in every RPC."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from stillpoint.compute.v1 import account_service_pb2
from stillpoint.disk.v1 import disk_service_pb2
from stillpoint.operation.v1 import operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud
from tests.contract.error_tables import COMPUTE, DISK, Observed
from tests.contract.locked import locked_deployment
from tests.contract.methods import LISTS, METHODS, Method
from tests.contract.refusals import refused
from tests.contract.strangers import BATCHES, STREAMS, Owned, assert_not_found, fill, request_about

OF_ANY_ACCOUNT = {"SetAccountStanding", "RetryOperation", "AbandonOperation"}
"""What an admin does to any account, and a user to none."""
_ACCOUNTS = {"GetAccount"}


@dataclass(frozen=True, slots=True)
class Tenants:
    """`owner` has what is `owned`; the others are of another account."""

    owner: Cloud
    owned: Owned
    user: Cloud
    admin: Cloud


@pytest.fixture(scope="module")
def tenants(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tenants]:
    with (
        locked_deployment(request, database_kind, observed, tmp_path_factory) as locked,
        closing(locked.visitor("team-a", "user")) as owner,
        closing(locked.visitor("team-b", "user")) as user,
        closing(locked.visitor("team-b", "admin")) as admin,
    ):
        yield Tenants(owner, fill(owner), user, admin)


@pytest.fixture(params=["user", "admin"])
def stranger(request: pytest.FixtureRequest, tenants: Tenants) -> Cloud:
    cloud: Cloud = getattr(tenants, request.param)
    return cloud


@pytest.mark.parametrize("method", LISTS, ids=str)
def test_lists_show_nothing_of_another_account(tenants: Tenants, stranger: Cloud, method: Method):
    mine = {getattr(each, "account_id", "team-b") for each in _listed(method, stranger)}
    assert mine <= {"team-b"}
    assert "team-a" in {getattr(each, "account_id", "") for each in _listed(method, tenants.owner)}


def _listed(method: Method, cloud: Cloud) -> list[object]:
    answer = method.call(cloud, method.request())
    return [each for field, value in answer.ListFields() if field.is_repeated for each in value]


@pytest.mark.parametrize(
    "method",
    [
        method
        for method in METHODS
        if method not in LISTS and method.name not in STREAMS | BATCHES | OF_ANY_ACCOUNT | _ACCOUNTS
    ],
    ids=str,
)
def test_ids_of_another_account_are_not_found(tenants: Tenants, stranger: Cloud, method: Method):
    assert_not_found(lambda: method.call(stranger, request_about(method, tenants.owned)))


def test_ids_of_another_account_are_not_found_in_a_batch(tenants: Tenants, stranger: Cloud):
    request = instance_snapshot_service_pb2.BatchDeleteInstanceSnapshotsRequest(
        instance_snapshot_ids=[tenants.owned.things["instance_snapshot_id"]]
    )
    [result] = stranger.instance_snapshots.BatchDeleteInstanceSnapshots(request).results
    assert result.error.reason == "INSTANCE_SNAPSHOT_NOT_FOUND"


def test_bytes_of_another_account_are_neither_read_nor_written(tenants: Tenants, stranger: Cloud):
    disk_id, snapshot_id = tenants.owned.things["disk_id"], tenants.owned.things["snapshot_id"]
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        stranger.read(disk_id)
    with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
        stranger.read(snapshot_id)
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        stranger.write(disk_id, (0, b"stranger"))
    assert not tenants.owner.read(disk_id, length_bytes=8).strip(b"\0")


@pytest.mark.parametrize("service", Service)
def test_operations_of_another_account_cannot_be_watched(tenants: Tenants, stranger: Cloud, service: Service):
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        stranger.rest(tenants.owned.operations[service])


def test_a_request_id_of_another_account_is_a_new_one_here(tenants: Tenants, stranger: Cloud):
    disk = stranger.disks.CreateDisk(tenants.owned.request).disk
    assert disk.account_id == "team-b"
    theirs = tenants.owner.disks.CreateDisk(tenants.owned.request).disk
    assert theirs.account_id == "team-a"
    assert theirs.id != disk.id


def test_an_account_is_shown_to_itself_and_to_an_admin(tenants: Tenants):
    theirs = account_service_pb2.GetAccountRequest(account_id="team-a")
    assert tenants.owner.accounts.GetAccount(theirs).account.id == "team-a"
    assert tenants.admin.accounts.GetAccount(theirs).account.id == "team-a"
    with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND", COMPUTE):
        tenants.user.accounts.GetAccount(theirs)


@pytest.mark.parametrize("service", Service)
def test_an_admin_of_another_account_is_told_of_an_operation_that_it_would_try_again(
    tenants: Tenants, service: Service
):
    request = operation_service_pb2.RetryOperationRequest(operation_id=tenants.owned.operations[service])
    with refused("FAILED_PRECONDITION", "OPERATION_ENDED"):
        tenants.admin.operations[service].RetryOperation(request)


def test_nothing_of_it_changed_anything(tenants: Tenants):
    """Last in the file: after every attempt of the strangers above."""
    for field in ("disk_id", "snapshot_id", "instance_id", "instance_snapshot_id"):
        assert tenants.owned.things[field]
    disk_id = tenants.owned.things["disk_id"]
    disk = tenants.owner.disks.GetDisk(disk_service_pb2.GetDiskRequest(disk_id=disk_id)).disk
    assert (disk.account_id, disk.size_bytes, disk.operation_id) == ("team-a", 1 << 20, "")
