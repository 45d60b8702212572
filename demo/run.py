"""One snapshot of a whole machine, and the proof that it is one: `make demo`, and `make demo-compose` for a deployment
that runs already.

Three disks with real file systems, a writer whose records on two of them depend on each other, one snapshot while it
writes; then everything is damaged and rolled back. Exit code 0 only if every disk is then what it was at that moment.
"""

import argparse
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from demo import proofs
from demo.damage import damage_disk
from demo.filesystems import MIB, FileSystem, Kind, Plan, choose_kind, make_file_system
from demo.machine import Machine
from demo.story import Story
from demo.writer import Writer, read_log
from stillpoint_cli.addresses import Addresses, Chosen, Service
from stillpoint_cli.connections import Connections
from stillpoint_cli.credentials import Credentials
from stillpoint_cli.errors import Failure, explain
from stillpoint_cli.local import LocalDeployment
from stillpoint_cli.regions import find_deployment
from stillpoint_cli.values import format_duration, format_size

PLANS = (
    Plan("system", Path(sysconfig.get_path("stdlib")), 300 * MIB, files_bytes=160 * MIB),
    Plan("data-1", Path(sysconfig.get_path("purelib")), 200 * MIB, files_bytes=120 * MIB, log_bytes=64 * MIB),
    Plan("data-2", Path("/usr/share"), 200 * MIB, files_bytes=120 * MIB, log_bytes=64 * MIB),
)
NEEDED_BYTES = 3 << 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demonstrate(story: Story, folder: Path, *, on_deployment: bool) -> bool:
    """Whether everything was proved."""
    began = time.monotonic()
    kind, file_systems = make_file_systems(story, folder)
    set_up_seconds = time.monotonic() - began

    services = named_services(story) if on_deployment else services_of_its_own(story, folder)
    with services as connections:
        holds = tell(story, kind, file_systems, connections, folder, tidy=on_deployment)

    seconds = time.monotonic() - began
    story.end(
        f"{'Proved' if holds else 'NOT PROVED'}, in {format_duration(seconds)}, "
        f"{format_duration(set_up_seconds)} of them for making the file systems.",
        well=holds,
    )
    return holds


def make_file_systems(story: Story, folder: Path) -> tuple[Kind, list[FileSystem]]:
    kind, missing = choose_kind()
    made = []
    with story.step(f"Make three file systems ({kind.name}), filled with real files"):
        if missing:
            story.say(
                f"Not found: {', '.join(missing)} (e2fsprogs has them). Tar archives stand in for ext4."
            )
        for plan in PLANS:
            with story.progress(plan.name, plan.files_bytes) as advance:
                made.append(make_file_system(kind, plan, folder, advance))
            story.say(f"{plan.name}  {format_size(plan.size_bytes)}, {made[-1].describe()}")
    return kind, made


@contextmanager
def named_services(story: Story) -> Iterator[Connections]:
    """Those of the deployment that the environment names, as it does for the command line."""
    named = {service: os.environ.get(f"STILLPOINT_{service.name}", "") for service in Service}
    if not all(named.values()):
        raise Failure(
            "STILLPOINT_COMPUTE, STILLPOINT_DISK and STILLPOINT_SNAPSHOT must say where the deployment is"
        )
    addresses = find_deployment(Chosen(public=named), os.environ).addresses
    with closing(Connections(addresses, Credentials(os.environ))) as connections:
        with story.step("Find the three services of the deployment"):
            say_where(story, addresses)
        yield connections


@contextmanager
def services_of_its_own(story: Story, folder: Path) -> Iterator[Connections]:
    deployment = LocalDeployment(folder / "services", free_ports=True)
    try:
        with story.step("Start the three services on free ports, in a fresh folder"):
            deployment.start()
            say_where(story, deployment.addresses)
        with closing(Connections(deployment.addresses)) as connections:
            yield connections
    except Exception as error:
        # A service that died is the reason for whatever failed here, and says more than its clients can.
        if (dead := deployment.dead()) is not None:
            raise Failure(deployment.describe_death(dead)) from error
        raise
    finally:
        deployment.stop()


def say_where(story: Story, addresses: Addresses) -> None:
    for service in Service:
        story.say(f"{service.module:<13}{addresses.of(service).public}")


def tell(
    story: Story,
    kind: Kind,
    file_systems: Sequence[FileSystem],
    connections: Connections,
    folder: Path,
    *,
    tidy: bool,
) -> bool:
    with story.step("Create an instance, and import the file systems as its three disks"):
        machine = Machine(connections, file_systems)
        imported = machine.import_images()
        story.say(f"instance {machine.id}")
        for disk, done in zip(machine.disks, imported, strict=True):
            story.say(f"{disk.name}  {disk.id}, {format_size(done.data_bytes)} of data")
    _, a, b = machine.disks

    writer = Writer(connections.blocks, a.log, b.log)
    with writer.writing():
        with story.step("Start a writer of records that depend on each other"):
            story.say(f"record n to {a.name}, wait until it is durable, n to {b.name}, wait, and so on")
            writer.go_on(records=300, seconds=1.5)
            story.say(f"{writer.progress.durable_b:,} records so far")

        with story.step("Take a snapshot of the instance, while it writes"):
            snapshot = machine.take_snapshot(writer)
            story.say(f"{snapshot.id}, of all three disks at {snapshot.cut_time:%H:%M:%S.%f} UTC")

        with story.step("Let the writer go on for a while"):
            writer.go_on(records=100, seconds=1.0)
            story.say(f"{writer.progress.durable_b:,} records so far")
    end = writer.progress

    with story.step(f"Damage all three disks: {kind.vitals}, logs, and 64 places anywhere"):
        for disk in machine.disks:
            size = damage_disk(connections, disk.id, disk.made.plan)
            story.say(f"{disk.name}  {format_size(size)} overwritten with random bytes")

    with story.step("Export the damaged disks, to see that this is real"):
        verdicts = [kind.check(image) for image in machine.export_images(folder / "damaged")]
        for disk, verdict in zip(machine.disks, verdicts, strict=True):
            story.say(f"{disk.name}  {kind.checker}: {verdict.words}")
        shutil.rmtree(folder / "damaged")

    with story.step("Stop the instance, and roll it back to the snapshot"):
        machine.stop()
        back_seconds = machine.roll_back(snapshot)
        story.say(f"three disks went back together in {format_duration(back_seconds)}")

    with story.step("Export the disks as they are now"):
        exported = machine.export_images(folder / "rolled-back")
        story.say(f"{format_size(sum(image.stat().st_size for image in exported))} in three images")

    with (
        story.step("Compare them with what went in"),
        story.busy("checking every file system, file and byte"),
    ):
        images = list(zip(file_systems, exported, strict=True))
        log_a, log_b = read_log(exported[1], a.log), read_log(exported[2], b.log)
        proved = [
            proofs.prove_damage(kind, verdicts),
            proofs.prove_sound(kind, images),
            proofs.prove_files(kind, images),
            proofs.prove_bytes(images),
            proofs.prove_order(log_a, log_b),
            proofs.prove_moment(log_a, log_b, snapshot),
            proofs.prove_nothing_later(log_a, log_b, end),
        ]

    if tidy:
        with story.step("Delete the snapshot, the instance and its disks"):
            machine.delete(snapshot)

    story.conclude(
        proved,
        {
            "The moment": f"{snapshot.cut_time:%Y-%m-%d %H:%M:%S.%f} UTC",
            "From request to moment": format_duration(snapshot.seconds_to_moment),
            "From request to AVAILABLE": format_duration(snapshot.seconds_to_available),
            "The writer's longest wait meanwhile": f"{format_duration(snapshot.longest_wait_seconds)} "
            f"(usually {format_duration(writer.usual_wait_seconds())})",
            "Rollback of three disks": format_duration(back_seconds),
        },
    )
    return all(proof.holds for proof in proved)


class Interrupted(BaseException):
    """Ctrl-C, or another signal that asks to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    parser = argparse.ArgumentParser(
        description="One snapshot of a whole machine, and the proof that it is one."
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with all images when it is done")
    parser.add_argument(
        "--deployment",
        action="store_true",
        help="use the services that STILLPOINT_COMPUTE, …_DISK and …_SNAPSHOT name instead of starting some",
    )
    arguments = parser.parse_args()
    keep: bool = arguments.keep
    end_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="stillpoint-demo-"))
    story = Story()
    code = 1
    try:
        story.begin(
            "Stillpoint: one snapshot of a whole machine, at one moment, while it writes.",
            f"Everything is in {folder}"
            + ("" if keep else ", which is removed at the end (demo/run.py --keep keeps it)."),
        )
        must_have_room(folder)
        code = 0 if demonstrate(story, folder, on_deployment=arguments.deployment) else 1
    except Interrupted as interrupted:
        code = 128 + interrupted.number
        story.end("Interrupted; what it started is stopped.", well=False)
    except Exception as error:
        explanation = explain(error)
        if explanation is None:
            raise
        story.end(f"Failed: {explanation}", well=False)
    finally:
        ignore_signals()
        if keep or code == 1:
            story.end(f"Kept: {folder}", well=code == 0)
        else:
            shutil.rmtree(folder)
    return code


def end_on_signals() -> None:
    """The first one unwinds everything. A second one must not break off the stopping of the services."""

    def unwind(number: int, _: object) -> None:
        ignore_signals()
        raise Interrupted(number)

    for each in SIGNALS:
        # nohup and a shell's & have some ignored, and mean it.
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, unwind)


def ignore_signals() -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def must_have_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise Failure(
            f"{folder.parent} has {format_size(free)} free, and this needs {format_size(NEEDED_BYTES)}. "
            "Set TMPDIR to a folder with more."
        )


if __name__ == "__main__":
    sys.exit(main())
