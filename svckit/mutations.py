"""How a mutation is accepted, once, and answered: directly, or when its saga has come to its answer."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from svckit.caller import Caller, acting_as, current_caller
from svckit.errors import DependencyUnavailable, Refusal
from svckit.ids import new_id
from svckit.saga import SagaEngine, journal, requests
from svckit.saga.journal import UNFINISHED, Saga, SagaState
from svckit.saga.notices import wait

_COMPENSATION_PATIENCE_SECONDS = 2.0

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class SagaStart:
    """What a use case wants begun: the saga's kind, the resource it works on, its arguments (JSON)."""

    kind: str
    resource_id: str
    arguments: Mapping[str, Any]


Admission = Callable[[Session, str], SagaStart]
"""Given the operation's id, writes the resource's rows, and refuses by raising."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item of a batch: its operation has answered when `refusal` is None. `operation_id` is empty when
    it was refused at admission.
    """

    item: str
    operation_id: str
    refusal: Refusal | None


class Mutations:
    """The door of every mutation of one service. A saga that has no answer after `answer_seconds` goes on without its
    client.
    """

    def __init__(self, engine: SagaEngine, *, answer_seconds: float = 60.0) -> None:
        self._engine = engine
        self._answer_seconds = answer_seconds
        self._database = engine.database

    def direct(
        self,
        request: Message,
        resource_id: str,
        change: Callable[[Session], Response],
        response: type[Response],
    ) -> Response:
        """A mutation of this service's rows only: effect, log, idempotency row and answer in one transaction. The answer
        is durable before it is given.
        """
        caller = current_caller()
        with self._database.write() as session:
            earlier = requests.remember(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                request=request,
                operation_id="",
            )
            if earlier is not None:
                assert earlier.answer is not None  # written by the transaction that wrote the row
                return response.FromString(earlier.answer)
            answer = change(session)
            requests.keep_answer(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                request=request,
                answer=answer.SerializeToString(),
            )
            journal.add_event(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                actor=caller.subject,
                type=_event_type(request),
                resource_id=resource_id,
            )
        return answer

    async def saga(
        self, request: Message, admit: Callable[[Session, str], SagaStart], response: type[Response]
    ) -> Response:
        """A mutation that is a saga. `admit(session, operation_id)` writes the resource's rows and refuses by raising;
        the answer comes from the saga's answering step, or is the refusal that turned it back.

        Holds no thread while it waits. A client that goes away stops nothing that was accepted.
        """
        self._engine.room.must_be_left()
        operation_id = new_id(self._engine.operation_prefix)
        with self._engine.notices.subscribe(operation_id) as changed:
            accepted_id = await asyncio.to_thread(
                self._accept, request, operation_id, admit, current_caller()
            )
            if accepted_id == operation_id:
                return response.FromString(await self._answer(operation_id, changed, look_first=False))
        with self._engine.notices.subscribe(accepted_id) as changed:
            return response.FromString(await self._answer(accepted_id, changed, look_first=True))

    @contextmanager
    def unasked(self, caller: Caller) -> Iterator[tuple[Session, Callable[[Admission], str]]]:
        """One transaction in which the service begins sagas by itself, as `caller`: for nobody's request, so that nobody
        waits for their answers. Gives the session, and what accepts a saga in it and returns its operation's id; they run
        when the transaction has committed, and none does when it is refused.
        """
        sagas: list[Saga] = []
        with acting_as(caller), self._database.write() as session:

            def begin(admit: Admission) -> str:
                operation_id = new_id(self._engine.operation_prefix)
                start = admit(session, operation_id)
                sagas.append(self._accept_start(session, operation_id, start, caller))
                return operation_id

            yield session, begin
        for saga in sagas:
            self._engine.begin(saga)

    async def batch(
        self,
        request: Message,
        items: Sequence[str],
        admit: Callable[[Session, str, str], SagaStart],
    ) -> list[Outcome]:
        """A mutation that is a saga for each of several items. `admit(session, operation_id, item)` is as in `saga`, and
        refuses before it has written anything; an item that is refused does not keep the others.

        What became of each at admission is kept as the request's answer, in the transaction that admitted them; what
        became of it after that is in its saga's row. So a repetition finds both, and says the same.
        """
        self._engine.room.must_be_left()
        admitted = await asyncio.to_thread(self._accept_batch, request, items, admit, current_caller())
        return await asyncio.gather(*(self._outcome(*each) for each in admitted))

    def _accept_batch(
        self,
        request: Message,
        items: Sequence[str],
        admit: Callable[[Session, str, str], SagaStart],
        caller: Caller,
    ) -> list[tuple[str, str, str]]:
        """Of each item the operation's id, or the refusal as hexadecimal bytes."""
        found: dict[str, tuple[str, str, str]] = {}
        sagas: list[Saga] = []
        with self._database.write() as session:
            earlier = requests.remember(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                request=request,
                operation_id="",
            )
            if earlier is not None:
                assert earlier.answer is not None  # written by the transaction that wrote the row
                return [
                    (item, operation_id, refusal)
                    for item, operation_id, refusal in json.loads(earlier.answer)
                ]
            # In the order of the items, or two batches of the same ones could each wait for a row of the other.
            for item in sorted(items):
                operation_id = new_id(self._engine.operation_prefix)
                try:
                    start = admit(session, operation_id, item)
                except Refusal as refusal:
                    found[item] = (item, "", refusal.to_status().SerializeToString().hex())
                    continue
                found[item] = (item, operation_id, "")
                sagas.append(self._accept_start(session, operation_id, start, caller))
            admitted = [found[item] for item in items]
            requests.keep_answer(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                request=request,
                answer=json.dumps(admitted).encode(),
            )
        for saga in sagas:
            self._engine.begin(saga)
        return admitted

    async def _outcome(self, item: str, operation_id: str, refusal: str) -> Outcome:
        if refusal:
            return Outcome(item, "", Refusal.from_bytes(bytes.fromhex(refusal)))
        try:
            with self._engine.notices.subscribe(operation_id) as changed:
                await self._answer(operation_id, changed, look_first=True)
        except Refusal as turned_back:
            return Outcome(item, operation_id, turned_back)
        return Outcome(item, operation_id, None)

    def _accept(
        self, request: Message, operation_id: str, admit: Callable[[Session, str], SagaStart], caller: Caller
    ) -> str:
        """Law 1: resource row, saga row and idempotency row in one transaction. Returns the id of the operation that
        answers: an earlier one when the request is a repetition.
        """
        with self._database.write() as session:
            earlier = requests.remember(
                session,
                account_id=caller.account_id,
                region=self._engine.region,
                request=request,
                operation_id=operation_id,
            )
            if earlier is not None:
                return earlier.operation_id
            saga = self._accept_start(session, operation_id, admit(session, operation_id), caller)
        self._engine.begin(saga)
        return operation_id

    def _accept_start(self, session: Session, operation_id: str, start: SagaStart, caller: Caller) -> Saga:
        return self._engine.accept(
            session,
            start.kind,
            operation_id=operation_id,
            caller=caller,
            resource_id=start.resource_id,
            arguments=start.arguments,
        )

    async def _answer(self, operation_id: str, changed: asyncio.Event, *, look_first: bool) -> bytes:
        give_up = time.monotonic() + self._answer_seconds
        compensated_by: float | None = None
        if not look_first:
            await wait(changed, self._answer_seconds)
        while True:
            changed.clear()
            answer, state, error = await asyncio.to_thread(self._look, operation_id)
            if answer is not None:
                return answer
            if error is not None:
                # "Nothing is left behind" is truer after the undoing than before it, but an undoing that cannot reach
                # a service must not keep the client waiting.
                compensated_by = compensated_by or time.monotonic() + _COMPENSATION_PATIENCE_SECONDS
                if state not in UNFINISHED or time.monotonic() >= compensated_by:
                    raise Refusal.from_bytes(error)
            if time.monotonic() >= give_up:
                raise DependencyUnavailable(
                    operation_id,
                    f"operation {operation_id} goes on; follow it, or ask again with the same request_id",
                )
            await wait(changed, min(give_up, compensated_by or give_up) - time.monotonic())

    def _look(self, operation_id: str) -> tuple[bytes | None, SagaState, bytes | None]:
        with self._database.read() as session:
            saga = journal.find(session, operation_id, region=self._engine.region)
        assert saga is not None  # its row was committed before anybody could ask
        return saga.answer, saga.state, saga.error


def _event_type(request: Message) -> str:
    """`StartInstanceRequest` is logged as `start_instance`."""
    name = type(request).__name__.removesuffix("Request")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
