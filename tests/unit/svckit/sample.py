"""The world of these tests: a participant that keeps every effect it has, services' rows, and engines to drive sagas.

`Fuse` names each point that a run passes, and ends the engine dead at one of them: nothing it holds is written any more,
as in a process that was killed.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from svckit import barrier
from svckit.abandonment import Hold
from svckit.caller import LOCAL
from svckit.database import Database, table_of
from svckit.errors import Refusal
from svckit.ids import new_id
from svckit.saga import Run, SagaDefinition, SagaEngine, Step, journal, requests
from svckit.saga.instruments import SagaInstruments
from svckit.saga.journal import UNFINISHED, Saga
from svckit.tables import SharedTable
from tests.support.databases import create_tables
from tests.support.waiting import eventually

assert requests.AcceptedRequest.__tablename__ in SharedTable.metadata.tables


class SampleTable(DeclarativeBase):
    """Base of the test's own tables."""


class Effect(SampleTable):
    """What the participant did: +1 for a step's effect, -1 for its undo."""

    __tablename__ = "effects"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    key: Mapped[str]
    change: Mapped[int]


class Fact(SampleTable):
    """What the service wrote in its own rows, by `record`, `answer` and `failed`."""

    __tablename__ = "facts"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    saga_id: Mapped[str]
    fact: Mapped[str]


class Item(SampleTable):
    """A row to list: by a text key, or by a number."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


def prepare(url: str) -> None:
    create_tables(url, SharedTable, SampleTable)


class Participant:
    """Another service: it keeps the barrier, and one row for each effect."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, connections=16)
        self.calls: list[str] = []
        """`do <key>` and `undo <key>`, as they came in, effect or not."""

    def do(self, run: Run, step_name: str) -> bool:
        """True when this call had the effect."""
        key = run.key(step_name)
        self.calls.append(f"do {key}")
        with self.database.write() as session:
            first = barrier.enter(session, key)
            if first:
                session.execute(sa.insert(table_of(Effect)), {"key": key, "change": 1})
        return first

    def undo(self, run: Run, step_name: str) -> None:
        key = run.key(step_name)
        self.calls.append(f"undo {key}")
        with self.database.write() as session:
            if barrier.withdraw(session, key):
                session.execute(sa.insert(table_of(Effect)), {"key": key, "change": -1})

    def changes(self, key: str) -> list[int]:
        with self.database.read() as session:
            query = sa.select(Effect.change).where(Effect.key == key).order_by(Effect.number)
            return list(session.scalars(query))


class Death(BaseException):
    """The engine's process is gone: no except clause of the engine may catch this."""


def _die() -> None:
    raise Death


class Fuse:
    """Passes every point but one. Not armed, it passes and notes nothing."""

    def __init__(self, at: str | None, die: Callable[[], None] = _die) -> None:
        self.armed = False
        self.passed: list[str] = []
        self._at = at
        self._die = die

    def reach(self, point: str) -> None:
        if not self.armed:
            return
        self.passed.append(point)
        if point == self._at:
            self._die()


class MortalDatabase(Database):
    """A database whose client can die before or after a commit."""

    def __init__(self, url: str, *, connections: int, fuse: Fuse) -> None:
        super().__init__(url, connections=connections)
        self._fuse = fuse
        self._commits = itertools.count(1)

    @contextmanager
    def write(self) -> Iterator[Session]:
        number = next(self._commits) if self._fuse.armed else 0
        with super().write() as session:
            yield session
            self._fuse.reach(f"before commit {number}")
        self._fuse.reach(f"after commit {number}")


def fact(text: str) -> Callable[[Session, Run], None]:
    def record(session: Session, run: Run) -> None:
        session.execute(sa.insert(table_of(Fact)), {"saga_id": run.id, "fact": text})

    return record


def failed(session: Session, run: Run, refusal: Refusal) -> None:
    fact(f"failed: {refusal.reason}")(session, run)


def answer(session: Session, run: Run) -> Message:
    """An answer that could not be told twice: it counts the facts of its own transaction."""
    query = sa.select(sa.func.count()).select_from(Fact).where(Fact.saga_id == run.id)
    return StringValue(value=f"{run.id} after {session.scalar(query)} facts")


class World:
    """One database, and what a test starts on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url, connections=16)
        self.participant = Participant(url)
        self._engines: list[SagaEngine] = []
        self._databases = [self.database, self.participant.database]

    def engine(
        self,
        *definitions: SagaDefinition,
        lease_seconds: float = 30.0,
        workers: int = 4,
        database: Database | None = None,
        instruments: SagaInstruments | None = None,
        **limits: int,
    ) -> SagaEngine:
        """An engine with connections of its own, as another process would have. Not started."""
        if database is None:
            database = Database(self.url, connections=workers + 12)
        engine = SagaEngine(
            database,
            definitions,
            operation_prefix="op-t",
            region="here",
            workers=workers,
            lease_seconds=lease_seconds,
            instruments=instruments,
            **limits,
        )
        self._databases.append(database)
        self._engines.append(engine)
        return engine

    def started(self, *definitions: SagaDefinition, **options: Any) -> SagaEngine:
        engine = self.engine(*definitions, **options)
        engine.start()
        return engine

    def latest_engine(self) -> SagaEngine:
        return self._engines[-1]

    def close(self) -> None:
        for engine in self._engines:
            engine.stop()
        for database in self._databases:
            database.dispose()

    def row(self, saga_id: str) -> Saga:
        with self.database.read() as session:
            saga = journal.find(session, saga_id, region="here")
        assert saga is not None
        return saga

    def at_rest(self, saga_id: str, *, within_seconds: float = 15.0) -> Saga:
        def look() -> Saga | None:
            saga = self.row(saga_id)
            return None if saga.state in UNFINISHED else saga

        return eventually(look, within_seconds=within_seconds, what=f"the rest of {saga_id}")

    def tried(self, saga_id: str, times: int = 1) -> Saga:
        """The row once its current step has been tried so often without a definite answer."""

        def look() -> Saga | None:
            saga = self.row(saga_id)
            return saga if saga.attempts >= times else None

        return eventually(look, what=f"try {times} of {saga_id}")

    def change(self, saga_id: str, **values: Any) -> None:
        """Write to a saga's row behind everybody's back."""
        with self.database.write() as session:
            session.execute(sa.update(table_of(Saga)).where(Saga.id == saga_id).values(**values))

    def log(self, saga_id: str) -> list[str]:
        with self.database.read() as session:
            events = journal.steps_of(session, saga_id)
        return [f"undo {event.step}" if event.undo else event.step for event in events]

    def facts(self, saga_id: str) -> list[str]:
        with self.database.read() as session:
            query = sa.select(Fact.fact).where(Fact.saga_id == saga_id).order_by(Fact.number)
            return list(session.scalars(query))


class Held:
    """What the sample service holds for operations: what a test says, until it is let go."""

    def __init__(self) -> None:
        self.by_operation: dict[str, list[Hold]] = {}
        self.calls: list[str] = []
        self.when_let_go: Callable[[], None] = lambda: None

    def held_for(self, _session: Session, operation_id: str) -> list[Hold]:
        return list(self.by_operation.get(operation_id, ()))

    def forestall(self, _session: Session, operation_id: str) -> None:
        self.calls.append(f"forestall {operation_id}")

    def let_go(self, operation_id: str) -> None:
        self.calls.append(f"let go {operation_id}")
        self.when_let_go()
        self.by_operation.pop(operation_id, None)


def accept(engine: SagaEngine, kind: str, arguments: Mapping[str, Any] | None = None, **how: Any) -> Saga:
    """Accept a saga as a use case would; `begin` is another matter."""
    operation_id = how.get("operation_id") or new_id("op-t")
    with engine.database.write() as session:
        return engine.accept(
            session,
            kind,
            operation_id=operation_id,
            caller=how.get("caller", LOCAL),
            resource_id="thing-1",
            arguments=arguments or {},
        )


def begin(engine: SagaEngine, kind: str, arguments: Mapping[str, Any] | None = None) -> str:
    saga = accept(engine, kind, arguments)
    engine.begin(saga)
    return saga.id


def saga_of(*steps: Step, kind: str = "sample", deadline_seconds: float | None = None) -> SagaDefinition:
    return SagaDefinition(kind, steps, failed, deadline_seconds)


def is_quiet(database: Database) -> bool:
    """That a second passes with what a lookout asks, and not what many waiters would."""
    with statements(database) as executed:
        time.sleep(1)
    return len(executed) < 15


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    executed: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        executed.append(statement)

    sa.event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        sa.event.remove(database._engine, "before_cursor_execute", note)


class Gate:
    """A place in a step where it waits for the test."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def wait(self) -> None:
        self._reached.set()
        assert self._opened.wait(30), "nobody opened the gate"

    def reached(self) -> None:
        assert self._reached.wait(15), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()
