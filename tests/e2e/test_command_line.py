"""The command line, from the first instance to the last deletion, against a running `stillpoint up`."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Service
from tests.e2e.images import digest, write_image
from tests.e2e.processes import STILLPOINT, CommandLine, Up, environment, run, running_up
from tests.support.waiting import eventually

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance with a snapshot that the tests look at and leave alone."""

    instance: str
    disks: list[str]
    snapshot: str
    members: list[str]
    operation: str


@pytest.fixture(scope="module")
def machine(stillpoint: CommandLine) -> Machine:
    made = stillpoint.json("instance", "create", "machine", "--system", "1MiB", "--data", "1MiB")
    instance = made["instance"]["id"]
    taken = stillpoint.json("snapshot", "create", instance, "--wait")
    snapshot = taken["instance_snapshot"]
    return Machine(
        instance,
        disks=[made["instance"]["system_disk_id"], *made["data_disk_ids"]],
        snapshot=snapshot["id"],
        members=[member["snapshot_id"] for member in snapshot["members"]],
        operation=taken["operation_id"],
    )


# The main job


def test_a_machine_is_snapshotted_ruined_rolled_back_to_the_byte_and_deleted(
    stillpoint: CommandLine, tmp_path: Path
):
    sizes = ["4MiB", "--data", "2MiB", "--data", "1MiB"]
    made = stillpoint.json("instance", "create", "web-1", "--system", *sizes)
    assert made["instance"]["state"] == "STATE_RUNNING"
    instance = made["instance"]["id"]
    disks = [made["instance"]["system_disk_id"], *made["data_disk_ids"]]
    assert len(disks) == 3

    def import_images(what: str) -> dict[str, str]:
        images = {
            disk: write_image(tmp_path / f"{disk}.{what}", size * MIB)
            for disk, size in zip(disks, [4, 2, 1], strict=True)
        }
        stillpoint.out_of_each([("disk", "import", disk, image) for disk, image in images.items()])
        return {disk: digest(image) for disk, image in images.items()}

    def export_all(sources: list[str]) -> list[str]:
        stillpoint.out_of_each([("disk", "export", source, tmp_path / source) for source in sources])
        return [digest(tmp_path / source) for source in sources]

    good = import_images("good")
    snapshot = stillpoint.json("snapshot", "create", instance, "--name", "before-upgrade", "--wait")[
        "instance_snapshot"
    ]
    assert snapshot["state"] == "STATE_AVAILABLE"
    members = {member["disk_id"]: member["snapshot_id"] for member in snapshot["members"]}
    assert members.keys() == set(disks)
    card = stillpoint.out("snapshot", "show", snapshot["id"])
    assert "before-upgrade" in card
    for disk, member in members.items():
        assert [line.split()[0] for line in card.splitlines() if member in line] == [disk]

    ruined = import_images("ruined")
    refused = stillpoint("snapshot", "rollback", snapshot["id"], "--yes")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"Error: instance {instance} is RUNNING; it must be STOPPED or STOPPED_NO_CHARGE (INSTANCE_STATE)\n"
    )
    assert export_all(disks) == [ruined[disk] for disk in disks]

    assert "STOPPED" in stillpoint.out("instance", "stop", instance)
    assert "AVAILABLE" in stillpoint.out("snapshot", "rollback", snapshot["id"], "--yes")
    assert export_all([*disks, members[disks[0]]]) == [good[disk] for disk in [*disks, disks[0]]]

    stillpoint.out("snapshot", "delete", snapshot["id"], "--yes")
    assert "is deleted" in stillpoint.out("instance", "delete", instance)
    gone = stillpoint("snapshot", "show", snapshot["id"])
    assert (gone.code, gone.out) == (1, "")
    assert snapshot["id"] in gone.err
    assert "NOT_FOUND)" in gone.err
    left = stillpoint.json("disk", "show", disks[1])
    assert (left["state"], left["instance_id"]) == ("STATE_DETACHED", "")
    assert left["manual_snapshots"]["used"] == 0


def test_a_rollback_takes_snapshots_first_that_bring_back_what_it_overwrote(
    stillpoint: CommandLine, tmp_path: Path
):
    made = stillpoint.json("instance", "create", "web-2", "--system", "1MiB", "--data", "1MiB")
    instance = made["instance"]["id"]
    disks = [made["instance"]["system_disk_id"], *made["data_disk_ids"]]
    target = stillpoint.json("snapshot", "create", instance)["instance_snapshot"]["id"]
    images = [write_image(tmp_path / f"{disk}.late", MIB) for disk in disks]
    stillpoint.out_of_each([("disk", "import", *each) for each in zip(disks, images, strict=True)])
    stillpoint.out("instance", "detach", instance, disks[1])
    stillpoint.out("instance", "stop", instance)

    def export_all() -> list[str]:
        stillpoint.out_of_each([("disk", "export", disk, tmp_path / disk) for disk in disks])
        return [digest(tmp_path / disk) for disk in disks]

    ran = stillpoint("snapshot", "rollback", target, "--snapshot-first", "--yes")
    assert ran.code == 0, ran.err
    assert (tmp_path / "blank").write_bytes(bytes(MIB))
    assert export_all() == [digest(tmp_path / "blank")] * 2
    ways_back = [line.split()[1:] for line in ran.err.splitlines() if line.startswith("  stillpoint ")]
    assert [way[0] for way in ways_back] == ["snapshot", "disk"]
    for way in ways_back:
        stillpoint.out(*way, "--yes")
    assert export_all() == [digest(image) for image in images]


def test_a_whole_new_instance_is_made_from_an_instance_snapshot_to_the_byte(
    stillpoint: CommandLine, tmp_path: Path
):
    made = stillpoint.json(
        "instance", "create", "web-3", "--system", "2MiB", "--data", "1MiB", "--data", "1MiB"
    )
    disks = [made["instance"]["system_disk_id"], *made["data_disk_ids"]]
    images = [write_image(tmp_path / disk, size * MIB) for disk, size in zip(disks, [2, 1, 1], strict=True)]
    stillpoint.out_of_each([("disk", "import", *each) for each in zip(disks, images, strict=True)])
    snapshot = stillpoint.json("snapshot", "create", made["instance"]["id"])["instance_snapshot"]["id"]

    stillpoint.out("instance", "create", "web-4", "--from", snapshot, "--data", "4MiB")
    [copy] = [each for each in stillpoint.rows("instance", "list") if each["name"] == "web-4"]
    copies = stillpoint.json("instance", "show", copy["id"])["disks"]
    assert copy["state"] == "STATE_RUNNING"
    assert [disk["device"] for disk in copies] == ["vda", "vdb", "vdc"]
    assert [int(disk["size_bytes"]) // MIB for disk in copies] == [2, 4, 1]
    exported = [tmp_path / disk["id"] for disk in copies]
    stillpoint.out_of_each(
        [("disk", "export", disk["id"], file) for disk, file in zip(copies, exported, strict=True)]
    )
    for image, file in zip(images, exported, strict=True):
        held, content = file.read_bytes(), image.read_bytes()
        assert held == content.ljust(len(held), b"\0")


def test_what_a_snapshot_could_be_taken_of_is_listed_with_every_reason_against_it(
    stillpoint: CommandLine, machine: Machine
):
    [row] = [each for each in stillpoint.rows("snapshot", "create") if each["id"] == machine.instance]
    assert row["obstacles"] == []
    assert [disk["id"] for disk in row["disks"]] == machine.disks
    stillpoint.out("account", "set-standing", "in-debt")
    try:
        rows = stillpoint.rows("snapshot", "create")
    finally:
        stillpoint.out("account", "set-standing", "good")
    assert rows
    assert all("account local is in debt" in "; ".join(each["obstacles"]) for each in rows)
    assert stillpoint.rows("snapshot", "list", "--instance", machine.instance) != []


def test_a_disk_is_attached_snapshotted_detached_copied_and_deleted(
    stillpoint: CommandLine, machine: Machine, tmp_path: Path
):
    disk = stillpoint.json("disk", "create", "spare", "--size", "1MiB")["disk"]["id"]
    stillpoint.out("instance", "attach", machine.instance, disk)
    disks = stillpoint.json("instance", "show", machine.instance)["disks"]
    assert {each["id"]: each["state"] for each in disks}[disk] == "STATE_MOUNTED"

    image = write_image(tmp_path / "spare.img", MIB)
    stillpoint.out("disk", "import", disk, image)
    snapshot = stillpoint.json("disk", "snapshot", disk)["snapshot"]
    assert (snapshot["state"], snapshot["instance_snapshot_id"]) == ("STATE_AVAILABLE", "")

    stillpoint.out("instance", "detach", machine.instance, disk)
    assert stillpoint.json("disk", "show", disk)["state"] == "STATE_DETACHED"

    copy = stillpoint.json("disk", "create", "copy", "--from", snapshot["id"])["disk"]["id"]
    # The copy stands on its own: what it was made from can go.
    stillpoint.out("snapshot", "disk-delete", snapshot["id"])
    stillpoint.out("disk", "delete", disk)
    stillpoint.out("disk", "export", copy, tmp_path / "copy.img")
    assert digest(tmp_path / "copy.img") == digest(image)
    stillpoint.out("disk", "delete", copy)
    assert {each["id"] for each in stillpoint.rows("disk", "list")}.isdisjoint({disk, copy})


def test_a_disk_is_renamed_labelled_and_found_by_its_label_and_its_age(stillpoint: CommandLine):
    label = ("--label", "example.org/team=storage")
    disk = stillpoint.json("disk", "create", "before", "--size", "1MiB", *label)["disk"]["id"]
    stillpoint.out("disk", "update", disk, "--name", "after", "--description", "two\nlines")
    card = stillpoint.out("disk", "show", disk)
    assert all(part in card for part in ("after", "two", "lines", "example.org/team=storage"))
    assert [each["id"] for each in stillpoint.rows("disk", "list", *label, "--since", "1h")] == [disk]
    assert stillpoint.rows("disk", "list", *label, "--before", "1h") == []
    stillpoint.out("disk", "update", disk, "--clear-labels")
    assert stillpoint.rows("disk", "list", *label) == []
    stillpoint.out("disk", "delete", disk)


def test_a_member_cannot_be_deleted_alone_and_the_refusal_names_what_it_belongs_to(
    stillpoint: CommandLine, machine: Machine
):
    refused = stillpoint("snapshot", "disk-delete", machine.members[0])
    assert (refused.code, refused.out) == (1, "")
    assert machine.snapshot in refused.err
    assert "(MEMBER_OF_INSTANCE_SNAPSHOT)" in refused.err


# What it prints


def test_every_list_and_show_prints_an_object_a_line_with_its_fields(
    stillpoint: CommandLine, machine: Machine
):
    instance = {"id", "name", "state", "system_disk_id", "account_id", "region", "operation_id"}
    disk = {"id", "name", "role", "state", "size_bytes", "instance_id", "manual_snapshots", "operation_id"}
    snapshot = {"id", "name", "state", "state_reason", "instance_id", "cut_time", "members", "operation_id"}
    member = {"id", "name", "state", "kind", "disk_id", "size_bytes", "instance_snapshot_id", "cut_time"}
    operation = {"id", "kind", "state", "resource_id", "current_step", "steps", "past_pivot", "end_time"}
    event = {"service", "sequence", "time", "type", "resource_id", "operation_id", "actor", "detail"}
    fields = {
        ("instance", "list"): instance,
        ("instance", "show", machine.instance): instance | {"disks"},
        ("disk", "list", "--instance", machine.instance): disk,
        ("disk", "show", machine.disks[0]): disk,
        ("snapshot", "list", "--instance", machine.instance): snapshot,
        ("snapshot", "show", machine.snapshot): snapshot | {"disk_snapshots", "disks"},
        ("snapshot", "create"): instance | {"disks", "obstacles"},
        ("snapshot", "disk-list", "--disk", machine.disks[0]): member,
        ("snapshot", "disk-list", "--snapshot", machine.snapshot): member,
        ("operation", "list", "--resource", machine.snapshot): operation,
        ("operation", "show", machine.operation): operation,
        ("events", "--operation", machine.operation): event,
        ("events", "--type", "create_instance", "--actor", "local", "--since", "1h"): event,
        ("account", "show"): {"id", "standing"},
        ("doctor",): {"check", "looked_at", "findings", "not_asked"},
    }
    for command, output in zip(
        fields, stillpoint.out_of_each([(*command, "--json") for command in fields]), strict=True
    ):
        rows = [json.loads(line) for line in output.splitlines()]
        assert rows, command
        for row in rows:
            assert row.keys() >= fields[command], command


def test_what_went_on_behind_a_snapshot_is_listed_shown_and_watched(
    stillpoint: CommandLine, machine: Machine
):
    events, shown, watched = stillpoint.out_of_each(
        [
            ("events", "--operation", machine.operation),
            ("operation", "show", machine.operation),
            ("operation", "watch", machine.operation),
        ]
    )
    steps = [line.split()[1] for line in watched.splitlines()[:-1]]
    assert steps[0] == "accepted"
    assert steps[-1] == "succeeded"
    assert "SUCCEEDED in " in watched.splitlines()[-1]
    assert "create_instance_snapshot" in shown
    assert [line.split()[1] for line in shown.splitlines()[-len(steps) :]] == steps
    logged = [line.split()[2] for line in events.splitlines()[1:]]
    assert logged == [f"create_instance_snapshot/{step}" for step in reversed(steps)]


def test_doctor_finds_all_well(stillpoint: CommandLine, machine: Machine):
    ran = stillpoint("doctor")
    assert ran.code == 0, ran.out
    assert ran.out.splitlines()[-1] == "All is well."


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["snapshots"], "No such command 'snapshots'"),
        (["snapshot", "show"], "Missing argument 'ID'"),
        (["disk", "create", "d", "--size", "10GB"], "'10GB' is not a size"),
    ],
)
def test_what_is_not_understood_ends_with_2_and_a_message(
    stillpoint: CommandLine, arguments: list[str], message: str
):
    ran = stillpoint(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_service_that_does_not_answer_is_waited_for_and_named_with_its_address(stillpoint: CommandLine):
    ran = stillpoint("--snapshot", "127.0.0.1:1", "snapshot", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Waiting for snapshot_svc at 127.0.0.1:1 …\n"
        "Error: cannot reach snapshot_svc at 127.0.0.1:1 (Connection refused).\n"
        "Is it running there? `stillpoint up` starts the three services on this machine.\n"
    )


# up


def test_up_says_where_everything_is_and_how_to_go_on(up: Up):
    eventually(lambda: "Ctrl-C stops all." in up.output)
    for service in Service:
        assert up.addresses.of(service).public in up.output
    assert f"export STILLPOINT_DIR={up.folder}\n" in up.output


def test_a_second_up_on_the_same_folder_is_refused_and_the_first_goes_on(up: Up, stillpoint: CommandLine):
    second = run([STILLPOINT, "up", "--free-ports", "--dir", up.folder], env=environment())
    assert (second.code, second.out) == (1, "")
    assert f"a deployment runs on {up.folder.resolve()} already" in second.err
    stillpoint.out("instance", "list")


def test_up_says_which_service_was_killed_and_stops_the_others(tmp_path: Path):
    with running_up(tmp_path / "var") as up:
        os.kill(up.services[Service.DISK], signal.SIGKILL)
        assert up.wait() == 1
        assert "Error: disk_svc was ended by signal 9." in up.output
        assert up.services_left() == []
        assert not (up.folder / "addresses.json").exists()
