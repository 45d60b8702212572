import json
from collections.abc import Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import Result

from stillpoint.compute.v1 import instance_service_pb2 as instance_pb2
from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.disk.v1 import disk_service_pb2 as disk_pb2
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.operation.v1 import event_service_pb2 as event_pb2
from stillpoint.operation.v1 import operation_service_pb2 as operation_pb2
from stillpoint.operation.v1.operation_pb2 import Operation
from tests.unit.cli.fake_services import FakeServices

Run = Callable[..., Result]


def serve_disks(services: FakeServices, count: int) -> None:
    disks = [Disk(id=f"disk-{number}", name=f"d{number}", size_bytes=1 << 30) for number in range(count)]

    def answer(request: disk_pb2.ListDisksRequest) -> disk_pb2.ListDisksResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        token = str(end) if end < count else ""
        return disk_pb2.ListDisksResponse(disks=disks[begin:end], next_page_token=token)

    services.answer("DiskService/ListDisks", disk_pb2.ListDisksRequest, answer)


def test_a_list_asks_for_no_page_beyond_its_limit(services: FakeServices, run: Run):
    serve_disks(services, 1200)
    result = run("disk", "list", "--limit", 2)
    assert [request.page_size for request in services.requests] == [3]
    assert "disk-1" in result.stdout
    assert "disk-2" not in result.stdout
    assert "--limit 0" in result.stderr


def test_a_list_without_limit_walks_all_pages(services: FakeServices, run: Run):
    serve_disks(services, 1200)
    result = run("disk", "list", "--limit", 0, "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [
        f"disk-{n}" for n in range(1200)
    ]
    assert len(services.requests) == 3


def test_json_has_the_names_of_the_proto_and_every_field(services: FakeServices, run: Run):
    serve_disks(services, 1)
    disk = json.loads(run("disk", "list", "--json").stdout)
    assert disk["size_bytes"] == str(1 << 30)
    assert disk["operation_id"] == ""


def test_an_empty_list_leaves_stdout_empty(services: FakeServices, run: Run):
    serve_disks(services, 0)
    result = run("disk", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No disks.\n")


def test_control_characters_in_a_name_do_not_reach_the_terminal(services: FakeServices, run: Run):
    services.answer(
        "InstanceService/ListInstances",
        instance_pb2.ListInstancesRequest,
        lambda _: instance_pb2.ListInstancesResponse(instances=[Instance(id="i-1", name="\x1b[2Jweb [red]")]),
    )
    result = run("instance", "list")
    assert "\x1b" not in result.stdout
    assert "�[2Jweb [red]" in result.stdout


def test_operations_of_all_services_are_merged_newest_first(services: FakeServices, run: Run):
    def answer(_request: Any) -> Any:
        # The fake answers for all three: each service's list is the same one.
        operations = [Operation(id=f"op-s-{n}", create_time=Timestamp(seconds=n)) for n in (5, 3, 1)]
        return operation_pb2.ListOperationsResponse(operations=operations)

    services.answer("OperationService/ListOperations", operation_pb2.ListOperationsRequest, answer)
    lines = run("operation", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["id"][-1] for line in lines] == list("555333111")


def test_events_say_which_service_recorded_them(services: FakeServices, run: Run):
    services.answer(
        "EventService/ListEvents",
        event_pb2.ListEventsRequest,
        lambda _: event_pb2.ListEventsResponse(events=[event_pb2.Event(sequence=1, type="start_instance")]),
    )
    lines = [json.loads(line) for line in run("events", "--resource", "i-1", "--json").stdout.splitlines()]
    assert [line["service"] for line in lines] == ["compute", "disk", "snapshot"]
    assert services.requests[0].filter.resource_id == "i-1"
