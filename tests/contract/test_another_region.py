"""Services that are started in another region on databases that a region has filled: what they hold of it is not there for
their clients. "Ids of another region are NOT_FOUND, lists show this region only."
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from stillpoint.compute.v1 import participant_service_pb2 as compute_participant_pb2
from stillpoint.disk.v1 import participant_service_pb2 as disk_participant_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import DEFAULT_ADDRESSES, Service
from tests.contract.cloud import Cloud
from tests.contract.error_tables import DISK, Observed
from tests.contract.inside import Inside
from tests.contract.methods import LISTS, METHODS, Method
from tests.contract.refusals import refused
from tests.contract.strangers import BATCHES, STREAMS, Owned, assert_not_found, fill, request_about
from tests.support.deployments import deployed, named_target

_NO_REGIONS = {"GetAccount", "SetAccountStanding"}
"""An account is in every region."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The services, in a region that has nothing, and what the region before them has, by the names of fields."""

    cloud: Cloud
    owned: Owned


@pytest.fixture(scope="module")
def elsewhere(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Elsewhere]:
    if named_target(request.config) is not None:
        pytest.skip("needs services whose region can be changed, which those of a --target cannot")
    folder = tmp_path_factory.mktemp(f"elsewhere-{database_kind}")
    known = {"east": DEFAULT_ADDRESSES}  # nothing gets as far as asking there
    with deployed(request, folder, database_kind, environment={}, region="north", peers=known) as local:
        with closing(Cloud(local.addresses, observed)) as north:
            owned = fill(north)
            _leave_holds(north, Inside(north))
        local.stop()
        local.region = "south"
        local.start()
        with closing(Cloud(local.addresses, observed)) as south:
            yield Elsewhere(south, owned)


def _leave_holds(cloud: Cloud, inside: Inside) -> None:
    """A lease, a point with its tasks, and a reservation of each kind, whose operations go no further."""
    snapshotted, rolled_back = cloud.an_instance(), cloud.an_instance()
    inside.compute.LeaseInstance(inside.lease_request(snapshotted.id))
    inside.disk.CreateConsistencyPoint(inside.point_request(snapshotted.id))
    whole = cloud.an_instance_snapshot(rolled_back.id)
    target = (whole.members[0].disk_id, whole.members[0].snapshot_id)
    inside.disk.ReserveRollback(inside.rollback_request(target, instance_id=rolled_back.id))
    doomed = cloud.an_instance_snapshot(cloud.an_instance().id)
    inside.disk.ReserveSnapshotDeletion(inside.deletion_request(doomed.id))
    assert len(inside.disk.ListHolds(disk_participant_pb2.ListHoldsRequest()).holds) == 7


@pytest.mark.parametrize("method", LISTS, ids=str)
def test_lists_show_nothing_of_another_region(elsewhere: Elsewhere, method: Method):
    assert method.call(elsewhere.cloud, method.request()) == method.response()


@pytest.mark.parametrize(
    "method",
    [
        method
        for method in METHODS
        if method not in LISTS and method.name not in _NO_REGIONS | STREAMS | BATCHES
    ],
    ids=str,
)
def test_ids_of_another_region_are_not_found(elsewhere: Elsewhere, method: Method):
    assert_not_found(lambda: method.call(elsewhere.cloud, request_about(method, elsewhere.owned)))


def test_ids_of_another_region_are_not_found_in_a_batch(elsewhere: Elsewhere):
    request = instance_snapshot_service_pb2.BatchDeleteInstanceSnapshotsRequest(
        instance_snapshot_ids=[elsewhere.owned.things["instance_snapshot_id"]]
    )
    [result] = elsewhere.cloud.instance_snapshots.BatchDeleteInstanceSnapshots(request).results
    assert result.error.reason == "INSTANCE_SNAPSHOT_NOT_FOUND"


def test_bytes_of_another_region_are_neither_read_nor_written(elsewhere: Elsewhere):
    disk_id, snapshot_id = elsewhere.owned.things["disk_id"], elsewhere.owned.things["snapshot_id"]
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        elsewhere.cloud.read(disk_id)
    with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
        elsewhere.cloud.read(snapshot_id)
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
        elsewhere.cloud.write(disk_id, (0, b"south"))


def test_what_operations_of_another_region_hold_is_not_listed(elsewhere: Elsewhere):
    inside = Inside(elsewhere.cloud)
    assert not inside.compute.ListLeases(compute_participant_pb2.ListLeasesRequest()).leases
    assert not inside.disk.ListHolds(disk_participant_pb2.ListHoldsRequest()).holds


@pytest.mark.parametrize("service", Service)
def test_operations_of_another_region_cannot_be_watched(elsewhere: Elsewhere, service: Service):
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        elsewhere.cloud.rest(elsewhere.owned.operations[service])


def test_a_request_id_of_another_region_is_a_new_one_here(elsewhere: Elsewhere):
    disk = elsewhere.cloud.disks.CreateDisk(elsewhere.owned.request).disk
    assert disk.region == "south"
    assert elsewhere.cloud.disks.CreateDisk(elsewhere.owned.request).disk == disk
    elsewhere.cloud.delete_disk(disk.id)
