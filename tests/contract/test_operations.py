"""stillpoint.operation.v1, which every service serves for its own."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.operation.v1 import event_service_pb2, operation_pb2, operation_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from stillpoint_cli.addresses import Service
from tests.contract.cloud import ACCOUNT, Cloud, an_unknown_id
from tests.contract.error_tables import DISK
from tests.contract.refusals import invalid, refused

State = operation_pb2.Operation


def an_ended_operation(cloud: Cloud, service: Service) -> operation_pb2.Operation:
    """One of this service, on a resource of its own, that succeeded."""
    machine = cloud.an_instance()
    if service is Service.COMPUTE:
        resource_id = machine.id
    elif service is Service.DISK:
        resource_id = cloud.a_disk()
    else:
        resource_id = cloud.an_instance_snapshot(machine.id).id
    [operation] = cloud.operations_on(service, resource_id)
    return cloud.finish(operation.id)


@pytest.mark.parametrize("service", Service)
class TestOperationService:
    def test_shows_who_asked_for_what_and_every_step(self, cloud: Cloud, service: Service):
        operation = an_ended_operation(cloud, service)
        assert operation.id.startswith(f"op-{service[0]}-")
        assert operation.account_id == ACCOUNT
        assert operation.kind.startswith("create_")
        assert operation.past_pivot or service is not Service.SNAPSHOT
        assert operation.create_time.ToNanoseconds() <= operation.end_time.ToNanoseconds()
        names = [step.name for step in operation.steps]
        assert (names[0], names[-1]) == ("accepted", "succeeded")
        assert len(names) > 2
        assert not operation.current_step
        assert not operation.HasField("error")
        request = operation_service_pb2.GetOperationRequest(operation_id=operation.id)
        assert cloud.operations[service].GetOperation(request).operation == operation

    def test_watching_an_ended_operation_shows_it_once_and_ends(self, cloud: Cloud, service: Service):
        operation = an_ended_operation(cloud, service)
        request = operation_service_pb2.WatchOperationRequest(operation_id=operation.id)
        [only] = cloud.operations[service].WatchOperation(request)
        assert only.operation == operation

    def test_lists_newest_first_without_steps_and_narrows(self, cloud: Cloud, service: Service):
        first, second = (an_ended_operation(cloud, service) for _ in range(2))
        stub = cloud.operations[service]

        def ids(**filter_: object) -> list[str]:
            request = operation_service_pb2.ListOperationsRequest(filter=filter_, page_size=500)  # type: ignore[arg-type]
            operations = stub.ListOperations(request).operations
            assert not any(operation.steps for operation in operations)
            return [operation.id for operation in operations]

        everything = ids()
        assert everything.index(second.id) < everything.index(first.id)
        assert everything == sorted(everything, reverse=True)
        assert ids(resource_id=first.resource_id) == [first.id]
        assert ids(resource_id=first.resource_id, state=State.STATE_SUCCEEDED) == [first.id]
        assert ids(resource_id=first.resource_id, state=State.STATE_FAILED) == []
        assert ids(resource_id=first.resource_id, unfinished=True) == []

    @pytest.mark.parametrize("method", ["GetOperation", "WatchOperation", "RetryOperation"])
    def test_fails_when_the_operation_is_not_of_this_service(
        self, cloud: Cloud, service: Service, method: str
    ):
        unknown = an_unknown_id(f"op-{service[0]}")
        with refused("NOT_FOUND", "OPERATION_NOT_FOUND") as refusal:
            call(cloud, service, method)(unknown)
        assert refusal.metadata == {"operation_id": unknown}

    @pytest.mark.parametrize("method", ["GetOperation", "WatchOperation", "RetryOperation"])
    @pytest.mark.parametrize("malformed", ["", "OP", "op c"])
    def test_fails_when_the_id_is_malformed(
        self, cloud: Cloud, service: Service, method: str, malformed: str
    ):
        with invalid("operation_id"):
            call(cloud, service, method)(malformed)

    def test_fails_to_retry_an_operation_that_has_ended(self, cloud: Cloud, service: Service):
        operation = an_ended_operation(cloud, service)
        with refused("FAILED_PRECONDITION", "OPERATION_ENDED") as refusal:
            call(cloud, service, "RetryOperation")(operation.id)
        assert refusal.metadata == {"operation_id": operation.id}
        assert cloud.rest(operation.id) == operation

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (operation_service_pb2.ListOperationsRequest(page_size=-1), "page_size"),
            (
                operation_service_pb2.ListOperationsRequest(
                    filter=operation_service_pb2.ListOperationsRequest.Filter(resource_id="No")
                ),
                "filter.resource_id",
            ),
        ],
    )
    def test_fails_to_list_when_page_size_is_negative_or_a_filter_value_malformed(
        self,
        cloud: Cloud,
        service: Service,
        request_: operation_service_pb2.ListOperationsRequest,
        field: str,
    ):
        with invalid(field):
            cloud.operations[service].ListOperations(request_)


def call(cloud: Cloud, service: Service, method: str) -> Callable[[str], object]:
    def with_id(operation_id: str) -> object:
        request = getattr(operation_service_pb2, f"{method}Request")(operation_id=operation_id)
        answer = getattr(cloud.operations[service], method)(request)
        return list(answer) if method == "WatchOperation" else answer

    return with_id


def test_an_operation_of_another_service_is_not_found(cloud: Cloud):
    operation = an_ended_operation(cloud, Service.DISK)
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        call(cloud, Service.COMPUTE, "GetOperation")(operation.id)


def test_a_refused_operation_has_failed_with_the_reason_of_the_service_that_refused(cloud: Cloud):
    machine = cloud.an_instance()
    with refused("NOT_FOUND", "DISK_NOT_FOUND", DISK) as refusal:
        cloud.attach(machine.id, an_unknown_id("disk"))
    operation = cloud.rest(cloud.operations_on(Service.COMPUTE, machine.id)[0].id)
    assert operation.state == State.STATE_FAILED
    assert (operation.error.code, operation.error.reason) == (5, "DISK_NOT_FOUND")
    assert operation.error.message == refusal.message
    assert list(operation.error.violations)
    assert [step.name for step in operation.steps][-1] == "failed"


def test_watching_an_operation_that_runs_ends_with_the_message_that_shows_it_at_rest(cloud: Cloud):
    machine = cloud.an_instance(data_disks=3)
    answer = cloud.instance_snapshots.CreateInstanceSnapshot(
        pb.CreateInstanceSnapshotRequest(instance_id=machine.id)
    )
    request = operation_service_pb2.WatchOperationRequest(operation_id=answer.operation_id)
    seen = [each.operation for each in cloud.operations[Service.SNAPSHOT].WatchOperation(request)]
    assert seen[-1].state == State.STATE_SUCCEEDED
    assert [operation.HasField("end_time") for operation in seen] == [False] * (len(seen) - 1) + [True]
    assert [len(operation.steps) for operation in seen] == sorted(len(operation.steps) for operation in seen)
    assert all(before != after for before, after in pairwise(seen))


def events(cloud: Cloud, **filter_: object) -> list[event_service_pb2.Event]:
    """Of compute_svc, newest first."""
    request = event_service_pb2.ListEventsRequest(filter=filter_, page_size=500)  # type: ignore[arg-type]
    return list(cloud.events[Service.COMPUTE].ListEvents(request).events)


class TestListEvents:
    def test_lists_each_mutation_and_each_step_newest_first(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.stop(machine.id)
        cloud.start(machine.id)
        assert cloud.events_of(Service.COMPUTE, machine.id) == [
            "create_instance/accepted",
            "create_instance/create_disks",
            "create_instance/succeeded",
            "stop_instance",
            "start_instance",
        ]
        request = event_service_pb2.ListEventsRequest(
            filter=event_service_pb2.ListEventsRequest.Filter(resource_id=machine.id)
        )
        events = cloud.events[Service.COMPUTE].ListEvents(request).events
        assert [event.sequence for event in events] == sorted(
            (event.sequence for event in events), reverse=True
        )
        assert {event.account_id for event in events} == {ACCOUNT}
        assert all(event.actor for event in events)
        assert [bool(event.operation_id) for event in events] == [False, False, True, True, True]

    @pytest.mark.parametrize("service", Service)
    def test_narrows_by_operation(self, cloud: Cloud, service: Service):
        operation = an_ended_operation(cloud, service)
        an_ended_operation(cloud, service)
        request = event_service_pb2.ListEventsRequest(
            filter=event_service_pb2.ListEventsRequest.Filter(operation_id=operation.id)
        )
        events = cloud.events[service].ListEvents(request).events
        assert [event.type for event in reversed(events)] == [
            f"{operation.kind}/{step.name}" for step in operation.steps
        ]

    def test_narrows_by_type_where_the_name_of_a_mutation_has_each_of_its_steps(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.stop(machine.id)

        def types(type_: str) -> list[str]:
            return [each.type for each in events(cloud, resource_id=machine.id, type=type_)]

        assert types("stop_instance") == ["stop_instance"]
        assert types("create_instance") == [
            "create_instance/succeeded",
            "create_instance/create_disks",
            "create_instance/accepted",
        ]
        assert types("create_instance/create_disks") == ["create_instance/create_disks"]
        assert types("create_instance/undo create_disks") == []
        assert types("create") == []

    def test_narrows_to_a_step_that_was_undone(self, cloud: Cloud):
        machine = cloud.an_instance(stopped=True)
        with refused("NOT_FOUND", "SNAPSHOT_NOT_FOUND", DISK):
            cloud.roll_back_disk_on(machine.id, machine.system_disk_id, an_unknown_id("snap"))
        [undone] = events(cloud, resource_id=machine.id, type="rollback_disk/undo lease")
        assert undone.type == "rollback_disk/undo lease"
        assert len(events(cloud, resource_id=machine.id, type="rollback_disk/lease")) == 1

    def test_narrows_by_actor(self, cloud: Cloud):
        machine = cloud.an_instance()
        all_of_it = events(cloud, resource_id=machine.id)
        [actor] = {event.actor for event in all_of_it}
        assert events(cloud, resource_id=machine.id, actor=actor) == all_of_it
        assert events(cloud, resource_id=machine.id, actor=f"not-{actor}") == []

    def test_narrows_to_a_range_of_time_that_has_its_beginning_and_not_its_end(self, cloud: Cloud):
        machine = cloud.an_instance()
        cloud.stop(machine.id)
        cloud.start(machine.id)
        started, stopped, *_ = events(cloud, resource_id=machine.id)

        def types(**bounds: object) -> list[str]:
            return [each.type for each in events(cloud, resource_id=machine.id, **bounds)]

        assert types(time_from=stopped.time) == ["start_instance", "stop_instance"]
        assert types(time_from=stopped.time, time_before=started.time) == ["stop_instance"]
        assert types(time_from=started.time, time_before=stopped.time) == []
        assert len(types(time_before=started.time)) == 4

    def test_has_no_line_for_what_was_refused_at_once(self, cloud: Cloud):
        machine = cloud.an_instance()
        before = cloud.events_of(Service.COMPUTE, machine.id)
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", "compute.stillpoint"):
            cloud.start(machine.id)
        assert cloud.events_of(Service.COMPUTE, machine.id) == before

    @pytest.mark.parametrize("service", Service)
    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (event_service_pb2.ListEventsRequest(page_size=-1), "page_size"),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(resource_id="No")
                ),
                "filter.resource_id",
            ),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(operation_id="No")
                ),
                "filter.operation_id",
            ),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(type="a\x00")
                ),
                "filter.type",
            ),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(actor="a\nb")
                ),
                "filter.actor",
            ),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(time_from=Timestamp(seconds=1 << 60))
                ),
                "filter.time_from",
            ),
            (
                event_service_pb2.ListEventsRequest(
                    filter=event_service_pb2.ListEventsRequest.Filter(time_before=Timestamp(nanos=-1))
                ),
                "filter.time_before",
            ),
        ],
    )
    def test_fails_when_page_size_is_negative_or_a_filter_value_malformed(
        self, cloud: Cloud, service: Service, request_: event_service_pb2.ListEventsRequest, field: str
    ):
        with invalid(field):
            cloud.events[service].ListEvents(request_)
