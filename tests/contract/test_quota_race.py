"""The snapshot quota of a disk, as large as the product has it, under clients that race for what is left of it."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

import pytest

from stillpoint.disk.v1 import disk_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_pb2
from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed
from tests.contract.racing import Finish, Race, meet_at, run_clients
from tests.support.deployments import deployed, named_target

SLOTS_LEFT = 8
PROCESSES = 8
RACE_SECONDS = 120.0


@pytest.fixture(scope="module")
def roomy(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """A deployment with the quotas that it has when nobody sets any."""
    target = named_target(request.config)
    if target is not None:
        with closing(Cloud(target, observed)) as cloud:
            yield cloud
        return
    folder = tmp_path_factory.mktemp(f"roomy-{database_kind}")
    with (
        deployed(request, folder, database_kind, environment={}) as local,
        closing(Cloud(local.addresses, observed)) as cloud,
    ):
        yield cloud


def test_a_disk_has_256_manual_and_256_automatic_slots(request: pytest.FixtureRequest, roomy: Cloud):
    if named_target(request.config) is not None:
        pytest.skip("a --target has the quotas that its settings give it")
    disk = roomy.disk(roomy.a_disk())
    assert (disk.manual_snapshots.limit, disk.automatic_snapshots.limit) == (256, 256)


@pytest.mark.timeout(RACE_SECONDS + 180)
def test_64_clients_of_8_processes_that_race_for_the_last_8_slots_of_a_disk_get_exactly_8(roomy: Cloud):
    """Fewer than there are slots ask for a snapshot of the disk alone, which is the faster way, so that snapshots of its
    instance are among the winners. Each tries again while the disk or the instance is busy.
    """
    machine = roomy.an_instance(data_disks=1)
    [disk_id] = machine.data_disk_ids
    limit = roomy.disk(disk_id).manual_snapshots.limit
    for _ in range(limit - SLOTS_LEFT):
        roomy.a_disk_snapshot(disk_id)

    race = Race(
        disk_svc=roomy.addresses.disk.public,
        snapshot_svc=roomy.addresses.snapshot.public,
        disk_id=disk_id,
        instance_id=machine.id,
        give_up_after_seconds=RACE_SECONDS,
    )
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        PROCESSES, mp_context=spawn, initializer=meet_at, initargs=(spawn.Barrier(PROCESSES),)
    ) as processes:
        racing = [
            processes.submit(run_clients, race, for_the_disk=number % 2, for_the_instance=8 - number % 2)
            for number in range(PROCESSES)
        ]
        finishes: list[Finish] = [finish for each in racing for finish in each.result()]

    won = {finish.operation_id for finish in finishes if finish.operation_id}
    turned_away = [finish for finish in finishes if not finish.operation_id]
    assert (len(won), len(turned_away)) == (SLOTS_LEFT, 64 - SLOTS_LEFT)
    assert {finish.refusal for finish in turned_away} == {"SNAPSHOT_QUOTA_EXCEEDED"}
    for finish in turned_away:
        [(subject, named_limit, sentence)] = finish.full
        assert (subject, named_limit) == (f"disk/{disk_id}", limit)
        assert f"{limit} of {limit} manual snapshots" in sentence
    assert sum(finish.times_busy for finish in finishes) > 0, "nobody was ever in another's way"

    for operation_id in won:
        roomy.finish(operation_id)
    assert roomy.disk(disk_id).manual_snapshots.used == limit
    snapshots = roomy.snapshots_of(disk_id=disk_id)
    assert len(snapshots) == limit
    assert {each.state for each in snapshots} == {disk_snapshot_pb2.DiskSnapshot.STATE_AVAILABLE}
    wholes = roomy.instance_snapshots_of(machine.id)
    assert {each.state for each in wholes} <= {instance_snapshot_pb2.InstanceSnapshot.STATE_AVAILABLE}
    assert len([each for each in snapshots if each.instance_snapshot_id]) == len(wholes)
    assert roomy.disk(machine.system_disk_id).manual_snapshots.used == len(wholes)
    assert not roomy.instance(machine.id).operation_id
    assert not any(roomy.disk(each).operation_id for each in machine.disk_ids)
