"""`stillpoint events`: the three logs as one."""

from collections.abc import Callable

from typer.testing import Result

from stillpoint.operation.v1 import event_service_pb2 as event_pb2
from tests.unit.cli.fake_services import FakeServices

Run = Callable[..., Result]


def test_every_filter_of_events_is_sent_to_each_service(services: FakeServices, run: Run):
    services.answer(
        "EventService/ListEvents", event_pb2.ListEventsRequest, lambda _: event_pb2.ListEventsResponse()
    )
    filters = ["--type", "create_disk/succeeded", "--actor", "ann", "--resource", "d", "--operation", "o"]
    times = ["--since", "2026-01-01T00:00Z", "--before", "2026-01-01T01:00+01:00"]
    result = run("events", *filters, *times)
    assert result.exit_code == 0, result.output
    assert len(services.requests) == 3
    wanted = services.requests[0].filter
    assert (wanted.type, wanted.actor, wanted.resource_id) == ("create_disk/succeeded", "ann", "d")
    assert wanted.operation_id == "o"
    assert wanted.time_from == wanted.time_before
    assert wanted.time_from.ToJsonString() == "2026-01-01T00:00:00Z"
    run("events")
    assert not services.requests[-1].filter.HasField("time_from")


def test_a_time_that_is_none_is_a_usage_error(services: FakeServices, run: Run):
    assert run("events", "--since", "yesterday").exit_code == 2
    assert services.requests == []
