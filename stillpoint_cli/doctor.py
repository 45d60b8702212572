"""Checks across the three services what must hold whenever nothing is in progress.

The services share no transaction, so one look proves nothing: a lease that is listed here may be released before its
operation is asked for there. Hence two rules. What a live operation holds is in progress, not a fault. And what looks
wrong is looked at again, a little later; only what every look has found is called a fault. No look keeps more than a
page and its suspicions in memory.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.compute.v1 import participant_service_pb2 as compute_pb2
from stillpoint.compute.v1.participant_service_pb2_grpc import (
    ParticipantServiceStub as ComputeParticipantStub,
)
from stillpoint.disk.v1 import participant_service_pb2 as disk_pb2
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.disk.v1.disk_snapshot_service_pb2 import GetDiskSnapshotRequest, ListDiskSnapshotsRequest
from stillpoint.disk.v1.disk_snapshot_service_pb2_grpc import DiskSnapshotServiceStub
from stillpoint.disk.v1.participant_service_pb2_grpc import ParticipantServiceStub as DiskParticipantStub
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.operation.v1.operation_service_pb2 import GetOperationRequest, ListOperationsRequest
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint.snapshot.v1.instance_snapshot_service_pb2 import (
    GetInstanceSnapshotRequest,
    ListInstanceSnapshotsRequest,
)
from stillpoint.snapshot.v1.instance_snapshot_service_pb2_grpc import InstanceSnapshotServiceStub
from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import Failure, code_of, explain
from stillpoint_cli.following import LIVE_STATES, owner_of
from stillpoint_cli.output import enum_name
from stillpoint_cli.paging import MOST_PER_PAGE, each
from stillpoint_cli.pasting import command
from stillpoint_cli.values import format_in_full

# An operation is tried again with growing pauses: so many tries of one step are half a minute, not a hiccup.
MANY_ATTEMPTS = 10

_IN_PROGRESS = frozenset(
    {InstanceSnapshot.STATE_CREATING, InstanceSnapshot.STATE_ROLLING_BACK, InstanceSnapshot.STATE_DELETING}
)
_HELD_SNAPSHOTS = frozenset({"snapshot", "import"})


ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True)
class Channels:
    """What doctor asks: every public port, and the internal ones of those that hold things for operations."""

    compute: grpc.Channel
    compute_internal: grpc.Channel
    disk: grpc.Channel
    disk_internal: grpc.Channel
    snapshot: grpc.Channel
    one_account: bool = False
    """Whether the public ports show what belongs to one account, while the internal ones show everything."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault. Two looks have found the same one when all but its sentence agrees: counts and errors in it change."""

    check: str
    resource_id: str
    operation_id: str
    problem: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What one check has found."""

    check: str
    looked_at: int
    findings: tuple[Finding, ...]
    # Why the check could not be made; empty when it was.
    not_asked: str


# A look: for each thing that is looked at, what seems wrong with it; mostly nothing.
_Look = Iterator[Iterable[Finding]]
_Check = Callable[["_Asker"], _Look]


def examine(
    channels: Channels, *, long_before: datetime | None = None, looks: int = 3, pause_seconds: float = 0.5
) -> Iterator[Result]:
    """Makes every check, and yields each result as soon as it is there. What has been in progress since `long_before` is a
    fault too.
    """
    for check, look in _LOOKS.items():
        yield _examine_one(check, look, lambda: _Asker(channels, long_before), looks, pause_seconds)


def _examine_one(
    check: str, look: _Check, asker: Callable[[], "_Asker"], looks: int, pause_seconds: float
) -> Result:
    looked_at = 0
    found: list[Finding] = []
    try:
        for number in range(looks):
            if number:
                time.sleep(pause_seconds)
            looked_at = 0
            suspicions = set(found)
            found = []
            for seeming in look(asker()):
                looked_at += 1
                found += [finding for finding in seeming if not number or finding in suspicions]
            if not found:
                break
    except (grpc.RpcError, Failure) as error:
        return Result(check, 0, (), (explain(error) or str(error)).partition("\n")[0])
    return Result(check, looked_at, tuple(found), "")


def scrub(channels: Channels, tell: Callable[[int], None]) -> Result:
    """Has every stored byte read, once: what is damaged stays so. `tell` hears how many bytes were read since the last time."""
    checked_bytes = 0
    found: list[Finding] = []
    try:
        stub = DiskParticipantStub(channels.disk_internal)
        for part in stub.ScrubStore(disk_pb2.ScrubStoreRequest()):
            checked_bytes += part.checked_bytes
            tell(part.checked_bytes)
            found += [
                Finding(
                    BYTES,
                    damage.object_id,
                    "",
                    f"{damage.object_id}: what is stored from byte {damage.offset_bytes} on is not what was written",
                )
                for damage in part.damages
            ]
    except (grpc.RpcError, Failure) as error:
        return Result(BYTES, 0, (), (explain(error) or str(error)).partition("\n")[0])
    return Result(BYTES, checked_bytes, tuple(found), "")


class _Asker:
    """Asks the services during one look, and remembers its latest answers: neighbours in a list share them."""

    def __init__(self, channels: Channels, long_before: datetime | None) -> None:
        self._long_before = long_before
        self._one_account = channels.one_account
        self.leases = ComputeParticipantStub(channels.compute_internal)
        self.holds = DiskParticipantStub(channels.disk_internal)
        self.disk_snapshots = DiskSnapshotServiceStub(channels.disk)
        self.instance_snapshots = InstanceSnapshotServiceStub(channels.snapshot)
        self.operations = {
            Service.COMPUTE: OperationServiceStub(channels.compute),
            Service.DISK: OperationServiceStub(channels.disk),
            Service.SNAPSHOT: OperationServiceStub(channels.snapshot),
        }
        self.is_live = lru_cache(maxsize=1000)(self._is_live)
        self.instance_snapshot = lru_cache(maxsize=1000)(self._instance_snapshot)
        self.disk_snapshot = lru_cache(maxsize=1000)(self._disk_snapshot)

    def is_long_ago(self, moment: Timestamp) -> bool:
        return self._long_before is not None and moment.ToDatetime(UTC) < self._long_before

    def _is_live(self, operation_id: str) -> bool:
        owner = owner_of(operation_id)
        if owner is None:
            return False
        request = GetOperationRequest(operation_id=operation_id)
        response = _unless_missing(lambda: self.operations[owner].GetOperation(request))
        if response is None:
            # Of another account, or of none any more: a fault is only what is certain.
            return self._one_account
        return response.operation.state in LIVE_STATES

    def _instance_snapshot(self, instance_snapshot_id: str) -> InstanceSnapshot | None:
        request = GetInstanceSnapshotRequest(instance_snapshot_id=instance_snapshot_id)
        response = _unless_missing(lambda: self.instance_snapshots.GetInstanceSnapshot(request))
        return response.instance_snapshot if response is not None else None

    def _disk_snapshot(self, snapshot_id: str) -> DiskSnapshot | None:
        request = GetDiskSnapshotRequest(snapshot_id=snapshot_id)
        response = _unless_missing(lambda: self.disk_snapshots.GetDiskSnapshot(request))
        return response.snapshot if response is not None else None


def _unless_missing(call: Callable[[], ResponseT]) -> ResponseT | None:
    try:
        return call()
    except grpc.RpcError as error:
        if code_of(error) is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def _look_at_leases(ask: _Asker) -> _Look:
    leases = each(
        lambda token: ask.leases.ListLeases(
            compute_pb2.ListLeasesRequest(page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.leases,
    )
    for lease in leases:
        yield _suspect_hold(ask, LEASES, "lease", lease.instance_id, lease.operation_id)


def _look_at_holds(ask: _Asker) -> _Look:
    holds = each(
        lambda token: ask.holds.ListHolds(
            disk_pb2.ListHoldsRequest(page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.holds,
    )
    for hold in holds:
        if _is_held_for_another_region(ask, hold):
            yield _suspect_age_of_hold(ask, hold)
        else:
            yield _suspect_hold(ask, HOLDS, hold.kind, hold.resource_id, hold.operation_id)


def _suspect_age_of_hold(ask: _Asker, hold: disk_pb2.Hold) -> Iterator[Finding]:
    if ask.is_long_ago(hold.since):
        problem = (
            f"{hold.resource_id}: its {hold.kind} has been held since {format_in_full(hold.since)} by operation "
            f"{hold.operation_id} of region {hold.operation_region}"
        )
        yield Finding(HOLDS, hold.resource_id, hold.operation_id, problem)


def _is_held_for_another_region(ask: _Asker, hold: disk_pb2.Hold) -> bool:
    """By an operation that is not to be seen here: what becomes of it is for the doctor of that region to say. Of all that
    is held these are the snapshots that are copied to this region.
    """
    snapshot = ask.disk_snapshot(hold.resource_id) if hold.kind in _HELD_SNAPSHOTS else None
    return snapshot is not None and hold.operation_region not in ("", snapshot.region)


def _suspect_hold(
    ask: _Asker, check: str, kind: str, resource_id: str, operation_id: str
) -> Iterator[Finding]:
    if ask.is_live(operation_id):
        return
    holder = f"operation {operation_id}, which is not running" if operation_id else "no operation"
    problem = f"{resource_id}: its {kind} is held by {holder}"
    if owner_of(operation_id) is not None:
        problem += f"; {_remedy(operation_id)} ends that"
    yield Finding(check, resource_id, operation_id, problem)


def _remedy(operation_id: str) -> str:
    return f"`{command('operation', 'abandon', operation_id, '--reason', '…')}`"


def _look_at_disk_snapshots(ask: _Asker) -> _Look:
    snapshots = each(
        lambda token: ask.disk_snapshots.ListDiskSnapshots(
            ListDiskSnapshotsRequest(page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.snapshots,
    )
    for snapshot in snapshots:
        yield _suspect_membership(ask, snapshot)


def _suspect_membership(ask: _Asker, snapshot: DiskSnapshot) -> Iterator[Finding]:
    whole_id = snapshot.instance_snapshot_id
    arrives = snapshot.state == DiskSnapshot.STATE_CREATING and snapshot.source_region
    if not whole_id or arrives or ask.is_live(snapshot.operation_id):
        return
    whole = ask.instance_snapshot(whole_id)
    if whole is None:
        problem = f"{snapshot.id} names instance snapshot {whole_id}, which is not there"
        yield Finding(DISK_SNAPSHOTS, snapshot.id, "", problem)
    elif snapshot.id not in {member.snapshot_id for member in whole.members} and not ask.is_live(
        whole.operation_id
    ):
        problem = f"{snapshot.id} names instance snapshot {whole_id}, which does not list it"
        yield Finding(DISK_SNAPSHOTS, snapshot.id, "", problem)


def _look_at_instance_snapshots(ask: _Asker) -> _Look:
    snapshots = each(
        lambda token: ask.instance_snapshots.ListInstanceSnapshots(
            ListInstanceSnapshotsRequest(page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.instance_snapshots,
    )
    for snapshot in snapshots:
        yield _suspect_instance_snapshot(ask, snapshot)


def _suspect_instance_snapshot(ask: _Asker, snapshot: InstanceSnapshot) -> Iterator[Finding]:
    if _is_received(snapshot) and ask.is_long_ago(snapshot.update_time):
        problem = (
            f"{snapshot.id} is being copied from region {snapshot.source_region}, and has not changed since "
            f"{format_in_full(snapshot.update_time)}"
        )
        yield Finding(INSTANCE_SNAPSHOTS, snapshot.id, snapshot.operation_id, problem)
    if ask.is_live(snapshot.operation_id) or _is_received(snapshot):
        return
    if snapshot.state in _IN_PROGRESS:
        state = enum_name(InstanceSnapshot.State.Name, snapshot.state, "STATE_")
        problem = f"{snapshot.id} is {state} and no operation works on it"
        yield Finding(INSTANCE_SNAPSHOTS, snapshot.id, snapshot.operation_id, problem)
    if snapshot.state != InstanceSnapshot.STATE_AVAILABLE:
        return
    wanted = ListDiskSnapshotsRequest.Filter(instance_snapshot_id=snapshot.id)
    found = each(
        lambda token: ask.disk_snapshots.ListDiskSnapshots(
            ListDiskSnapshotsRequest(filter=wanted, page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.snapshots,
    )
    states = {member.id: member.state for member in found}
    for member in snapshot.members:
        state_now = states.get(member.snapshot_id)
        if state_now is None:
            problem = f"{snapshot.id} is AVAILABLE, and its member {member.snapshot_id} is not there"
        elif state_now != DiskSnapshot.STATE_AVAILABLE:
            name = enum_name(DiskSnapshot.State.Name, state_now, "STATE_")
            problem = f"{snapshot.id} is AVAILABLE, and its member {member.snapshot_id} is {name}"
        else:
            continue
        yield Finding(INSTANCE_SNAPSHOTS, member.snapshot_id, "", problem)


def _is_received(snapshot: InstanceSnapshot) -> bool:
    """An operation of another region works on it, and nobody here can tell whether it is live."""
    return bool(snapshot.source_region) and snapshot.state == InstanceSnapshot.STATE_CREATING


def _look_at_operations(ask: _Asker) -> _Look:
    for stub in ask.operations.values():
        for operation in _unfinished(stub):
            yield _suspect_operation(ask, operation)


def _unfinished(stub: OperationServiceStub) -> Iterator[Operation]:
    wanted = ListOperationsRequest.Filter(unfinished=True)
    return each(
        lambda token: stub.ListOperations(
            ListOperationsRequest(filter=wanted, page_size=MOST_PER_PAGE, page_token=token)
        ),
        lambda page: page.operations,
    )


def _suspect_operation(ask: _Asker, operation: Operation) -> Iterator[Finding]:
    """Whatever is in progress is so for an unfinished operation: its age is the age of all that it holds."""
    name = f"{operation.id} ({operation.kind})"
    if operation.attempts >= MANY_ATTEMPTS:
        cannot = "be undone" if operation.state == Operation.STATE_COMPENSATING else "go on"
        problem = (
            f"{name} cannot {cannot}: {operation.current_step} was tried {operation.attempts} times, last: "
            f"{operation.error.message or 'no reason given'}; where what it waits for is gone for good, "
            f"{_remedy(operation.id)} ends it"
        )
    elif ask.is_long_ago(operation.create_time):
        problem = f"{name} has not ended since {format_in_full(operation.create_time)}; it is at {operation.current_step}"
    else:
        return
    yield Finding(OPERATIONS, operation.resource_id, operation.id, problem)


def _look_at_store(ask: _Asker) -> _Look:
    for difference in ask.holds.CheckStore(disk_pb2.CheckStoreRequest()):
        problem = f"{difference.object_id}: {difference.problem}"
        yield [Finding(STORE, difference.object_id, "", problem)]


LEASES = "leases on instances"
HOLDS = "tasks, points and reservations"
DISK_SNAPSHOTS = "disk snapshots"
INSTANCE_SNAPSHOTS = "instance snapshots"
OPERATIONS = "unfinished operations"
STORE = "differences between block store and rows"
BYTES = "bytes in the block store"

_LOOKS: dict[str, _Check] = {
    LEASES: _look_at_leases,
    HOLDS: _look_at_holds,
    DISK_SNAPSHOTS: _look_at_disk_snapshots,
    INSTANCE_SNAPSHOTS: _look_at_instance_snapshots,
    OPERATIONS: _look_at_operations,
    STORE: _look_at_store,
}
