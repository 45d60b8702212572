"""Two regions on one machine, as `stillpoint up --region … --region …` runs them, and the command line between them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillpoint_cli.addresses import Addresses, folder_of
from tests.e2e.images import digest, write_image
from tests.e2e.processes import CommandLine, Up, running_up
from tests.support.waiting import eventually

MIB = 1 << 20
REGIONS = ("local", "eu")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("regions") / "var", *REGIONS) as up:
        yield up
        code = up.terminate()
        assert code == 0, up.output
        assert up.services_left() == []
        assert [Addresses.read(folder_of(up.folder, region)) for region in REGIONS] == [None, None]


@pytest.fixture(scope="module")
def local(up: Up) -> CommandLine:
    return CommandLine(up.folder, "local")


@pytest.fixture(scope="module")
def eu(up: Up) -> CommandLine:
    return CommandLine(up.folder, "eu")


def test_up_says_where_each_region_is(up: Up):
    eventually(lambda: "Ctrl-C" in up.output, what="the end of what it prints")
    for region in REGIONS:
        addresses = Addresses.read(folder_of(up.folder, region))
        assert addresses is not None
        assert re.search(rf"region +{region} ", up.output)
        assert addresses.disk.public in up.output


def test_each_region_lists_its_own_and_which_one_is_asked_must_be_said(
    up: Up, local: CommandLine, eu: CommandLine
):
    made = eu.json("instance", "create", "web-1", "--system", "1MiB")["instance"]
    assert made["region"] == "eu"
    assert [row["id"] for row in eu.rows("instance", "list")] == [made["id"]]
    assert local.rows("instance", "list") == []
    assert local("instance", "show", made["id"]).code == 1
    nobody = CommandLine(up.folder)
    asked = nobody("instance", "list")
    assert asked.code == 1
    assert f"several regions run on {up.folder}: local, eu. Name one" in asked.err
    assert [row["id"] for row in nobody.rows("--region", "eu", "instance", "list")] == [made["id"]]
    unknown = nobody("--region", "asia", "instance", "list")
    assert unknown.code == 1
    assert "Running there: local, eu." in unknown.err


def test_a_machine_is_copied_to_the_other_region_and_runs_there_with_its_bytes(
    local: CommandLine, eu: CommandLine, tmp_path: Path
):
    made = local.json("instance", "create", "web-1", "--system", "2MiB", "--data", "1MiB")
    disks = {made["instance"]["system_disk_id"]: 2 * MIB, made["data_disk_ids"][0]: MIB}
    images = {disk: write_image(tmp_path / disk, size) for disk, size in disks.items()}
    local.out_of_each([("disk", "import", disk, image) for disk, image in images.items()])
    taken = local.json("snapshot", "create", made["instance"]["id"])["instance_snapshot"]
    copied = local.json("snapshot", "copy", taken["id"], "--to", "eu", "--name", "moved")

    copy = eu.json("snapshot", "show", copied["copy_instance_snapshot_id"])
    assert (copy["name"], copy["state"], copy["source_region"]) == ("moved", "STATE_AVAILABLE", "local")
    assert f"{taken['id']} in local" in eu.out("snapshot", "show", copy["id"])
    for member in copy["members"]:
        eu.out("disk", "export", member["snapshot_id"], tmp_path / member["snapshot_id"])
        assert digest(tmp_path / member["snapshot_id"]) == digest(images[member["disk_id"]])
    for region in (local, eu):
        region.out("doctor")
