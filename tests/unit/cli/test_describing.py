"""Names, descriptions and labels on the command line: given, changed, shown and listed by."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from typer.testing import Result

from stillpoint.compute.v1 import instance_service_pb2 as instance_pb2
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshot_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from tests.unit.cli.fake_services import FakeServices

Run = Callable[..., Result]

LABELS = {"team": "storage", "empty": ""}
GIVEN = ("--description", "for the demo", "--label", "team=storage", "--label", "empty=")


def serve(services: FakeServices, method: str, module: Any, response: Any = None) -> None:
    """Answer `method`, `DiskService/CreateDisk` say, with this message, or an empty one."""
    name = method.rpartition("/")[2]
    answer = response or getattr(module, f"{name}Response")()
    services.answer(method, getattr(module, f"{name}Request"), lambda _: answer)


@pytest.mark.parametrize(
    ("command", "method", "module"),
    [
        (["instance", "create", "web-1", "--system", "1MiB"], "InstanceService/CreateInstance", instance_pb2),
        (["disk", "create", "data", "--size", "1MiB"], "DiskService/CreateDisk", disk_pb2),
        (
            ["disk", "snapshot", "disk-1", "--no-wait"],
            "DiskSnapshotService/CreateDiskSnapshot",
            disk_snapshot_pb2,
        ),
        (
            ["disk", "snapshot", "disk-1", "--whole-instance", "--no-wait"],
            "InstanceSnapshotService/CreateInstanceSnapshot",
            snapshot_pb2,
        ),
        (
            ["snapshot", "create", "i-1", "--no-wait"],
            "InstanceSnapshotService/CreateInstanceSnapshot",
            snapshot_pb2,
        ),
    ],
)
def test_what_is_made_is_given_its_description_and_labels(
    command: list[str], method: str, module: Any, services: FakeServices, run: Run
):
    serve(services, method, module)
    result = run(*command, *GIVEN, "--json")
    assert result.exit_code == 0, result.output
    [request] = services.requests
    assert (request.description, dict(request.labels)) == ("for the demo", LABELS)


UPDATES = [
    ("instance update", "InstanceService/UpdateInstance", instance_pb2, "instance", Instance),
    ("disk update", "DiskService/UpdateDisk", disk_pb2, "disk", Disk),
    (
        "snapshot disk-update",
        "DiskSnapshotService/UpdateDiskSnapshot",
        disk_snapshot_pb2,
        "snapshot",
        DiskSnapshot,
    ),
    (
        "snapshot update",
        "InstanceSnapshotService/UpdateInstanceSnapshot",
        snapshot_pb2,
        "instance_snapshot",
        InstanceSnapshot,
    ),
]


@pytest.mark.parametrize(("command", "method", "module", "field", "message"), UPDATES)
@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (["--name", "new"], {"name": "new"}),
        (["--description", ""], {"description": ""}),
        (["--label", "a=1", "--label", "b="], {"labels": {"a": "1", "b": ""}}),
        (["--clear-labels"], {"labels": {}}),
        (["--label", "a=1", "--name", "n"], {"name": "n", "labels": {"a": "1"}}),
    ],
)
def test_an_update_sends_what_was_given_and_a_mask_of_it(
    *,
    command: str,
    method: str,
    module: Any,
    field: str,
    message: Any,
    given: list[str],
    changed: dict[str, Any],
    services: FakeServices,
    run: Run,
):
    response = getattr(module, f"{method.rpartition('/')[2]}Response")(
        **{field: message(id="it", name="is new")}
    )
    serve(services, method, module, response)
    result = run(*command.split(), "it", *given)
    assert result.exit_code == 0, result.output
    assert "is new" in result.stdout
    [request] = services.requests
    assert UUID(request.request_id).version == 4
    assert getattr(request, field) == message(id="it", **changed)
    assert list(request.update_mask.paths) == list(changed)


@pytest.mark.parametrize("command", [update[0] for update in UPDATES])
def test_an_update_of_nothing_is_a_usage_error(command: str, services: FakeServices, run: Run):
    result = run(*command.split(), "it")
    assert (result.exit_code, services.requests) == (2, [])
    assert "nothing to change" in result.stderr


@pytest.mark.parametrize("command", [update[0] for update in UPDATES])
def test_labels_and_none_at_all_are_a_usage_error(command: str, services: FakeServices, run: Run):
    result = run(*command.split(), "it", "--label", "a=1", "--clear-labels")
    assert (result.exit_code, services.requests) == (2, [])
    assert "give labels or --clear-labels, not both" in result.stderr


@pytest.mark.parametrize("label", ["team", ""])
def test_a_label_without_a_value_is_a_usage_error(label: str, services: FakeServices, run: Run):
    result = run("disk", "update", "disk-1", "--label", label)
    assert (result.exit_code, services.requests) == (2, [])
    assert "KEY=VALUE" in result.stderr


@pytest.mark.parametrize("command", ["update disk-1", "list"])
def test_a_label_given_twice_is_a_usage_error(command: str, services: FakeServices, run: Run):
    result = run("disk", *command.split(), "--label", "a=1", "--label", "a=2")
    assert (result.exit_code, services.requests) == (2, [])


@pytest.mark.parametrize(
    ("command", "method", "module", "own"),
    [
        (
            ["instance", "list", "--state", "stopped-no-charge"],
            "InstanceService/ListInstances",
            instance_pb2,
            {"state": Instance.STATE_STOPPED_NO_CHARGE},
        ),
        (
            [
                "disk",
                "list",
                "--state",
                "ROLLING_BACK",
                "--role",
                "data",
                "--instance",
                "i-1",
                "--from",
                "snap-1",
            ],
            "DiskService/ListDisks",
            disk_pb2,
            {
                "state": Disk.STATE_ROLLING_BACK,
                "role": Disk.ROLE_DATA,
                "instance_id": "i-1",
                "source_snapshot_id": "snap-1",
            },
        ),
        (
            [
                "snapshot",
                "disk-list",
                "--state",
                "error",
                "--kind",
                "automatic",
                "--disk",
                "disk-1",
                "--snapshot",
                "isnap-1",
            ],
            "DiskSnapshotService/ListDiskSnapshots",
            disk_snapshot_pb2,
            {
                "state": DiskSnapshot.STATE_ERROR,
                "kind": DiskSnapshot.KIND_AUTOMATIC,
                "disk_id": "disk-1",
                "instance_snapshot_id": "isnap-1",
            },
        ),
        (
            ["snapshot", "list", "--state", "available", "--instance", "i-1", "--disk", "disk-1"],
            "InstanceSnapshotService/ListInstanceSnapshots",
            snapshot_pb2,
            {"state": InstanceSnapshot.STATE_AVAILABLE, "instance_id": "i-1", "disk_id": "disk-1"},
        ),
    ],
)
def test_a_list_is_narrowed_by_what_its_options_say_and_by_nothing_without_them(
    *,
    command: list[str],
    method: str,
    module: Any,
    own: dict[str, Any],
    services: FakeServices,
    run: Run,
):
    serve(services, method, module)
    shared = [
        "--name",
        "n",
        "--label",
        "a=1",
        "--label",
        "b=",
        "--since",
        "2026-02-28T14:00Z",
        "--before",
        "1d",
    ]
    for arguments in (command[:2], [*command, *shared]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    everything, narrowed = (request.filter for request in services.requests)
    assert everything == type(everything)()
    assert narrowed.created_before.seconds > narrowed.created_from.seconds == 1772287200
    narrowed.ClearField("created_before")
    assert narrowed == type(narrowed)(
        name="n", labels={"a": "1", "b": ""}, created_from={"seconds": 1772287200}, **own
    )


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (["--state", "asleep"], "rolling_back"),
        (["--role", "unspecified"], "system, data"),
        (["--since", "yesterday"], "2026-05-04 14:30"),
        (["--label", "a"], "KEY=VALUE"),
    ],
)
def test_what_a_list_cannot_be_narrowed_by_is_a_usage_error(
    option: list[str], hint: str, services: FakeServices, run: Run
):
    result = run("disk", "list", *option)
    assert (result.exit_code, services.requests) == (2, [])
    assert hint in result.stderr


def test_a_card_shows_the_description_line_by_line_and_the_labels(services: FakeServices, run: Run):
    disk = Disk(id="disk-1", name="d", description="one\ntwo\x1b[2J", labels={"b": "2", "a": ""})
    serve(services, "DiskService/GetDisk", disk_pb2, disk_pb2.GetDiskResponse(disk=disk))
    lines = [line.split(None, 1) for line in run("disk", "show", "disk-1").stdout.splitlines()]
    assert ["description", "one"] in [[part.strip() for part in line] for line in lines]
    assert any(line[0].startswith("two�") for line in lines if line)
    assert ["labels", "a=, b=2"] in [[part.strip() for part in line] for line in lines]
    assert json.loads(run("disk", "show", "disk-1", "--json").stdout)["labels"] == {"a": "", "b": "2"}
