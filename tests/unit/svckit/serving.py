"""A service as a program, for the tests that signal it: `python -m tests.unit.svckit.serving`.

GetOperation, and the first step of the saga, say so in a file and wait for the test to make another one. The step ends only
when the engine stops.
"""

import sys
import threading
from pathlib import Path
from typing import Any

from stillpoint.operation.v1 import operation_pb2
from stillpoint.operation.v1.operation_service_pb2 import GetOperationRequest, GetOperationResponse
from svckit.abandonment import Abandonment
from svckit.database import Database
from svckit.logs import configure_logging
from svckit.operations import OperationServicer, registrations
from svckit.saga import SagaEngine, Step
from svckit.server import Registration, run_service
from svckit.settings import ServiceSettings
from tests.support.waiting import eventually
from tests.unit.svckit.sample import Held, accept, saga_of


def _meet(folder: Path, name: str) -> None:
    (folder / f"{name}-reached").touch()
    eventually((folder / f"{name}-go-on").exists, within_seconds=30)


def _first_step(folder: Path) -> None:
    _meet(folder, "step")
    eventually(
        lambda: all(thread.name != "saga-lookout" for thread in threading.enumerate()), within_seconds=30
    )


class _Slow(OperationServicer):
    folder: Path

    def GetOperation(self, request: GetOperationRequest, context: Any) -> GetOperationResponse:
        _meet(self.folder, "request")
        return GetOperationResponse(operation=operation_pb2.Operation(id=request.operation_id))


def main(url: str, folder: Path, port: int, internal_port: int, saga_id: str) -> None:
    configure_logging(service="sample", level="info", form="json")
    settings = ServiceSettings(
        database_url=url,
        public_address=f"127.0.0.1:{port}",
        internal_address=f"127.0.0.1:{internal_port}",
        shutdown_grace_seconds=20,
        saga_lease_seconds=300,
    )
    definition = saga_of(Step("a", do=lambda _: _first_step(folder)), Step("b", pivot=True))
    engine = SagaEngine(
        Database(url, connections=settings.database_connections),
        [definition],
        operation_prefix="op-t",
        region="here",
        workers=2,
        lease_seconds=settings.saga_lease_seconds,
    )
    slow = _Slow(engine, Abandonment(engine, Held()))
    slow.folder = folder
    operations, events = registrations(engine, Held())
    engine.begin(accept(engine, "sample", operation_id=saga_id))
    run_service(
        settings,
        engine,
        public=[Registration(operations.add, slow, operations.descriptor), events],
        internal=[],
        close=(folder / "closed").touch,
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
