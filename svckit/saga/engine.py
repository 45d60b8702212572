"""The saga engine: drives every accepted saga to its end, whatever dies in between.

The invariant: the saga's row says which steps have certainly ended. Everything else follows from it. A worker that takes
a saga over, after a crash, a pause or a failed try, repeats the step the row names, with the same key, and the
participants make a repeated step harmless. The laws of design.md §6 are named where they are kept.
"""

import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy.orm import Session

from svckit.caller import Caller
from svckit.calls import Unanswered
from svckit.clock import utc_now
from svckit.database import Database, DatabaseAway, DatabaseFull, DatabaseUnusable
from svckit.errors import DependencyUnavailable, OperationAbandoned, OperationEnded, Refusal
from svckit.saga import journal, requests
from svckit.saga.definition import More, Run, SagaDefinition
from svckit.saga.instruments import SagaInstruments
from svckit.saga.journal import Saga, SagaState
from svckit.saga.notices import Notices
from svckit.saga.room import Room
from svckit.telemetry.pools import Pool

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_LOOK_AROUND_SECONDS = 1.0

ABANDON = "abandon_operation"
"""The type of what the log says of it, here and at every service that held something."""

_log = structlog.get_logger()


class SagaEngine:
    """Runs the sagas of one service. `operation_prefix` is like `op-s`; `lease_seconds` is how long after a crash another
    worker, of any replica, takes a saga over. Clients may begin no more while this process holds `admitted` of them, or
    `unfinished` have not come to rest in all replicas.
    """

    def __init__(
        self,
        database: Database,
        definitions: Sequence[SagaDefinition],
        *,
        operation_prefix: str,
        region: str,
        workers: int,
        lease_seconds: float,
        admitted: int = 512,
        unfinished: int = 10_000,
        instruments: SagaInstruments | None = None,
    ) -> None:
        self.database = database
        self.operation_prefix = operation_prefix
        self.region = region
        self.notices = Notices()
        self._definitions = {definition.kind: definition for definition in definitions}
        self._instruments = instruments or SagaInstruments(CollectorRegistry())
        self._instruments.expect(definitions)
        self._lease = timedelta(seconds=lease_seconds)
        self._look_around_seconds = min(_LOOK_AROUND_SECONDS, lease_seconds / 3)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="saga")
        self._process = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._claim_numbers = itertools.count()
        self._guard = threading.Lock()
        self._driving: dict[str, tuple[Saga, float]] = {}
        """What this process holds, and when its claim was last written."""
        self.room = Room(
            database, region, lambda: len(self._driving), admitted=admitted, unfinished=unfinished
        )
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lookout = threading.Thread(target=self._look_out, name="saga-lookout", daemon=True)

    # Accepting

    def accept(
        self,
        session: Session,
        kind: str,
        *,
        operation_id: str,
        caller: Caller,
        resource_id: str,
        arguments: Mapping[str, Any],
    ) -> Saga:
        """Write a new saga in the caller's transaction, beside the resource's row and the idempotency row (law 1). It is
        claimed by this process from the start; hand it to `begin` after the commit.
        """
        definition = self._definitions[kind]
        now = utc_now()
        values: dict[str, Any] = {
            "id": operation_id,
            "kind": kind,
            "account_id": caller.account_id,
            "region": self.region,
            "actor": caller.subject,
            "resource_id": resource_id,
            "state": SagaState.RUNNING,
            "step": 0,
            "past_pivot": False,
            "attempts": 0,
            "input": dict(arguments),
            "data": {},
            "answer": None,
            "error": None,
            "last_error": "",
            "deadline": now + timedelta(seconds=definition.deadline_seconds)
            if definition.deadline_seconds
            else None,
            "due_at": now + self._lease,
            "owner": self._new_owner(),
            "create_time": now,
            "update_time": now,
            "end_time": None,
        }
        journal.add_saga(session, values)
        saga = Saga(**values)
        self._note(session, saga, "accepted")
        return saga

    def begin(self, saga: Saga) -> None:
        """Drive an accepted saga now. Without this, or after a crash before it, the lookout finds it when its claim has
        run out.
        """
        with self._guard:
            if not self._stopping.is_set():
                self._driving[saga.id] = (saga, time.monotonic())
                self._pool.submit(self._instruments.context_of(saga.id).run, self._drive, saga)
                return
        self._hand_over(saga)

    def step_name(self, saga: Saga) -> str:
        """The step that runs, or is being undone."""
        return self._definitions[saga.kind].steps[saga.step].name

    @property
    def kinds(self) -> Sequence[str]:
        return list(self._definitions)

    @property
    def workers(self) -> Pool:
        return Pool("saga_workers", self._workers, lambda: len(self._driving))

    # Running

    def start(self) -> None:
        self._lookout.start()

    def stop(self) -> None:
        """Let every running step end, and give the rest up for others to take over at once."""
        with self._guard:
            self._stopping.set()
        self._wake.set()
        if self._lookout.is_alive():
            self._lookout.join()
        self._pool.shutdown(wait=True)

    def wake(self) -> None:
        """Look for due sagas now."""
        self._wake.set()

    def _look_out(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                # First what is held: after a pause of the whole process it would else be taken from its own worker.
                self._renew_claims()
                pause = self._take_over_due()
                pause = min(pause, self.notices.look_elsewhere(self.database))
                self.room.count()
            except DatabaseUnusable as why:
                _log.warning("saga lookout: the database is away, or full", error=str(why))
                self.notices.publish_all()
                pause = _LOOK_AROUND_SECONDS
            except Exception:  # noqa: BLE001 - whatever is due stays due
                _log.exception("saga lookout failed")
                self.notices.publish_all()
                pause = _LOOK_AROUND_SECONDS
            # A claim is renewed when a third of its lease has gone, and looked at twice before it runs out.
            self._wake.wait(min(pause, self._look_around_seconds))

    def _take_over_due(self) -> float:
        """Claim what is due as far as workers are free; returns how many seconds to wait before looking again."""
        with self._guard:
            free = self._workers - len(self._driving)
        if free <= 0:
            return _FIRST_PAUSE_SECONDS
        with self.database.read() as session:
            due = journal.next_due(session, self.region)
        now = utc_now()
        if due is None or due > now:
            wait = (due - now).total_seconds() if due else _LOOK_AROUND_SECONDS
            return min(wait, _LOOK_AROUND_SECONDS)
        with self.database.write() as session:
            now = utc_now()
            claimed = journal.claim_due(
                session,
                region=self.region,
                owner=self._new_owner(),
                now=now,
                until=now + self._lease,
                limit=free,
            )
        for saga in claimed:
            self.begin(saga)
        return 0 if claimed else _FIRST_PAUSE_SECONDS

    def _renew_claims(self) -> None:
        """A step that runs long keeps its claim (law 7)."""
        stale_before = time.monotonic() - self._lease.total_seconds() / 3
        with self._guard:
            stale = [saga for saga, written in self._driving.values() if written < stale_before]
        if not stale:
            return
        with self.database.write() as session:
            journal.renew(
                session, claims=[(saga.id, saga.owner) for saga in stale], until=utc_now() + self._lease
            )
        for saga in stale:
            self._claim_written(saga)

    def _drive(self, saga: Saga) -> None:
        with self._instruments.driving(saga):
            try:
                moving = True
                while moving and not self._stopping.is_set():
                    moving = self._move(saga)
                if moving:
                    self._hand_over(saga)
            except journal.Fenced:
                _log.info("saga taken over by another worker")
            except DatabaseUnusable as why:
                _log.warning("saga interrupted: the database is away, or full", error=str(why))
            except Exception:  # noqa: BLE001 - the row was not written, so it is still right: the claim runs out, the step is tried again
                _log.exception("saga interrupted")
            finally:
                with self._guard:
                    held = self._driving.get(saga.id)
                    all_busy = len(self._driving) >= self._workers
                    if held is not None and held[0] is saga:
                        del self._driving[saga.id]
                # There is something new to look for: another time when this one is due, or a worker for one that waits.
                if all_busy or saga.due_at is not None:
                    self._wake.set()

    def _move(self, saga: Saga) -> bool:
        """One step, forwards or backwards; True while there is more to do now."""
        step = self.step_name(saga) if saga.kind in self._definitions else ""
        with self._instruments.trying(saga, step):
            try:
                return self._advance(saga) if saga.state == SagaState.RUNNING else self._retreat(saga)
            except journal.Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - the commit failed, for one in the step's `record`: counted and visible
                return self._try_later(saga, error)

    # Forwards

    def _advance(self, saga: Saga) -> bool:
        """Do the step that the row names; True while there is more to do now."""
        definition = self._definitions[saga.kind]
        step = definition.steps[saga.step]
        run = saga.run()
        if _is_too_late(saga):
            why = f"{saga.kind} was not past {step.name} in time"
            if saga.last_error:
                why += f": {saga.last_error}"
            return self._turn_back(saga, DependencyUnavailable(saga.id, why))
        try:
            result = step.do(run)
        except Refusal as refusal:
            if not saga.past_pivot:
                return self._turn_back(saga, refusal)
            # Law 9: past the pivot no participant may refuse for a state. If one does, it is tried again, in sight.
            return self._try_later(saga, refusal)
        except Exception as error:  # noqa: BLE001 - law 2: what is no definite no is unknown, a programming error too
            return self._try_later(saga, error)
        if isinstance(result, More):
            return self._go_on(saga, result)

        run = saga.run(result)
        is_last = saga.step + 1 == len(definition.steps)
        values: dict[str, Any] = {
            "step": saga.step if is_last else saga.step + 1,
            "data": dict(run.data),
            "past_pivot": saga.past_pivot or step.pivot,
            "deadline": None if step.lifts_deadline else saga.deadline,
            "attempts": 0,
            "last_error": "",
        }
        if is_last:
            values |= _at_rest(SagaState.SUCCEEDED)

        def effects(session: Session) -> None:
            if step.record is not None:
                step.record(session, run)
            if step.answer is not None:
                values["answer"] = step.answer(session, run).SerializeToString()
            self._note(session, saga, step.name, attempt=saga.attempts + 1)
            if is_last:
                self._note(session, saga, "succeeded")

        # Law 3: the commit that ends one step begins the next.
        self._write(saga, values, effects)
        return not is_last

    def _go_on(self, saga: Saga, more: More) -> bool:
        """Keep what a slice of the step has come to; True while the next slice is to be done now.

        Where no worker is free it is done later: whoever waits for one must wait for a slice, not for hours.
        """
        values: dict[str, Any] = {
            "data": {**saga.data, **more.data, "progress": asdict(more.progress)},
            "attempts": 0,
            "last_error": "",
        }
        with self._guard:
            lets_go = more.pause_seconds > 0 or len(self._driving) >= self._workers
        if lets_go:
            values |= {"due_at": utc_now() + timedelta(seconds=more.pause_seconds), "owner": ""}
        self._write(saga, values)
        return not lets_go

    # Backwards

    def _turn_back(self, saga: Saga, refusal: Refusal) -> bool:
        """Law 4: the change of direction is a fenced write before the first undo; the step in flight is undone too,
        because an earlier try of it may have taken effect.
        """

        def effects(session: Session) -> None:
            self._note(session, saga, "turned_back", detail=refusal.message)

        self._write(
            saga,
            {
                "state": SagaState.COMPENSATING,
                "error": refusal.to_status().SerializeToString(),
                "attempts": 0,
                "last_error": "",
            },
            effects,
        )
        return True

    def _retreat(self, saga: Saga) -> bool:
        """Undo the step that the row names; True while there is more to undo now."""
        definition = self._definitions[saga.kind]
        step = definition.steps[saga.step]
        run = saga.run()
        if step.undo is not None:
            try:
                step.undo(run)
            except Exception as error:  # noqa: BLE001 - law 6: compensations are tried until they succeed
                return self._try_later(saga, error)
        is_last = saga.step == 0
        values: dict[str, Any] = {"step": max(saga.step - 1, 0), "attempts": 0, "last_error": ""}
        if is_last:
            values |= _at_rest(SagaState.FAILED)

        def effects(session: Session) -> None:
            if step.undo is not None:
                self._note(session, saga, step.name, undo=True, attempt=saga.attempts + 1)
            if is_last:
                self._fail(session, saga, definition, run)

        self._write(saga, values, effects)
        return not is_last

    def _fail(self, session: Session, saga: Saga, definition: SagaDefinition, run: Run) -> None:
        assert saga.error is not None
        definition.failed(session, run, Refusal.from_bytes(saga.error))
        if saga.answer is None:
            # A refusal is not remembered: the same request_id may be tried again.
            requests.forget(session, saga.id)
        self._note(session, saga, "failed")

    # Abandoning

    def abandon(self, saga_id: str, *, actor: str, why: str, once_taken: Callable[[], None]) -> None:
        """End a saga where it stands, whoever drives it and whatever it waits for (law 10). Raises OperationEnded when it has
        come to rest by itself; one that was abandoned before is left alone.

        Its worker, in this process or another, is fenced by the first commit. It may be in the middle of a step all the same:
        `once_taken` makes void what that does outside this service's saga rows, and may come twice. A death in between leaves a saga that is driven again
        when our claim has run out, and whose steps are refused. Two who abandon at once fence each other: the slower one begins
        again, and finds that it is done.
        """
        while True:
            with self.database.write() as session:
                saga = journal.take(
                    session,
                    saga_id,
                    region=self.region,
                    owner=self._new_owner(),
                    until=utc_now() + self._lease,
                )
                state = saga.state if saga else self._rest_of(session, saga_id)
            if saga is None:
                if state != SagaState.ABANDONED:
                    raise OperationEnded(saga_id)
                return
            try:
                once_taken()
                self._abandon(saga, actor, why)
            except journal.Fenced:
                continue
            return

    def _rest_of(self, session: Session, saga_id: str) -> SagaState | None:
        found = journal.find(session, saga_id, region=self.region)
        return found.state if found else None

    def _abandon(self, saga: Saga, actor: str, why: str) -> None:
        definition = self._definitions[saga.kind]
        where = self.step_name(saga)
        if saga.state == SagaState.COMPENSATING:
            where = f"the undo of {where}"
        refusal = OperationAbandoned(saga.id, actor, where, why)
        run = saga.run()

        def effects(session: Session) -> None:
            if definition.abandoned is not None:
                definition.abandoned(session, run, refusal, self.step_name(saga))
            else:
                definition.failed(session, run, refusal)
            journal.add_event(
                session,
                account_id=saga.account_id,
                region=saga.region,
                actor=actor,
                type=ABANDON,
                resource_id=saga.resource_id,
                operation_id=saga.id,
                step="abandoned",
                detail=f"at {where}: {why}",
            )

        # Not as the saga's driver: what this process notes of that is its worker's, who learns that it is fenced.
        self._commit(
            saga,
            {
                **_at_rest(SagaState.ABANDONED),
                "error": refusal.to_status().SerializeToString(),
                "last_error": "",
            },
            effects,
        )
        self._instruments.note_end(saga)

    # Writing

    def _try_later(self, saga: Saga, error: Exception) -> bool:
        # No more doublings than a float can take: a saga may be tried for days.
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(saga.attempts, 10), _LONGEST_PAUSE_SECONDS)
        pause *= random.uniform(0.75, 1.25)
        due_at = utc_now() + timedelta(seconds=pause)
        if not saga.past_pivot and saga.state == SagaState.RUNNING and saga.deadline is not None:
            due_at = min(due_at, max(saga.deadline, utc_now()))
        incident_id, told = _told(error)
        self._write(
            saga,
            {
                "attempts": saga.attempts + 1,
                "last_error": told,
                "due_at": due_at,
                "owner": "",
            },
        )
        # Once it is written: of who was fenced meanwhile it is no fault that the rows are not what its step had left.
        if incident_id:
            _log.error("unforeseen error in a saga", incident_id=incident_id, exc_info=error)
        _log.warning("saga step will be tried again", step=saga.step, attempts=saga.attempts, error=told)
        return False

    def _hand_over(self, saga: Saga) -> None:
        """For another worker to take up at once, rather than when the claim has run out."""
        self._write(saga, {"due_at": utc_now(), "owner": ""})

    def _write(
        self, saga: Saga, values: dict[str, Any], effects: Callable[[Session], None] | None = None
    ) -> None:
        self._commit(saga, values, effects)
        self._claim_written(saga)

    def _commit(
        self, saga: Saga, values: dict[str, Any], effects: Callable[[Session], None] | None = None
    ) -> None:
        """Commit `effects` and `values` under the claim, then let the object in hand say what the row says."""
        with self.database.write() as session:
            now = (
                utc_now()
            )  # here: who waited for the database would else begin with a lease that has run out
            values.setdefault("due_at", now + self._lease)
            values["update_time"] = now
            if effects is not None:
                effects(session)
            journal.update_claimed(session, saga, values)
        for name, value in values.items():
            setattr(saga, name, value)
        self.notices.publish(saga.id, now)

    def _note(
        self,
        session: Session,
        saga: Saga,
        step: str,
        *,
        undo: bool = False,
        attempt: int = 1,
        detail: str = "",
    ) -> None:
        """Law 8: each step leaves a row in the log."""
        journal.add_event(
            session,
            account_id=saga.account_id,
            region=saga.region,
            actor=saga.actor,
            type=saga.kind,
            resource_id=saga.resource_id,
            operation_id=saga.id,
            step=step,
            undo=undo,
            attempt=attempt,
            detail=detail,
        )

    def _claim_written(self, saga: Saga) -> None:
        with self._guard:
            if saga.id in self._driving:
                self._driving[saga.id] = (saga, time.monotonic())

    def _new_owner(self) -> str:
        """A token per claim, not per process: a worker of this process that slept through its claim is fenced from the
        next claim, also when that is this process's again.
        """
        return f"{self._process}-{next(self._claim_numbers)}"


def _is_too_late(saga: Saga) -> bool:
    return not saga.past_pivot and saga.deadline is not None and utc_now() > saga.deadline


def _at_rest(state: SagaState) -> dict[str, Any]:
    return {"state": state, "due_at": None, "owner": "", "end_time": utc_now()}


def _told(error: Exception) -> tuple[str, str]:
    """What whoever asks for the saga may read. Of an error that nobody foresaw that is the id of an incident, which comes
    first and is else empty; its text stays in the log (design.md §7).
    """
    if isinstance(error, Refusal | Unanswered):
        return "", str(error)
    if isinstance(error, DatabaseAway):
        return "", "the service's own database did not answer"
    if isinstance(error, DatabaseFull):
        return "", "the service's own database had no room"
    incident_id = str(uuid.uuid4())
    return incident_id, f"internal error; the service's log has it as incident {incident_id}"
