"""OperationService and EventService, served by each service over its own sagas and its own log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Literal

import grpc
import sqlalchemy as sa
from sqlalchemy.orm import Session

from stillpoint.operation.v1 import (
    event_service_pb2,
    event_service_pb2_grpc,
    operation_pb2,
    operation_service_pb2,
    operation_service_pb2_grpc,
)
from svckit import paging
from svckit.abandonment import Abandonment, Holds
from svckit.caller import current_caller
from svckit.clock import from_timestamp, to_timestamp, utc_now
from svckit.errors import OperationEnded, OperationNotFound, Refusal
from svckit.saga import SagaEngine, journal
from svckit.saga.journal import UNFINISHED, Event, Saga
from svckit.server import Registration
from svckit.validation import Checks

_STATE_PREFIX = "STATE_"

_Bound = Literal["time_from", "time_before"]


def registrations(engine: SagaEngine, holds: Holds) -> list[Registration]:
    """What every service adds to its public port. `holds`: what it holds for operations."""
    operations = operation_service_pb2.DESCRIPTOR.services_by_name["OperationService"]
    events = event_service_pb2.DESCRIPTOR.services_by_name["EventService"]
    return [
        Registration(
            operation_service_pb2_grpc.add_OperationServiceServicer_to_server,
            OperationServicer(engine, Abandonment(engine, holds)),
            operations,
        ),
        Registration(
            event_service_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(engine), events
        ),
    ]


class OperationServicer(operation_service_pb2_grpc.OperationServiceServicer):
    """Proto to rows and back."""

    def __init__(self, engine: SagaEngine, abandonment: Abandonment) -> None:
        self._engine = engine
        self._database = engine.database
        self._abandonment = abandonment
        self._next_looks: dict[tuple[str, str], asyncio.Task[operation_pb2.Operation]] = {}
        """Those that have not begun, by account and operation: whoever wants to see the operation now can still join."""

    def GetOperation(
        self, request: operation_service_pb2.GetOperationRequest, context: Any
    ) -> operation_service_pb2.GetOperationResponse:
        return operation_service_pb2.GetOperationResponse(operation=self._load(request.operation_id))

    def ListOperations(
        self, request: operation_service_pb2.ListOperationsRequest, context: Any
    ) -> operation_service_pb2.ListOperationsResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.resource_id", request.filter.resource_id, required=False)
            check.enum_value("filter.state", request.filter.state, operation_pb2.Operation.State.values())
        query = sa.select(Saga).where(
            Saga.account_id == current_caller().account_id, Saga.region == self._engine.region
        )
        if request.filter.resource_id:
            query = query.where(Saga.resource_id == request.filter.resource_id)
        if request.filter.state:
            name = operation_pb2.Operation.State.Name(request.filter.state).removeprefix(_STATE_PREFIX)
            query = query.where(Saga.state == name)
        if request.filter.unfinished:
            query = query.where(Saga.due_at.is_not(None))
        page = paging.Page.of(request, request.filter)
        with self._database.read() as session:
            sagas, next_page_token = paging.fetch(session, query, Saga.id, page)
        return operation_service_pb2.ListOperationsResponse(
            operations=[self._operation(saga, ()) for saga in sagas], next_page_token=next_page_token
        )

    async def WatchOperation(
        self,
        request: operation_service_pb2.WatchOperationRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[operation_service_pb2.WatchOperationResponse]:
        shown: operation_pb2.Operation | None = None
        with self._engine.notices.subscribe(request.operation_id) as changed:
            while True:
                changed.clear()
                operation = await self._look(request.operation_id)
                if operation != shown:
                    yield operation_service_pb2.WatchOperationResponse(operation=operation)
                if operation.HasField("end_time"):
                    return
                shown = operation
                await changed.wait()

    async def _look(self, operation_id: str) -> operation_pb2.Operation:
        """As it is from now on. All who were woken by one change look at it together: a thousand looks would keep every other
        call waiting for a thread.
        """
        key = (current_caller().account_id, operation_id)
        look = self._next_looks.get(key)
        if look is None:
            look = self._next_looks[key] = asyncio.create_task(self._look_together(key))
        return await asyncio.shield(look)  # who goes away takes nobody's look with it

    async def _look_together(self, key: tuple[str, str]) -> operation_pb2.Operation:
        await asyncio.sleep(0)
        del self._next_looks[key]
        return await asyncio.to_thread(self._load, key[1])

    def RetryOperation(
        self, request: operation_service_pb2.RetryOperationRequest, context: Any
    ) -> operation_service_pb2.RetryOperationResponse:
        operation = self._load(request.operation_id, of_any_account=True)
        with self._database.write() as session:
            if not journal.make_due(session, operation.id, utc_now()):
                raise OperationEnded(operation.id)
            journal.add_event(
                session,
                account_id=operation.account_id,
                region=operation.region,
                actor=current_caller().subject,
                type="retry_operation",
                resource_id=operation.resource_id,
                operation_id=operation.id,
                step="retried",
            )
        self._engine.wake()
        return operation_service_pb2.RetryOperationResponse(
            operation=self._load(operation.id, of_any_account=True)
        )

    def AbandonOperation(
        self, request: operation_service_pb2.AbandonOperationRequest, context: Any
    ) -> operation_service_pb2.AbandonOperationResponse:
        with Checks() as check:
            check.resource_id("operation_id", request.operation_id)
            check.sentence("reason", request.reason)
        if request.validate_only:
            held = self._abandonment.look(request.operation_id)
        else:
            held = self._abandonment.abandon(request.operation_id, request.reason)
        with self._database.read() as session:
            operation = self._find(session, request.operation_id)
        return operation_service_pb2.AbandonOperationResponse(
            operation=operation,
            released=[
                operation_service_pb2.ReleasedHold(kind=hold.kind, resource_id=hold.resource_id)
                for hold in held
            ],
        )

    def _load(self, operation_id: str, *, of_any_account: bool = False) -> operation_pb2.Operation:
        """An admin, and only an admin, may be shown another account's."""
        with Checks() as check:
            check.resource_id("operation_id", operation_id)
        with self._database.read() as session:
            operation = self._find(session, operation_id)
        if operation is None or not (of_any_account or operation.account_id == current_caller().account_id):
            raise OperationNotFound(operation_id)
        return operation

    def _find(self, session: Session, operation_id: str) -> operation_pb2.Operation | None:
        saga = journal.find(session, operation_id, region=self._engine.region)
        return self._operation(saga, journal.steps_of(session, operation_id)) if saga else None

    def _operation(self, saga: Saga, steps: Sequence[Event]) -> operation_pb2.Operation:
        return operation_pb2.Operation(
            id=saga.id,
            kind=saga.kind,
            account_id=saga.account_id,
            region=saga.region,
            resource_id=saga.resource_id,
            state=operation_pb2.Operation.State.Value(_STATE_PREFIX + saga.state),
            current_step=self._engine.step_name(saga) if saga.state in UNFINISHED else "",
            attempts=saga.attempts,
            past_pivot=saga.past_pivot,
            error=_error(saga),
            steps=[
                operation_pb2.OperationStep(
                    name=step.step, undo=step.undo, attempt=step.attempt, time=to_timestamp(step.time)
                )
                for step in steps
            ],
            create_time=to_timestamp(saga.create_time),
            update_time=to_timestamp(saga.update_time),
            end_time=to_timestamp(saga.end_time),
            progress=progress_of(saga),
        )


def progress_of(saga: Saga) -> operation_pb2.OperationProgress | None:
    """None for a saga that moves no bytes, or has not begun to."""
    progress = saga.data.get("progress")
    return operation_pb2.OperationProgress(**progress) if progress else None


class EventServicer(event_service_pb2_grpc.EventServiceServicer):
    """Proto to rows and back."""

    def __init__(self, engine: SagaEngine) -> None:
        self._database = engine.database
        self._region = engine.region

    def ListEvents(
        self, request: event_service_pb2.ListEventsRequest, context: Any
    ) -> event_service_pb2.ListEventsResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.resource_id", request.filter.resource_id, required=False)
            check.resource_id("filter.operation_id", request.filter.operation_id, required=False)
            check.line("filter.type", request.filter.type)
            check.line("filter.actor", request.filter.actor)
            check.moment("filter.time_from", request.filter.time_from)
            check.moment("filter.time_before", request.filter.time_before)
        page = paging.Page.of(request, request.filter)
        with self._database.read() as session:
            events, next_page_token = journal.list_events(
                session,
                page,
                account_id=current_caller().account_id,
                region=self._region,
                resource_id=request.filter.resource_id,
                operation_id=request.filter.operation_id,
                type=request.filter.type,
                actor=request.filter.actor,
                time_from=_moment(request.filter, "time_from"),
                time_before=_moment(request.filter, "time_before"),
            )
        return event_service_pb2.ListEventsResponse(
            events=[_event(event) for event in events], next_page_token=next_page_token
        )


def _moment(event_filter: event_service_pb2.ListEventsRequest.Filter, field: _Bound) -> datetime | None:
    """None when it is not set."""
    return from_timestamp(getattr(event_filter, field)) if event_filter.HasField(field) else None


def _event(event: Event) -> event_service_pb2.Event:
    undo = journal.UNDO if event.undo else ""
    return event_service_pb2.Event(
        sequence=event.sequence,
        time=to_timestamp(event.time),
        account_id=event.account_id,
        actor=event.actor,
        type=f"{event.type}/{undo}{event.step}" if event.step else event.type,
        resource_id=event.resource_id,
        operation_id=event.operation_id,
        detail=event.detail,
        region=event.region,
    )


def _error(saga: Saga) -> operation_pb2.OperationError | None:
    if saga.last_error:
        return operation_pb2.OperationError(
            code=grpc.StatusCode.UNAVAILABLE.value[0], message=saga.last_error
        )
    if saga.error is None:
        return None
    return error_of(Refusal.from_bytes(saga.error))


def error_of(refusal: Refusal) -> operation_pb2.OperationError:
    return operation_pb2.OperationError(
        code=refusal.code.value[0],
        reason=refusal.reason,
        message=refusal.message,
        domain=refusal.domain,
        metadata=refusal.metadata,
        violations=[
            *(
                operation_pb2.OperationViolation(type=v.type, subject=v.subject, description=v.description)
                for v in refusal.preconditions
            ),
            *(
                operation_pb2.OperationViolation(type=v.metric, subject=v.subject, description=v.description)
                for v in refusal.quotas
            ),
            *(
                operation_pb2.OperationViolation(
                    type="INVALID_FIELD", subject=f.field, description=f.description
                )
                for f in refusal.fields
            ),
        ],
    )
