"""An upgrade while the main job runs: every process is stopped and started anew, replica by replica. Clients have the
service config that docs/operations.md gives them, and see nothing.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.disk.v1 import disk_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import Channels, examine
from svckit.channels import open_channel
from tests.support import operations_page
from tests.support.databases import PostgresqlDatabases
from tests.support.main_job import MainJob
from tests.support.rolling import Replicas, replicated
from tests.support.waiting import eventually

CLIENTS = 2
RESTART_SECONDS = 10.0


@pytest.fixture
def replicas(postgresql: PostgresqlDatabases, tmp_path: Path) -> Iterator[Replicas]:
    with replicated(postgresql, tmp_path) as serving:
        yield serving


@pytest.fixture
def channels(replicas: Replicas) -> Iterator[dict[Service, grpc.Channel]]:
    options = [("grpc.service_config", operations_page.service_config())]
    opened = {service: open_channel(replicas.public(service), options=options) for service in Service}
    yield opened
    for channel in opened.values():
        channel.close()


class Client:
    """Somebody who goes round and round, and takes no failure for an answer."""

    def __init__(self, channels: dict[Service, grpc.Channel]) -> None:
        self.rounds = 0
        self.error: BaseException | None = None
        self.job = MainJob(channels)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                self._round()
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def _round(self) -> None:
        """The main job: a machine that comes and goes."""
        job, word = self.job, f"round-{self.rounds}"
        machine = job.make_machine()
        job.fill(machine, word)
        snapshot = job.take_snapshot(machine)
        job.fill(machine, "ruin")
        job.stop(machine)
        job.roll_back(snapshot.id)
        assert job.words_on(machine) == [f"{word} 0", f"{word} 1"]
        job.delete_snapshot(snapshot.id)
        job.delete_machine(machine)


class Onlooker(Client):
    """Asks every service without a pause: at whatever moment one stops, there are calls on their way to it."""

    def _round(self) -> None:
        self.job.disks.ListDisks(disk_service_pb2.ListDisksRequest(page_size=1))
        self.job.instances.ListInstances(instance_service_pb2.ListInstancesRequest(page_size=1))
        self.job.snapshots.ListInstanceSnapshots(
            instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(page_size=1)
        )


@pytest.mark.timeout(300)
def test_while_every_process_is_replaced_no_call_fails_and_nothing_is_left(
    replicas: Replicas, channels: dict[Service, grpc.Channel]
):
    clients = [kind(channels) for kind in (Client, Onlooker) for _ in range(CLIENTS)]

    def working() -> None:
        """Every client has gone round once more, through whatever serves now."""
        before = [client.rounds for client in clients]
        eventually(
            lambda: all(
                client.error or client.rounds > rounds for client, rounds in zip(clients, before, strict=True)
            ),
            within_seconds=60,
            what="a round of each client",
        )

    working()
    for service in (Service.SNAPSHOT, Service.COMPUTE):
        for replica in replicas.of[service]:
            print(f"{service}: {replica.restart():.1f} s")
            working()
    (disk_svc,) = replicas.of[Service.DISK]
    away_seconds = disk_svc.restart()
    print(f"disk_svc did not serve for {away_seconds:.1f} s")
    working()
    for client in clients:
        client.stop()

    begun_again = sum(client.job.broken_streams for client in clients)
    print(f"rounds: {[client.rounds for client in clients]}; streams begun again: {begun_again}")
    assert [client.error for client in clients] == [None] * len(clients)
    # Ten seconds on a machine that has a core for it: most of the time is Python's for importing.
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert away_seconds < RESTART_SECONDS * crowd
    job = MainJob(channels)
    eventually(lambda: not job.unfinished(), within_seconds=30, what="coming to rest")
    assert_doctor_finds_nothing(replicas, channels)


def assert_doctor_finds_nothing(replicas: Replicas, channels: dict[Service, grpc.Channel]) -> None:
    with (
        open_channel(replicas.internal(Service.COMPUTE)) as compute_internal,
        open_channel(replicas.internal(Service.DISK)) as disk_internal,
    ):
        examined = Channels(
            compute=channels[Service.COMPUTE],
            compute_internal=compute_internal,
            disk=channels[Service.DISK],
            disk_internal=disk_internal,
            snapshot=channels[Service.SNAPSHOT],
        )
        for result in examine(examined):
            assert result.findings == ()
            assert not result.not_asked
