"""Every row carries its region: a deployment shows, and works on, what is of the region that its settings name."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_service_pb2, disk_snapshot_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from tests.contract.cloud import Cloud
from tests.contract.error_tables import COMPUTE, DISK, SNAPSHOT, Observed
from tests.contract.refusals import refused
from tests.support.deployments import deployed, named_target, service_databases


def everything_listed(cloud: Cloud) -> list[str]:
    """Ids of all instances, disks, disk snapshots and instance snapshots."""
    instances = cloud.instances.ListInstances(instance_service_pb2.ListInstancesRequest()).instances
    disks = cloud.disks.ListDisks(disk_service_pb2.ListDisksRequest()).disks
    snapshots = cloud.disk_snapshots.ListDiskSnapshots(
        disk_snapshot_service_pb2.ListDiskSnapshotsRequest()
    ).snapshots
    wholes = cloud.instance_snapshots.ListInstanceSnapshots(
        instance_snapshot_service_pb2.ListInstanceSnapshotsRequest()
    ).instance_snapshots
    return [each.id for listed in (instances, disks, snapshots, wholes) for each in listed]


def test_what_is_of_another_region_is_neither_listed_nor_found_nor_worked_on(
    request: pytest.FixtureRequest, database_kind: str, observed: Observed, tmp_path: Path
):
    if named_target(request.config) is not None:
        pytest.skip("needs services whose region it chooses, which a --target does not")
    with service_databases(request, database_kind) as databases:

        @contextmanager
        def in_region(region: str) -> Iterator[Cloud]:
            """The same rows and bytes each time."""
            environment = {"STILLPOINT_REGION": region}
            with (
                deployed(
                    request, tmp_path, database_kind, environment=environment, databases=databases
                ) as local,
                closing(Cloud(local.addresses, observed)) as cloud,
            ):
                yield cloud

        with in_region("north") as cloud:
            machine = cloud.an_instance(stopped=True)
            whole = cloud.an_instance_snapshot(machine.id)
            [member] = whole.members
            listed = everything_listed(cloud)
            assert {whole.region, cloud.disk_snapshot(member.snapshot_id).region} == {"north"}
            assert len(listed) == 4
        with in_region("south") as cloud:
            assert everything_listed(cloud) == []
            with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
                cloud.an_instance_snapshot(machine.id)
            for look in (cloud.instance_snapshot, cloud.roll_back, cloud.delete_instance_snapshot):
                with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
                    look(whole.id)
            with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK):
                cloud.a_disk_snapshot(member.disk_id)
            for source in (
                cloud.disk_snapshot,
                lambda snapshot_id: cloud.a_disk(source_snapshot_id=snapshot_id),
            ):
                with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
                    source(member.snapshot_id)
        with in_region("north") as cloud:
            assert everything_listed(cloud) == listed
            cloud.roll_back(whole.id)
