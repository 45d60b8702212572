"""`stillpoint events`: every mutation and every step of every operation, and who asked for it."""

import heapq
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer

from stillpoint.operation.v1.event_service_pb2 import Event, ListEventsRequest
from stillpoint_cli.addresses import Service
from stillpoint_cli.commands import make_app
from stillpoint_cli.connections import Connections
from stillpoint_cli.describing import BeforeOption, SinceOption
from stillpoint_cli.output import Columns, JsonOption, LimitOption, ServiceOption, as_dict, print_list
from stillpoint_cli.paging import each, page_size
from stillpoint_cli.values import format_time

app = make_app()


class _Row(NamedTuple):
    """An event and whose log it is in: sequence numbers are each service's own."""

    service: Service
    event: Event

    def as_dict(self) -> dict[str, Any]:
        return {"service": self.service.value, **as_dict(self.event)}


@app.command()
def events(
    context: typer.Context,
    *,
    resource: Annotated[str, typer.Option(metavar="ID", help="Only events of this resource.")] = "",
    operation: Annotated[str, typer.Option(metavar="ID", help="Only events of this operation.")] = "",
    type_: Annotated[
        str,
        typer.Option(
            "--type", metavar="TYPE", help="Only events of this type: create_disk, or create_disk/succeeded."
        ),
    ] = "",
    actor: Annotated[str, typer.Option(metavar="WHO", help="Only what this actor asked for.")] = "",
    since: SinceOption = None,
    before: BeforeOption = None,
    service: ServiceOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List what happened in all services, newest first. As JSON, each event has a field `service` besides its own."""
    connections = Connections.of(context)
    wanted = ListEventsRequest.Filter(
        resource_id=resource,
        operation_id=operation,
        type=type_,
        actor=actor,
        time_from=since,
        time_before=before,
    )

    def of(one: Service) -> Iterator[_Row]:
        stub = connections.events(one)
        return each(
            lambda token: stub.ListEvents(
                ListEventsRequest(filter=wanted, page_size=page_size(limit), page_token=token)
            ),
            lambda page: (_Row(one, event) for event in page.events),
        )

    rows = heapq.merge(
        *(of(one) for one in ([service] if service else Service)),
        key=lambda row: row.event.time.ToNanoseconds(),
        reverse=True,
    )
    columns: Columns[_Row] = {
        "TIME": lambda row: format_time(row.event.time),
        "SERVICE": lambda row: row.service.value,
        "WHAT": lambda row: row.event.type,
        "RESOURCE": lambda row: row.event.resource_id,
        "OPERATION": lambda row: row.event.operation_id,
        "WHO": lambda row: row.event.actor,
        "DETAIL": lambda row: row.event.detail,
    }
    print_list(rows, columns, limit=limit, as_json=as_json, nothing="No events.", to_json=_Row.as_dict)
