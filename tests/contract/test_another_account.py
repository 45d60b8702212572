"""An account is a tenant: what one has is not there for another, whoever asks there, in every RPC."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import grpc
import pytest

from stillpoint.compute.v1 import account_service_pb2
from stillpoint.disk.v1 import block_service_pb2, disk_service_pb2, disk_snapshot_service_pb2
from stillpoint.operation.v1 import event_service_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import MIB, Cloud, joined, write_message
from tests.contract.error_tables import COMPUTE, DISK, Observed
from tests.contract.locked import Locked, locked_deployment
from tests.contract.methods import LISTS, METHODS, Method
from tests.contract.refusals import refused
from tests.contract.strangers import BATCHES, STREAMS, Owned, assert_not_found, fill, request_about
from tests.support.waiting import eventually

OF_ANY_ACCOUNT = {"SetAccountStanding", "RetryOperation", "AbandonOperation"}
"""What an admin does to any account, and a user to none."""
_ACCOUNTS = {"GetAccount"}


@dataclass(frozen=True, slots=True)
class Tenants:
    """`owner` has what is `owned`; the others are of another account. `had` is all that there was of it before them."""

    locked: Locked
    owner: Cloud
    owned: Owned
    had: list[object]
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
        owned = fill(owner)
        yield Tenants(locked, owner, owned, _all_of(owner), user, admin)


def _all_of(cloud: Cloud) -> list[object]:
    """Whatever its lists show, the log among them, and the bytes of its disks."""
    disks = cloud.disks.ListDisks(disk_service_pb2.ListDisksRequest()).disks
    return [
        *(each for method in LISTS for each in _listed(method, cloud)),
        *(cloud.read(disk.id) for disk in disks),
    ]


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


def test_an_admin_sets_the_standing_of_any_account(tenants: Tenants):
    with closing(tenants.locked.visitor("team-c", "user")) as other:
        theirs = account_service_pb2.GetAccountRequest(account_id="team-c")
        for standing in (
            account_service_pb2.Account.STANDING_IN_DEBT,
            account_service_pb2.Account.STANDING_GOOD,
        ):
            tenants.admin.set_standing("team-c", standing)
            assert other.accounts.GetAccount(theirs).account.standing == standing
            mine = account_service_pb2.GetAccountRequest(account_id="team-b")
            good = account_service_pb2.Account.STANDING_GOOD
            assert tenants.admin.accounts.GetAccount(mine).account.standing == good


def test_an_admin_tries_again_and_abandons_what_runs_for_any_account(tenants: Tenants):
    """A copy to a region that does not answer."""
    with closing(tenants.locked.visitor("team-c", "user")) as other:
        copy = disk_snapshot_service_pb2.CopyDiskSnapshotRequest(
            snapshot_id=other.a_disk_snapshot(), destination_region="east"
        )
        running = operation_service_pb2.ListOperationsRequest(
            filter=operation_service_pb2.ListOperationsRequest.Filter(unfinished=True)
        )
        answer = other.disk_snapshots.CopyDiskSnapshot.future(copy)
        [operation] = eventually(
            lambda: other.operations[Service.DISK].ListOperations(running).operations, what="the copy"
        )
        retry = operation_service_pb2.RetryOperationRequest(operation_id=operation.id)
        abandon = operation_service_pb2.AbandonOperationRequest(operation_id=operation.id, reason="A test.")
        mine = tenants.admin.operations[Service.DISK]
        assert mine.RetryOperation(retry).operation.account_id == "team-c"
        assert mine.AbandonOperation(abandon).operation.account_id == "team-c"
        assert not other.operations[Service.DISK].ListOperations(running).operations
        answer.cancel()


_AT_ONCE, _ROUNDS = 8, 10
"""Of each of two accounts."""


def test_accounts_that_ask_at_once_over_one_connection_never_meet(tenants: Tenants):
    with closing(tenants.locked.visitor()) as shared, ThreadPoolExecutor(2 * _AT_ONCE) as pool:

        def work(account_id: str) -> set[str]:
            token = grpc.access_token_call_credentials(tenants.locked.token(account_id, "user"))
            made: set[str] = set()
            for _ in range(_ROUNDS):
                new = disk_service_pb2.CreateDiskRequest(name="disk", size_bytes=MIB)
                disk = shared.disks.CreateDisk(new, credentials=token).disk
                made.add(disk.id)
                write = shared.blocks.WriteBlocks(
                    iter([write_message(disk.id, (0, account_id.encode()))]), credentials=token
                )
                assert [each.messages_durable for each in write] == [1]
                read = block_service_pb2.ReadBlocksRequest(disk_id=disk.id, length_bytes=len(account_id))
                assert joined(shared.blocks.ReadBlocks(read, credentials=token)) == account_id.encode()
                listing = disk_service_pb2.ListDisksRequest(page_size=500)
                log = event_service_pb2.ListEventsRequest(page_size=500)
                seen = {each.account_id for each in shared.disks.ListDisks(listing, credentials=token).disks}
                logged = shared.events[Service.DISK].ListEvents(log, credentials=token).events
                assert {disk.account_id, *seen, *(each.account_id for each in logged)} == {account_id}
            return made

        accounts = ["team-d", "team-e"] * _AT_ONCE
        made = list(pool.map(work, accounts))
    for account_id in ("team-d", "team-e"):
        theirs = {
            each for whose, ids in zip(accounts, made, strict=True) if whose == account_id for each in ids
        }
        with closing(tenants.locked.visitor(account_id, "user")) as cloud:
            listing = disk_service_pb2.ListDisksRequest(page_size=500)
            assert {disk.id for disk in cloud.disks.ListDisks(listing).disks} == theirs


def test_nothing_of_it_changed_anything(tenants: Tenants):
    """Last in the file: after every attempt of the strangers above."""
    assert _all_of(tenants.owner) == tenants.had
