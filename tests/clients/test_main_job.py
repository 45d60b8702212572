"""What users build on protos/ alone: clients generated for other languages do the main job against real services.

Each program is an example for users as well. What its build needs is fetched by the language's own tools and kept, and
what is generated stays out of git.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# `buf` is in the development environment.
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
# A first build fetches and compiles what the program stands on; later ones take seconds.
_FIRST_BUILD_SECONDS = 900

_ID = "[0-9a-z]{26}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
# Each named id must come again where it is named again. Go's enums have their prefix, TypeScript's do not.
_MAIN_JOB = rf"""created (?P<instance>i-{_ID}) with 3 disks
wrote 1048576 bytes to each of 3 disks
took (?P<before>isnap-{_ID}) of 3 disks at {_TIME}
op-s-{_ID} create_instance_snapshot succeeded
the same request_id got the same answer
wrote 1048576 bytes to each of 3 disks
refused: INSTANCE_STATE \(compute\.stillpoint\)
  INSTANCE_STATE instance/(?P=instance): instance (?P=instance) is RUNNING; it must be STOPPED or STOPPED_NO_CHARGE
stopped (?P=instance)
took (?P<after>isnap-{_ID}) of 3 disks at {_TIME}
op-s-{_ID} create_instance_snapshot succeeded
the same request_id got the same answer
op-s-{_ID} rollback_instance_snapshot succeeded
3 disks hold what they held at the snapshot's moment
page 1: (?P=after) after (?:STATE_)?AVAILABLE
page 2: (?P=before) before (?:STATE_)?AVAILABLE
op-s-{_ID} delete_instance_snapshot succeeded
op-s-{_ID} delete_instance_snapshot succeeded
op-d-{_ID} delete_disk succeeded
op-d-{_ID} delete_disk succeeded
deleted (?P=instance) with its disks
"""


def lacking(command: str, version: str, least: tuple[int, int]) -> str:
    """Why this command of a toolchain will not do; empty when it will."""
    if shutil.which(command) is None:
        return f"{command} is not installed"
    said = subprocess.run(
        [command, version], capture_output=True, encoding="utf-8", check=False, timeout=60
    ).stdout.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) >= least:
        return ""
    return f"{command} {least[0]}.{least[1]} or newer is needed; `{command} {version}` says {said!r}"


NO_GO = lacking("go", "version", (1, 24))
NO_NODE = lacking("node", "--version", (20, 0)) or lacking("npm", "--version", (10, 0))


def run(*command: str, folder: Path, settings: dict[str, str]) -> str:
    """What a command prints that must succeed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**settings, "PATH": _PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(NO_GO != "", reason=NO_GO)
@pytest.mark.timeout(_FIRST_BUILD_SECONDS)
def test_a_client_generated_for_go_does_the_main_job(settings: dict[str, str]):
    folder = _HERE / "go"
    run("buf", "generate", folder=folder, settings=settings)
    run("go", "build", "-o", "client", ".", folder=folder, settings=settings)
    printed = run("./client", folder=folder, settings=settings)
    assert re.fullmatch(_MAIN_JOB, printed), printed


@pytest.mark.skipif(NO_NODE != "", reason=NO_NODE)
@pytest.mark.timeout(_FIRST_BUILD_SECONDS)
def test_a_client_generated_for_typescript_does_the_main_job(settings: dict[str, str]):
    folder = _HERE / "typescript"
    run("npm", "install", folder=folder, settings=settings)
    run("npm", "run", "generate", folder=folder, settings=settings)
    run("npm", "run", "build", folder=folder, settings=settings)
    printed = run("npm", "--silent", "start", folder=folder, settings=settings)
    assert re.fullmatch(_MAIN_JOB, printed), printed
