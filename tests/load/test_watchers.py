"""A thousand streams that watch operations: each costs a little memory and no thread, and nobody else waits for them."""

import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as snapshot_pb
from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment, addresses_for
from tests.load.children import Child
from tests.load.conftest import Start
from tests.load.processes import look_at
from tests.support.main_job import Machine, MainJob
from tests.support.waiting import eventually

_AWAY = "south"
_STREAMS = 1000
_OPERATIONS = 20
_ROUNDS = 7
_KIB_A_STREAM = 128
_POOLS = 16 + 16
"""Handlers and workers that may not have been started yet."""


class Watched:
    """A deployment with operations that do not end: copies to a region that is away, and is waited for."""

    def __init__(self, start: Start) -> None:
        (nobody,) = addresses_for(1, free_ports=True)
        self.deployment: LocalDeployment = start({"deadline_seconds": "3600"}, peers={_AWAY: nobody})
        addresses = self.deployment.addresses
        self._channels = {service: grpc.insecure_channel(addresses.of(service).public) for service in Service}
        self.job = MainJob(self._channels)
        self.machine: Machine = self.job.make_machine()
        snapshot = self.job.take_snapshot(self.machine)
        self.snapshot_id = snapshot.id
        # They are answered when the other region has begun, which it never will. Kept: who drops a call cancels it.
        self._copies = [
            self.job.snapshots.CopyInstanceSnapshot.future(
                snapshot_pb.CopyInstanceSnapshotRequest(
                    request_id=str(uuid.uuid4()), instance_snapshot_id=snapshot.id, destination_region=_AWAY
                )
            )
            for _ in range(_OPERATIONS)
        ]
        eventually(lambda: len(self.operation_ids()) >= _OPERATIONS, what="the begin of the copies")

    def operation_ids(self) -> list[str]:
        return [operation.id for operation in self.job.unfinished()]

    @property
    def pid(self) -> int:
        return self.deployment.pids[Service.SNAPSHOT]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The streams, each with its first message; in the end all of them still stand."""
        with Child(
            "watchers",
            address=self.deployment.addresses.snapshot.public,
            operation_ids=self.operation_ids()[:_OPERATIONS],
            streams=_STREAMS,
        ) as child:
            begun = child.says()["begun"]
            assert begun == _STREAMS
            yield
            child.tell_to_end()
            ended = child.says()
            assert ended["standing"] == _STREAMS, ended
            assert ended["messages"] >= _STREAMS


@pytest.fixture
def watched_cloud(start: Start) -> Iterator[Watched]:
    cloud = Watched(start)
    yield cloud
    cloud.close()


def test_a_thousand_streams_are_held_without_a_thread_for_each(watched_cloud: Watched):
    before = look_at(watched_cloud.pid)
    with watched_cloud.held():
        during = look_at(watched_cloud.pid)
        request = instance_service_pb2.GetInstanceRequest(instance_id=watched_cloud.machine.id)
        watched_cloud.job.instances.GetInstance(request, timeout=30)
        watched_cloud.job.take_snapshot(watched_cloud.machine)
    assert during.threads <= before.threads + _POOLS
    assert during.memory_mib <= before.memory_mib + _STREAMS * _KIB_A_STREAM / 1024


@pytest.mark.by_hand
@pytest.mark.timeout(600)
def test_a_thousand_streams_leave_the_latency_of_calls_within_a_factor_of_two(watched_cloud: Watched):
    alone: dict[str, list[float]] = defaultdict(list)
    beside: dict[str, list[float]] = defaultdict(list)
    _measure(watched_cloud, defaultdict(list))  # connections and caches
    for _ in range(_ROUNDS):
        _measure(watched_cloud, alone)
        with watched_cloud.held():
            time.sleep(2)  # all have been looked at once more, and are quiet
            _measure(watched_cloud, beside)
    print()
    ratios = {}
    for name, seconds in alone.items():
        for what, of in (("p50", 0.50), ("p99", 0.99)):
            before, after = _quantile(seconds, of), _quantile(beside[name], of)
            ratios[name, what] = after / before
            print(
                f"{name} {what}: {before * 1000:.2f} ms alone, {after * 1000:.2f} ms beside {_STREAMS} streams: "
                f"{after / before:.2f} times ({len(seconds)} calls)"
            )
    assert max(ratios.values()) <= 2, ratios


@pytest.mark.by_hand
@pytest.mark.timeout(300)
def test_services_that_nobody_asks_are_idle(watched_cloud: Watched):
    """Processor seconds of a minute: without clients, and with a thousand streams on operations that are tried again every
    few seconds.
    """
    alone = _processor_seconds(watched_cloud.deployment, 20)
    with watched_cloud.held():
        time.sleep(2)
        beside = _processor_seconds(watched_cloud.deployment, 20)
    for service in Service:
        print(
            f"\n{service}: {alone[service]:.2f} s of a minute, beside {_STREAMS} streams {beside[service]:.2f} s",
            end="",
        )
    print()
    assert max(alone.values()) < 3


def _processor_seconds(deployment: LocalDeployment, seconds: float) -> dict[Service, float]:
    """Of a minute."""
    before = {service: look_at(pid) for service, pid in deployment.pids.items()}
    time.sleep(seconds)
    return {
        service: (look_at(pid).processor_seconds - before[service].processor_seconds) * 60 / seconds
        for service, pid in deployment.pids.items()
    }


def _measure(cloud: Watched, seconds: dict[str, list[float]]) -> None:
    get_instance = instance_service_pb2.GetInstanceRequest(instance_id=cloud.machine.id)
    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "GetInstance": (200, lambda: cloud.job.instances.GetInstance(get_instance)),
        "GetInstanceSnapshot": (200, lambda: cloud.job.snapshot(cloud.snapshot_id)),
    }
    for name, (times, call) in calls.items():
        for _ in range(times):
            seconds[name].append(_seconds_of(call))
    for _ in range(30):
        request = snapshot_pb.CreateInstanceSnapshotRequest(
            request_id=str(uuid.uuid4()), instance_id=cloud.machine.id
        )
        begun = time.perf_counter()
        created = cloud.job.snapshots.CreateInstanceSnapshot(request)
        seconds["CreateInstanceSnapshot"].append(time.perf_counter() - begun)
        cloud.job.follow(Service.SNAPSHOT, created.operation_id)
        seconds["… until AVAILABLE"].append(time.perf_counter() - begun)
        cloud.job.delete_snapshot(created.instance_snapshot.id)


def _seconds_of(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _quantile(values: list[float], of: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(of * 100) - 1]
