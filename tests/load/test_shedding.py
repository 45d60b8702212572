"""More than the services can carry: what is let in is answered, what is not is told at once when to come again, and nothing
is queued without end.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment
from tests.load.answers import OVERLOADED
from tests.load.children import Child
from tests.load.conftest import Start
from tests.load.processes import look_at
from tests.support.main_job import MainJob
from tests.support.waiting import eventually

_BUSY = {"FAILED_PRECONDITION INSTANCE_BUSY", "FAILED_PRECONDITION PRECONDITIONS"}
"""By the snapshot before, of the same instance."""
_DEADLINE = "DEADLINE_EXCEEDED"
_MORE_MEMORY_MIB = 64
_MOMENT_SECONDS = 30.0
"""What the product promises from a request to its moment."""


class Answered:
    """How long each answer took, by its name."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.seconds: dict[str, list[float]] = said["seconds"]
        self.overloaded_without_retry_info: int = said["overloaded_without_retry_info"]

    def p99(self, name: str) -> float:
        of_name = sorted(self.seconds[name])
        return of_name[int(0.99 * (len(of_name) - 1))]

    def told(self) -> str:
        return ", ".join(
            f"{name}: {len(took)}, median {statistics.median(took):.3f} s, p99 {self.p99(name):.3f} s, "
            f"longest {max(took):.3f} s"
            for name, took in self.seconds.items()
        )


@contextmanager
def _client(deployment: LocalDeployment) -> Iterator[MainJob]:
    with (
        grpc.insecure_channel(deployment.addresses.compute.public) as compute,
        grpc.insecure_channel(deployment.addresses.disk.public) as disk,
        grpc.insecure_channel(deployment.addresses.snapshot.public) as snapshot,
    ):
        yield MainJob({Service.COMPUTE: compute, Service.DISK: disk, Service.SNAPSHOT: snapshot})


def _get(instance_id: str) -> instance_service_pb2.GetInstanceRequest:
    return instance_service_pb2.GetInstanceRequest(instance_id=instance_id)


def _median_seconds(job: MainJob, instance_id: str) -> float:
    took = []
    for _ in range(200):
        begun = time.perf_counter()
        job.instances.GetInstance(_get(instance_id))
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


@pytest.mark.parametrize(
    ("admitted", "callers", "seconds", "longest_seconds"),
    [
        pytest.param(16, 256, 3, 10.0, id="a low limit"),
        pytest.param(512, 1536, 20, 1.0, id="the product's own", marks=pytest.mark.by_hand),
    ],
)
def test_a_crowd_beyond_the_limit_is_answered_or_told_at_once_when_to_come_again(
    start: Start, admitted: int, callers: int, seconds: float, longest_seconds: float
):
    deployment = start({"requests_admitted": str(admitted)})
    with _client(deployment) as job:
        machines = [job.make_machine().id for _ in range(callers // 32)]
        before = _median_seconds(job, machines[0])
        memory_before = look_at(deployment.pids[Service.SNAPSHOT]).memory_mib
        with Child("crowd", **_creations(deployment, machines, callers, seconds)) as child:
            answered = Answered(child.says())
        eventually(lambda: not job.unfinished(), within_seconds=60, what="rest")
        after = _median_seconds(job, machines[0])
    memory_after = look_at(deployment.pids[Service.SNAPSHOT]).memory_mib
    print(f"\n{callers} callers, {admitted} admitted: {answered.told()}")
    print(f"alone before {before * 1000:.2f} ms, after {after * 1000:.2f} ms (medians)")
    print(f"memory {memory_before:.1f} MiB before, {memory_after:.1f} MiB after")
    assert {"OK", OVERLOADED} <= answered.seconds.keys() <= {"OK", OVERLOADED, *_BUSY}
    assert answered.overloaded_without_retry_info == 0
    assert answered.p99(OVERLOADED) < longest_seconds
    assert answered.p99("OK") < _MOMENT_SECONDS
    assert memory_after < memory_before + _MORE_MEMORY_MIB


@pytest.mark.by_hand
@pytest.mark.timeout(600)
def test_two_hundred_callers_with_ten_snapshots_each_are_all_served(start: Start):
    deployment = start()
    with _client(deployment) as job:
        machines = [job.make_machine().id for _ in range(200)]
        with (
            _most_unfinished(job) as most,
            Child("crowd", **_creations(deployment, machines, 200, 60)) as child,
        ):
            answered = Answered(child.says())
        print(f"\n200 callers, a minute: {answered.told()}; at most {most[0]} operations unfinished")
        assert answered.seconds.keys() <= {"OK", OVERLOADED, *_BUSY}
        assert len(answered.seconds["OK"]) >= 2000
        eventually(lambda: not job.unfinished(), within_seconds=30, what="rest")


def test_callers_who_give_up_and_ask_again_leave_no_endless_queue_behind(start: Start):
    admitted = 16
    deployment = start({"requests_admitted": str(admitted)})
    with _client(deployment) as job:
        machines = [job.make_machine().id for _ in range(8)]
        crowd = _creations(deployment, machines, 64, 4) | {"patience_seconds": 0.05}
        with _most_unfinished(job) as most, Child("crowd", **crowd) as child:
            answered = Answered(child.says())
        print(f"\n64 callers who wait 0.05 s: {answered.told()}; at most {most[0]} operations unfinished")
        assert answered.seconds.keys() <= {"OK", OVERLOADED, _DEADLINE, *_BUSY}
        # Each thread may have looked for room before another one took it.
        assert most[0] <= admitted + 16
        eventually(lambda: not job.unfinished(), within_seconds=30, what="rest")


def _creations(
    deployment: LocalDeployment, instance_ids: list[str], callers: int, seconds: float
) -> dict[str, Any]:
    return {
        "address": deployment.addresses.snapshot.public,
        "instance_ids": instance_ids,
        "callers": callers,
        "seconds": seconds,
    }


@contextmanager
def _most_unfinished(job: MainJob) -> Iterator[list[int]]:
    """The most that was seen at once until the block ends."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            # It is one of the crowd, and may be turned away too.
            with suppress(grpc.RpcError):
                most[0] = max(most[0], len(job.unfinished()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
