"""The door from outside: tokens of two accounts, an administrator's, and an operator's certificate, against a deployment with
locked doors; and what is secret shows up nowhere.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from stillpoint_cli import certs
from stillpoint_cli.addresses import Service
from stillpoint_cli.certs import Certs
from stillpoint_cli.local import LocalDeployment
from tests.e2e.images import digest, write_image
from tests.e2e.processes import STILLPOINT, CommandLine, environment, run
from tests.support.databases import PostgresqlDatabases
from tests.support.waiting import eventually

MIB = 1 << 20
PASSWORD = "correct-horse-battery-staple"
GARBAGE = "not.a-token.of-anybody-here"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return certs.make(tmp_path_factory.mktemp("door") / "certs")


@pytest.fixture(scope="module")
def locked(
    made: Certs, postgresql: PostgresqlDatabases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalDeployment]:
    """It logs everything it would ever log, and one service has a database with a password."""
    with ExitStack() as held:
        url = held.enter_context(postgresql.fresh(lambda _url: None))
        yield held.enter_context(
            LocalDeployment(
                tmp_path_factory.mktemp("door") / "var",
                free_ports=True,
                environment={"STILLPOINT_LOG_LEVEL": "debug", "STILLPOINT_HANDLER_THREADS": "8"},
                service_environment={
                    Service.SNAPSHOT: {
                        "STILLPOINT_DATABASE_URL": url,
                        "STILLPOINT_DATABASE_PASSWORD": PASSWORD,
                    }
                },
                certs=made,
            )
        )


class Doors:
    """Command lines for the deployment, each of somebody else."""

    def __init__(self, locked: LocalDeployment, made: Certs) -> None:
        self._locked = locked
        self._made = made

    def token(self, account: str, role: str = "user", life: timedelta = HOUR) -> str:
        return self._made.token(account, [role], subject=f"of-{account}", life=life)

    def of(self, account: str, role: str = "user", **settings: str) -> CommandLine:
        return self.with_token(self.token(account, role), **settings)

    def with_token(self, token: str, **settings: str) -> CommandLine:
        return CommandLine(self._locked.folder, TOKEN=token, CA=str(self._made.ca), **settings)


@pytest.fixture(scope="module")
def doors(locked: LocalDeployment, made: Certs) -> Doors:
    return Doors(locked, made)


def test_one_account_does_the_main_job_and_another_sees_nothing_of_it(doors: Doors, tmp_path: Path):
    ours, theirs = doors.of("team-a"), doors.of("team-b")
    instance = ours.json("instance", "create", "web-1", "--system", "4MiB", "--data", "1MiB")
    instance_id, disk = instance["instance"]["id"], instance["instance"]["system_disk_id"]
    good = write_image(tmp_path / "good", 4 * MIB)
    ours.out("disk", "import", disk, good)
    taken = ours.json("snapshot", "create", instance_id, "--wait")
    snapshot, operation = taken["instance_snapshot"]["id"], taken["operation_id"]
    ours.out("disk", "import", disk, write_image(tmp_path / "bad", 4 * MIB))
    ours.out("instance", "stop", instance_id)
    ours.out("snapshot", "rollback", snapshot, "--yes")
    ours.out("disk", "export", disk, tmp_path / "out")
    assert digest(tmp_path / "out") == digest(good)

    for hidden in (
        ("instance", "show", instance_id),
        ("disk", "show", disk),
        ("disk", "export", disk, tmp_path / "stolen"),
        ("snapshot", "show", snapshot),
        ("operation", "show", operation),
        ("account", "show", "team-a"),
    ):
        refused = theirs(*hidden)
        assert (refused.code, refused.out) == (1, "")
        assert "NOT_FOUND)" in refused.err
    for listed in (("instance", "list"), ("disk", "list"), ("snapshot", "list"), ("operation", "list")):
        assert theirs.rows(*listed) == []
        assert ours.rows(*listed)


def test_standing_and_retries_need_an_administrator(doors: Doors):
    user, administrator = doors.of("team-c"), doors.of("operations", "admin")
    instance = user.json("instance", "create", "web-1", "--system", "1MiB")["instance"]["id"]
    operation = user.json("snapshot", "create", instance, "--wait")["operation_id"]
    for words in (("account", "set-standing", "in-debt", "team-c"), ("operation", "retry", operation)):
        refused = user(*words)
        assert (refused.code, refused.out) == (1, "")
        assert "this needs the role admin (ROLE_REQUIRED)" in refused.err
        assert "Ask whoever issues tokens" in refused.err
    assert "GOOD" in user.out("account", "show", "team-c")
    assert "IN_DEBT" in administrator.out("account", "set-standing", "in-debt", "team-c")
    assert "IN_DEBT" in user.out("account", "show", "team-c")
    # It has ended: that is what is in the way, and not the role.
    assert "ROLE_REQUIRED" not in administrator("operation", "retry", operation).err


def test_doctor_sees_everything_with_the_operators_certificate_and_says_what_it_needs_without(
    doors: Doors, made: Certs
):
    without = doors.of("team-d")("doctor")
    assert without.code == 2
    assert "could not be checked" in without.out
    assert "STILLPOINT_INTERNAL_CERTIFICATE" in without.out
    operator = doors.of("team-d", **made.operator_settings())
    assert "All is well." in operator.out("doctor")


def test_a_login_stands_for_all_that_the_environment_would_say(
    doors: Doors, locked: LocalDeployment, made: Certs, tmp_path: Path
):
    (tmp_path / "token").write_text(doors.token("team-e"))
    env = environment(DIR=str(locked.folder)) | {"XDG_CONFIG_HOME": str(tmp_path)}
    done = run([STILLPOINT, "login", "--token-file", tmp_path / "token", "--ca", made.ca], env=env)
    assert done.code == 0, done.err
    # Without the folder: the login knows the addresses.
    del env["STILLPOINT_DIR"]
    assert run([STILLPOINT, "instance", "list", "--json"], env=env, cwd=tmp_path).code == 0
    assert run([STILLPOINT, "logout"], env=env).code == 0
    env["STILLPOINT_DIR"] = str(locked.folder)
    refused = run([STILLPOINT, "instance", "list"], env=env)
    assert refused.code == 1
    assert "has its door locked" in refused.err


def test_a_restart_of_disk_svc_is_hidden_from_a_command(doors: Doors, locked: LocalDeployment):
    user = doors.of("team-f")
    locked.kill(Service.DISK)
    listing = subprocess.Popen(
        [str(STILLPOINT), "disk", "list"],
        env=user.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listing.stderr is not None
    said = listing.stderr.readline()
    locked.restart(Service.DISK)
    _, rest = listing.communicate(timeout=60)
    assert listing.returncode == 0, said + rest
    assert said == f"Waiting for disk_svc at {locked.addresses.disk.public} …\n"


def test_no_secret_is_in_a_log_an_answer_an_error_or_a_list_of_processes(
    doors: Doors, locked: LocalDeployment, made: Certs, tmp_path: Path
):
    valid, expired = doors.token("team-g"), doors.token("team-g", life=-HOUR)
    seen: list[str] = []
    for token, words in (
        (valid, ("instance", "create", "web-1", "--system", "1MiB")),
        (valid, ("snapshot", "show", "isnap-none")),
        (valid, ("snapshot", "list", "--json")),
        (valid, ("account", "set-standing", "good", "team-g")),
        (valid, ("doctor",)),
        (expired, ("disk", "list")),
        (expired, ("operation", "watch", "op-s-none")),
        (GARBAGE, ("disk", "list")),
        (GARBAGE, ("disk", "export", "disk-none", tmp_path / "image")),
        (f"{GARBAGE} {valid}", ("disk", "list")),
    ):
        ran = doors.with_token(token, **made.operator_settings())(*words)
        seen += [ran.out, ran.err]
    errors = "".join(seen)
    assert "the token has expired" in errors
    assert "no JWT" in errors
    assert "does not have the form of a token" in errors
    plain = doors.with_token(valid, TLS="0")("disk", "list")
    seen += [plain.out, plain.err]

    # A login holds the token longest; it is looked at while it waits for the end of its input.
    login = subprocess.Popen(
        [str(STILLPOINT), "login"],
        env=environment(DIR=str(locked.folder), CA=str(made.ca)) | {"XDG_CONFIG_HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert login.stdin is not None
    login.stdin.write(valid)
    login.stdin.flush()
    own = Path(f"/proc/{login.pid}/cmdline")
    eventually(lambda: "login" in own.read_text())
    processes = command_lines()
    assert any("disk_svc" in line for line in processes)
    assert any(line.rstrip("\0").endswith("login") for line in processes)
    said, _ = login.communicate(timeout=60)
    assert "Logged in" in said
    seen += [*processes, said]

    logs = [locked.log_path(service).read_text() for service in Service]
    # They did log at this level what was refused.
    assert any("the token has expired" in log for log in logs)
    secrets = [PASSWORD, GARBAGE]
    secrets += [part for token in (valid, expired) for part in token.split(".")[1:]]
    secrets += [
        line
        for key in made.folder.glob("*.key")
        for line in key.read_text().splitlines()
        if not line.startswith("-----")
    ]
    for text in [*seen, *logs]:
        for secret in secrets:
            assert secret not in text


def command_lines() -> list[str]:
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_text(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile
    return lines
