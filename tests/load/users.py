"""Users at full speed: each makes a machine, writes, snapshots, spoils, rolls back, looks, and deletes it all, and again.

    python -m tests.load.users '{"addresses": …, "users": 32, "seconds": 600}'

Each user has connections of its own. What is OVERLOADED is tried again after the time that the answer names; any other
error ends the program.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint_cli.addresses import Service
from tests.load.answers import Answer
from tests.load.children import arguments, say
from tests.support.main_job import MainJob

_CALL_SECONDS = 60.0
_OWN_CONNECTIONS = [("grpc.use_local_subchannel_pool", 1)]


class Counts:
    """Of all users: how often each method was answered how, and how many rounds were done."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.rounds = 0
        self.broken_streams = 0

    def answered(self, method: str, code: str) -> None:
        with self._guard:
            self.answers[f"{method.rpartition('/')[2]} {code}"] += 1

    def round_done(self) -> None:
        with self._guard:
            self.rounds += 1


class _Persistent(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Gives every call a deadline and counts its answer; what is OVERLOADED waits and is tried again."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        while True:
            call = continuation(client_call_details._replace(timeout=_CALL_SECONDS), request)
            answer = Answer.of(call)
            self._counts.answered(client_call_details.method, answer.named)
            if not answer.is_overloaded:
                return call
            time.sleep(answer.retry_after_seconds)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._counted(client_call_details, continuation, request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._counted(client_call_details, continuation, request_iterator)

    def _counted(self, details: Any, continuation: Any, request: Any) -> Any:
        call = continuation(details._replace(timeout=_CALL_SECONDS), request)
        call.add_done_callback(lambda ended: self._counts.answered(details.method, Answer.of(ended).named))
        return call


def use(addresses: Mapping[Service, str], counts: Counts, until: float) -> None:
    persistent = _Persistent(counts)
    channels = {
        service: grpc.intercept_channel(
            grpc.insecure_channel(addresses[service], options=_OWN_CONNECTIONS), persistent
        )
        for service in Service
    }
    job = MainJob(channels, patience_seconds=0)
    while time.monotonic() < until:
        _one_round(job)
        counts.round_done()
    counts.broken_streams += job.broken_streams


def _one_round(job: MainJob) -> None:
    machine = job.make_machine()
    job.fill(machine, "before")
    snapshot = job.take_snapshot(machine)
    job.fill(machine, "after")
    job.all_snapshots()
    job.instances.GetInstance(instance_service_pb2.GetInstanceRequest(instance_id=machine.id))
    job.stop(machine)
    job.roll_back(snapshot.id)
    words = job.words_on(machine)
    assert words == ["before 0", "before 1"], f"{machine} has {words} after its rollback"
    job.delete_snapshot(snapshot.id)
    job.delete_machine(machine)


def main() -> None:
    given = arguments()
    addresses = {Service(name): address for name, address in given["addresses"].items()}
    counts, until = Counts(), time.monotonic() + given["seconds"]
    with ThreadPoolExecutor(given["users"]) as threads:
        done = [threads.submit(use, addresses, counts, until) for _ in range(given["users"])]
        while not all(each.done() for each in done):
            time.sleep(1.0)
            say({"answers": counts.answers.total(), "rounds": counts.rounds})
        for each in done:
            each.result()
    say({"by_answer": counts.answers, "rounds": counts.rounds, "broken_streams": counts.broken_streams})


if __name__ == "__main__":
    main()
