"""Clients in processes of their own that race for the last slots of a disk. What they tell goes back as plain values."""

import multiprocessing.synchronize
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_status import rpc_status

from stillpoint.disk.v1 import disk_snapshot_service_pb2, disk_snapshot_service_pb2_grpc
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2, instance_snapshot_service_pb2_grpc
from svckit.errors import Refusal

BUSY = {"DISK_BUSY", "INSTANCE_BUSY"}
_CALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Race:
    """For the slots of one disk. `disk_svc` and `snapshot_svc` are addresses."""

    disk_svc: str
    snapshot_svc: str
    disk_id: str
    instance_id: str
    give_up_after_seconds: float


_everybody_is_here: "multiprocessing.synchronize.Barrier"


def meet_at(barrier: "multiprocessing.synchronize.Barrier") -> None:
    """Where this process waits for the others before its clients start."""
    global _everybody_is_here  # noqa: PLW0603 - a barrier reaches a process of a pool only while that is started
    _everybody_is_here = barrier


@dataclass(slots=True)
class Finish:
    """How one client's race ended: with an operation that takes its snapshot, or turned away."""

    operation_id: str = ""
    refusal: str = ""
    full: list[tuple[str, int, str]] = field(default_factory=list)
    """Subject, limit and sentence of each full disk."""
    times_busy: int = 0


def run_clients(race: Race, *, for_the_disk: int, for_the_instance: int) -> list[Finish]:
    """So many clients at once, each trying again while somebody else is in its way."""
    count = for_the_disk + for_the_instance
    with (
        grpc.insecure_channel(race.disk_svc) as disk,
        grpc.insecure_channel(race.snapshot_svc) as snapshot,
        ThreadPoolExecutor(count) as threads,
    ):
        disks = disk_snapshot_service_pb2_grpc.DiskSnapshotServiceStub(disk)
        wholes = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(snapshot)

        def of_the_disk() -> str:
            request = disk_snapshot_service_pb2.CreateDiskSnapshotRequest(
                request_id=str(uuid.uuid4()), disk_id=race.disk_id, name="contract-race"
            )
            return disks.CreateDiskSnapshot(request, timeout=_CALL_SECONDS).operation_id

        def of_the_instance() -> str:
            request = instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=str(uuid.uuid4()), instance_id=race.instance_id, name="contract-race"
            )
            return wholes.CreateInstanceSnapshot(request, timeout=_CALL_SECONDS).operation_id

        def run(number: int) -> Finish:
            create = of_the_disk if number < for_the_disk else of_the_instance
            finish = Finish()
            give_up = time.monotonic() + race.give_up_after_seconds
            while time.monotonic() < give_up:
                try:
                    finish.operation_id = create()
                except grpc.RpcError as error:
                    refusal = _refusal_of(error)
                    blocking = {violation.type for violation in refusal.preconditions}
                    if not blocking or blocking - BUSY:
                        finish.refusal = refusal.reason
                        finish.full = [
                            (each.subject, each.limit, each.description) for each in refusal.quotas
                        ]
                        return finish
                    finish.times_busy += 1
                    time.sleep(random.uniform(0, 0.05))  # what 64 clients do at once, they would do for ever
                else:
                    return finish
            finish.refusal = "none in time"
            return finish

        _everybody_is_here.wait(_CALL_SECONDS)
        return list(threads.map(run, range(count)))


def _refusal_of(error: grpc.RpcError) -> Refusal:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # what a stub raises is a Call too
    refusal = Refusal.from_status(status) if status is not None else None
    if refusal is None:
        raise error
    return refusal
