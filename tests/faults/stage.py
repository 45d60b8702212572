"""A stage for worst days: the three services as real processes, a proxy on every connection between them, and disk_svc
over a block store that fails on demand. What the tests say to it is in the words of the API.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

from stillpoint.compute.v1 import instance_pb2, instance_service_pb2, instance_service_pb2_grpc
from stillpoint.compute.v1 import participant_service_pb2 as compute_participant_pb2
from stillpoint.compute.v1 import participant_service_pb2_grpc as compute_participant_grpc
from stillpoint.disk.v1 import (
    auto_snapshot_policy_pb2,
    auto_snapshot_policy_service_pb2,
    auto_snapshot_policy_service_pb2_grpc,
    block_service_pb2,
    block_service_pb2_grpc,
    disk_pb2,
    disk_service_pb2,
    disk_service_pb2_grpc,
    disk_snapshot_pb2,
    disk_snapshot_service_pb2,
    disk_snapshot_service_pb2_grpc,
)
from stillpoint.disk.v1 import participant_service_pb2 as disk_participant_pb2
from stillpoint.disk.v1 import participant_service_pb2_grpc as disk_participant_grpc
from stillpoint.operation.v1 import operation_pb2, operation_service_pb2, operation_service_pb2_grpc
from stillpoint.snapshot.v1 import (
    instance_snapshot_pb2,
    instance_snapshot_service_pb2,
    instance_snapshot_service_pb2_grpc,
)
from stillpoint_cli.addresses import DEFAULT_REGION, Service
from stillpoint_cli.doctor import Channels, examine
from stillpoint_cli.following import owner_of
from stillpoint_cli.local import LocalDeployment
from svckit.errors import Refusal
from tests.faults.director import Director
from tests.faults.gates import Gate, Gates
from tests.faults.proxy import Proxy
from tests.support.movable_clock import put_clock
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

DISK_BYTES = 1 << 20
BLOCK_BYTES = 4096
REST_SECONDS = 30.0
"""The bound on coming to rest: a claim runs out after a second, a pause between tries is at most five."""
SAGA_LEASE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance; the system disk is the first of its disks."""

    id: str
    disk_ids: list[str]


DatabaseUrls = Mapping[Service, str]
"""Where each service has its rows; empty: in files of the deployment's own."""


class _Deployment(LocalDeployment):
    """Whoever calls another service calls its proxy."""

    def __init__(
        self,
        folder: Path,
        wires: Mapping[tuple[Service, Service], TcpProxy],
        region: str,
        peers: Mapping[Service, Mapping[str, str]],
        database_urls: DatabaseUrls,
        *,
        store: Path,
        **settings: str,
    ) -> None:
        super().__init__(
            folder,
            region=region,
            free_ports=True,
            environment={f"STILLPOINT_{name.upper()}": value for name, value in settings.items()},
            service_environment={
                service: {
                    "STILLPOINT_PEERS": json.dumps(peers.get(service, {})),
                    "STILLPOINT_STORE_PATH": str(store),
                }
                | ({"STILLPOINT_DATABASE_URL": database_urls[service]} if database_urls else {})
                for service in Service
            },
            modules={service: f"tests.faults.{service.module}_on_stage" for service in Service},
        )
        self._wires = wires

    def _settings(self, service: Service) -> dict[str, str]:
        through = {
            f"STILLPOINT_{callee.name}_ADDRESS": wire.address
            for (caller, callee), wire in self._wires.items()
            if caller is service
        }
        return super()._settings(service) | through


class Stage:
    """One deployment. `deadline_seconds` is what an operation has, from its request to its point of no return; `peers` are
    the same service of other regions, by service and region; `store` is the block store's folder, where that is not in the
    deployment's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        deadline_seconds: float,
        region: str = DEFAULT_REGION,
        peers: Mapping[Service, Mapping[str, str]] | None = None,
        database_urls: DatabaseUrls | None = None,
        store: Path | None = None,
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self.in_order = True
        """No test has left it in a state that nobody has looked at."""
        folder.mkdir(parents=True)
        self.store = store or folder / "var" / "store"
        """The block store's folder."""
        self._clock = folder / "clock"
        self.gates = Gates()
        self.director = Director(folder, self.gates)
        self._proxies = {
            (Service.COMPUTE, Service.DISK): Proxy(self.gates),
            (Service.SNAPSHOT, Service.COMPUTE): Proxy(self.gates),
            (Service.SNAPSHOT, Service.DISK): Proxy(self.gates),
        }
        self.wires = {each: TcpProxy(proxy.host_and_port) for each, proxy in self._proxies.items()}
        """By who calls whom: what a caller's connection to the proxy goes through."""
        self._deployment = _Deployment(
            folder / "var",
            self.wires,
            region,
            peers or {},
            database_urls or {},
            store=self.store,
            deadline_seconds=str(deadline_seconds),
            saga_lease_seconds=str(SAGA_LEASE_SECONDS),
            saga_workers="32",
            handler_threads="32",
            faults_socket=str(self.director.path),
            faults_clock=str(self._clock),
            round_seconds="0.5",
        )
        self._deployment.start()
        addresses = self._deployment.addresses
        for (_, callee), proxy in self._proxies.items():
            proxy.connect(addresses.of(callee).internal)
        self._channels = {service: _patient_channel(addresses.of(service).public) for service in Service}
        self._internal = {service: _patient_channel(addresses.of(service).internal) for service in Service}
        self.instances = instance_service_pb2_grpc.InstanceServiceStub(self._channels[Service.COMPUTE])
        self.disks = disk_service_pb2_grpc.DiskServiceStub(self._channels[Service.DISK])
        self.blocks = block_service_pb2_grpc.BlockServiceStub(self._channels[Service.DISK])
        self.disk_snapshots = disk_snapshot_service_pb2_grpc.DiskSnapshotServiceStub(
            self._channels[Service.DISK]
        )
        self.policies = auto_snapshot_policy_service_pb2_grpc.AutoSnapshotPolicyServiceStub(
            self._channels[Service.DISK]
        )
        self.snapshots = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(
            self._channels[Service.SNAPSHOT]
        )

    def close(self) -> None:
        self.gates.lose_all()
        for channel in (*self._channels.values(), *self._internal.values()):
            channel.close()
        self._deployment.stop()
        for wire in self.wires.values():
            wire.stop()
        for proxy in self._proxies.values():
            proxy.stop()
        self.director.stop()

    def address(self, service: Service) -> str:
        return self._deployment.addresses.of(service).public

    def internal_address(self, service: Service) -> str:
        return self._deployment.addresses.of(service).internal

    def channel(self, service: Service) -> grpc.Channel:
        """To its public port."""
        return self._channels[service]

    @property
    def channels(self) -> Channels:
        """For doctor."""
        return Channels(
            compute=self._channels[Service.COMPUTE],
            compute_internal=self._internal[Service.COMPUTE],
            disk=self._channels[Service.DISK],
            disk_internal=self._internal[Service.DISK],
            snapshot=self._channels[Service.SNAPSHOT],
        )

    # Deaths

    def kill(self, service: Service) -> None:
        self._deployment.kill(service)

    def restart(self, service: Service) -> None:
        self._deployment.restart(service)

    # Machines and their bytes

    def make_machine(self, *, data_disks: int = 1, name: str = "machine") -> Machine:
        """Its disks are called as it is."""
        disk = instance_service_pb2.NewDisk(size_bytes=DISK_BYTES, name=name)
        made = self.instances.CreateInstance(
            instance_service_pb2.CreateInstanceRequest(
                request_id=new_request_id(),
                name=name,
                system_disk=disk,
                data_disks=[disk] * data_disks,
            )
        )
        return Machine(made.instance.id, [made.instance.system_disk_id, *made.data_disk_ids])

    def stop_machine(self, machine: Machine) -> None:
        self.instances.StopInstance(instance_service_pb2.StopInstanceRequest(instance_id=machine.id))

    def fill(self, machine: Machine, word: str) -> None:
        """Write so that each disk's first block says `word` and which disk it is."""
        for number, disk_id in enumerate(machine.disk_ids):
            self.write(disk_id, f"{word} {number}")

    def word_on(self, machine: Machine) -> str:
        """The word that all disks say; a disk that says another is an error."""
        said = [self.read(disk_id=disk_id).split() for disk_id in machine.disk_ids]
        words = {tuple(words[:1]) for words in said}
        assert len(words) == 1, f"the disks of {machine.id} do not belong together: {said}"
        return said[0][0] if said[0] else ""

    def write(self, disk_id: str, text: str) -> None:
        extent = block_service_pb2.Extent(offset_bytes=0, data=text.encode().ljust(BLOCK_BYTES, b"\0"))
        request = block_service_pb2.WriteBlocksRequest(disk_id=disk_id, extents=[extent])
        for _durable in self.blocks.WriteBlocks(iter([request])):
            pass

    def read(self, *, disk_id: str = "", snapshot_id: str = "") -> str:
        request = block_service_pb2.ReadBlocksRequest(length_bytes=BLOCK_BYTES)
        if disk_id:
            request.disk_id = disk_id
        else:
            request.snapshot_id = snapshot_id
        return b"".join(piece.data for piece in self.blocks.ReadBlocks(request)).rstrip(b"\0").decode()

    # Instance snapshots

    def begin_snapshot(self, machine: Machine, request_id: str = "") -> Any:
        """Ask for a snapshot; returns the call, a future."""
        return self.snapshots.CreateInstanceSnapshot.future(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=request_id or new_request_id(), instance_id=machine.id
            ),
            timeout=REST_SECONDS,
        )

    def begin_snapshot_from(self, disk_id: str, request_id: str = "") -> Any:
        """Ask for a snapshot of the instance that a disk is on."""
        return self.snapshots.CreateInstanceSnapshot.future(
            instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                request_id=request_id or new_request_id(), disk_id=disk_id
            ),
            timeout=REST_SECONDS,
        )

    def take_snapshot(self, machine: Machine) -> instance_snapshot_pb2.InstanceSnapshot:
        """A snapshot, AVAILABLE."""
        response = self.begin_snapshot(machine).result()
        assert self.outcome(response.operation_id) == "SUCCEEDED"
        return self.snapshot(response.instance_snapshot.id)

    def snapshot(self, snapshot_id: str) -> instance_snapshot_pb2.InstanceSnapshot:
        request = instance_snapshot_service_pb2.GetInstanceSnapshotRequest(instance_snapshot_id=snapshot_id)
        return self.snapshots.GetInstanceSnapshot(request).instance_snapshot

    def snapshots_of(self, machine: Machine) -> list[instance_snapshot_pb2.InstanceSnapshot]:
        return self.snapshots_of_instance(machine.id)

    def snapshots_of_instance(self, instance_id: str) -> list[instance_snapshot_pb2.InstanceSnapshot]:
        """Copies too, of an instance in another region."""
        wanted = instance_snapshot_service_pb2.ListInstanceSnapshotsRequest.Filter(instance_id=instance_id)
        request = instance_snapshot_service_pb2.ListInstanceSnapshotsRequest(filter=wanted, page_size=500)
        return list(self.snapshots.ListInstanceSnapshots(request).instance_snapshots)

    def states_of(self, machine: Machine) -> list[str]:
        """The states of its snapshots, newest first."""
        return [state_name(snapshot) for snapshot in self.snapshots_of(machine)]

    def begin_rollback(self, snapshot_id: str, request_id: str = "", disk_ids: Sequence[str] = ()) -> Any:
        return self.snapshots.RollbackInstanceSnapshot.future(
            instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest(
                request_id=request_id or new_request_id(),
                instance_snapshot_id=snapshot_id,
                disk_ids=disk_ids,
            ),
            timeout=REST_SECONDS,
        )

    def begin_deletion(self, snapshot_id: str, request_id: str = "") -> Any:
        return self.snapshots.DeleteInstanceSnapshot.future(
            instance_snapshot_service_pb2.DeleteInstanceSnapshotRequest(
                request_id=request_id or new_request_id(), instance_snapshot_id=snapshot_id
            ),
            timeout=REST_SECONDS,
        )

    def begin_deletions(self, snapshot_ids: Sequence[str], request_id: str) -> Any:
        return self.snapshots.BatchDeleteInstanceSnapshots.future(
            instance_snapshot_service_pb2.BatchDeleteInstanceSnapshotsRequest(
                request_id=request_id, instance_snapshot_ids=snapshot_ids
            ),
            timeout=REST_SECONDS,
        )

    # Disks and their snapshots

    def disk(self, disk_id: str) -> disk_pb2.Disk:
        return self.disks.GetDisk(disk_service_pb2.GetDiskRequest(disk_id=disk_id)).disk

    def disk_snapshots_of(self, machine: Machine) -> list[disk_snapshot_pb2.DiskSnapshot]:
        found: list[disk_snapshot_pb2.DiskSnapshot] = []
        for disk_id in machine.disk_ids:
            wanted = disk_snapshot_service_pb2.ListDiskSnapshotsRequest.Filter(disk_id=disk_id)
            request = disk_snapshot_service_pb2.ListDiskSnapshotsRequest(filter=wanted, page_size=500)
            found += self.disk_snapshots.ListDiskSnapshots(request).snapshots
        return found

    def instance(self, machine: Machine) -> instance_pb2.Instance:
        return self.instances.GetInstance(
            instance_service_pb2.GetInstanceRequest(instance_id=machine.id)
        ).instance

    # Policies

    def put_clock(self, moment: datetime) -> None:
        """For policies, and for what expires, it is this moment from now on."""
        put_clock(self._clock, moment)

    def make_policy(
        self, disk_ids: Sequence[str], *, retention_count: int
    ) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        """Every hour."""
        policy = auto_snapshot_policy_pb2.AutoSnapshotPolicy(
            name="hourly",
            weekdays=auto_snapshot_policy_pb2.Weekday.values()[1:],
            hours=range(24),
            retention_count=retention_count,
            disk_ids=disk_ids,
        )
        request = auto_snapshot_policy_service_pb2.CreateAutoSnapshotPolicyRequest(
            request_id=new_request_id(), policy=policy
        )
        return self.policies.CreateAutoSnapshotPolicy(request).policy

    def policy(self, policy_id: str) -> auto_snapshot_policy_pb2.AutoSnapshotPolicy:
        request = auto_snapshot_policy_service_pb2.GetAutoSnapshotPolicyRequest(policy_id=policy_id)
        return self.policies.GetAutoSnapshotPolicy(request).policy

    def delete_policy(self, policy_id: str) -> None:
        request = auto_snapshot_policy_service_pb2.DeleteAutoSnapshotPolicyRequest(
            request_id=new_request_id(), policy_id=policy_id
        )
        self.policies.DeleteAutoSnapshotPolicy(request)

    # Operations

    def operations(self, service: Service) -> operation_service_pb2_grpc.OperationServiceStub:
        return operation_service_pb2_grpc.OperationServiceStub(self._channels[service])

    def operation(self, operation_id: str) -> operation_pb2.Operation:
        owner = owner_of(operation_id)
        assert owner is not None
        request = operation_service_pb2.GetOperationRequest(operation_id=operation_id)
        return self.operations(owner).GetOperation(request).operation

    def outcome(self, operation_id: str) -> str:
        """How the operation has ended; waits for that."""
        owner = owner_of(operation_id)
        assert owner is not None
        request = operation_service_pb2.WatchOperationRequest(operation_id=operation_id)
        *_, last = self.operations(owner).WatchOperation(request, timeout=REST_SECONDS)
        return operation_pb2.Operation.State.Name(last.operation.state).removeprefix("STATE_")

    def unfinished(self, service: Service) -> Sequence[operation_pb2.Operation]:
        request = operation_service_pb2.ListOperationsRequest(
            filter=operation_service_pb2.ListOperationsRequest.Filter(unfinished=True), page_size=500
        )
        return self.operations(service).ListOperations(request).operations

    def abandon(self, operation_id: str, *services: Service) -> list[str]:
        """At all services, the operation's own first, or at those that are named; returns the kinds of what was let go."""
        owner = owner_of(operation_id)
        asked = services or sorted(Service, key=lambda service: service is not owner)
        request = operation_service_pb2.AbandonOperationRequest(
            operation_id=operation_id, reason="What it waits for is gone."
        )
        return [
            hold.kind
            for service in asked
            for hold in self.operations(service).AbandonOperation(request).released
        ]

    def come_to_rest(self) -> None:
        eventually(
            lambda: not any(self.unfinished(service) for service in Service),
            within_seconds=REST_SECONDS,
            what="coming to rest",
        )

    def stopped_at(self, gate_name: str, begin: Callable[[], Any]) -> tuple[Gate, Any]:
        """Begin something and return when it stands at that gate."""
        gate = self.gates.close(gate_name)
        call = begin()
        gate.wait_for_call()
        return gate, call

    # What must hold at rest

    def assert_nothing_left(self) -> None:
        """design.md §6: "What must hold at any rest" """
        self.come_to_rest()
        leases = compute_participant_grpc.ParticipantServiceStub(self._internal[Service.COMPUTE])
        assert list(leases.ListLeases(compute_participant_pb2.ListLeasesRequest()).leases) == []
        holds = disk_participant_grpc.ParticipantServiceStub(self._internal[Service.DISK])
        assert list(holds.ListHolds(disk_participant_pb2.ListHoldsRequest()).holds) == []
        for result in examine(self.channels):
            assert result.findings == ()
            assert not result.not_asked
        self.in_order = True


def _patient_channel(address: str) -> grpc.Channel:
    """What is sent while a service is being restarted waits for it."""
    waiting = {"methodConfig": [{"name": [{}], "waitForReady": True}]}
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.service_config", json.dumps(waiting)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ],
    )


def new_request_id() -> str:
    return str(uuid.uuid4())


def state_name(snapshot: instance_snapshot_pb2.InstanceSnapshot) -> str:
    return instance_snapshot_pb2.InstanceSnapshot.State.Name(snapshot.state).removeprefix("STATE_")


def refusal_of(call: Any) -> Refusal:
    """The refusal that a call ends with."""
    error = call.exception()
    assert error is not None, "the call was not refused"
    status = rpc_status.from_call(error)
    refusal = Refusal.from_status(status) if status is not None else None
    assert refusal is not None, f"no refusal of ours: {error}"
    return refusal
