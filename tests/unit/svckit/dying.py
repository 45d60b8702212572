"""The sample saga of the crash tests; run as a program, an engine that kills its own process at a named point."""

import os
import signal
import sys
import threading
from collections.abc import Callable

import grpc

from svckit.caller import LOCAL
from svckit.calls import Unanswered
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, SagaEngine, Step
from tests.unit.svckit.sample import Fuse, MortalDatabase, Participant, answer, fact, failed

SAMPLE_STEPS = ("reserve", "cut", "seal", "finish")


class Full(Refusal):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "FULL"
    domain = "test.stillpoint"


def sample_definition(participant: Participant, fuse: Fuse) -> SagaDefinition:
    def do(name: str) -> Callable[[Run], None]:
        def call(run: Run) -> None:
            fuse.reach(f"before do {name}")
            if run.input["scenario"] == "refused" and name == "seal":
                raise Full("no room")
            first = participant.do(run, name)
            fuse.reach(f"after do {name}")
            if run.input["scenario"] == "lost answer" and name == "cut" and first:
                raise Unanswered("the answer was lost")

        return call

    def undo(name: str) -> Callable[[Run], None]:
        def call(run: Run) -> None:
            fuse.reach(f"before undo {name}")
            participant.undo(run, name)
            fuse.reach(f"after undo {name}")

        return call

    return SagaDefinition(
        "sample",
        (
            Step("reserve", do("reserve"), undo("reserve"), record=fact("reserved")),
            Step("cut", do("cut"), undo("cut"), record=fact("cut"), answer=answer),
            Step("seal", do("seal"), undo("seal")),
            Step("commit", pivot=True),
            Step("finish", do("finish"), record=fact("finished")),
        ),
        failed,
    )


def accept_on(engine: SagaEngine, fuse: Fuse, operation_id: str, scenario: str) -> str:
    """Accept, and only then let the fuse burn."""
    with engine.database.write() as session:
        saga = engine.accept(
            session,
            "sample",
            operation_id=operation_id,
            caller=LOCAL,
            resource_id="thing-1",
            arguments={"scenario": scenario},
        )
    fuse.armed = True
    engine.begin(saga)
    return operation_id


def main(url: str, operation_id: str, scenario: str, point: str) -> None:
    fuse = Fuse(at=point, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    database = MortalDatabase(url, connections=4, fuse=fuse)
    engine = SagaEngine(
        database,
        [sample_definition(Participant(url), fuse)],
        operation_prefix="op-t",
        region="here",
        workers=1,
        lease_seconds=0.05,
    )
    accept_on(engine, fuse, operation_id, scenario)
    threading.Event().wait(30)
    sys.exit(f"the saga never passed {point!r}: {fuse.passed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
