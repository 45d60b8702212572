"""Composition root of disk_svc: settings, database, block store, saga engine, servers. No logic."""

from disk_svc import metrics
from disk_svc.blockstore import BlockStore, LmdbBlockStore, StoreError
from disk_svc.clients import Importers
from disk_svc.migrations import SCHEMA
from disk_svc.sagas import copies as copy_sagas
from disk_svc.sagas import disks as disk_sagas
from disk_svc.sagas import policies as policy_sagas
from disk_svc.sagas import snapshots as snapshot_sagas
from disk_svc.service.automatic_snapshots import AutomaticSnapshots
from disk_svc.service.blocks import Blocks
from disk_svc.service.copies import Copies, MemberCopies
from disk_svc.service.disks import Disks
from disk_svc.service.expiry import Expiry
from disk_svc.service.holds import HeldHere
from disk_svc.service.imports import Imports
from disk_svc.service.points import Points
from disk_svc.service.policies import Policies
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Deletions, Rollbacks
from disk_svc.service.scheduler import Scheduler
from disk_svc.service.snapshots import Snapshots
from disk_svc.service.transfer import Transfer
from disk_svc.servicers.blocks import BlockServicer
from disk_svc.servicers.disks import DiskServicer
from disk_svc.servicers.imports import ImportServicer
from disk_svc.servicers.participant import ParticipantServicer
from disk_svc.servicers.policies import AutoSnapshotPolicyServicer
from disk_svc.servicers.snapshots import DiskSnapshotServicer
from disk_svc.settings import Settings
from disk_svc.states import Kind
from stillpoint.disk.v1 import (
    auto_snapshot_policy_service_pb2,
    auto_snapshot_policy_service_pb2_grpc,
    block_service_pb2,
    block_service_pb2_grpc,
    disk_service_pb2,
    disk_service_pb2_grpc,
    disk_snapshot_service_pb2,
    disk_snapshot_service_pb2_grpc,
    import_service_pb2,
    import_service_pb2_grpc,
    participant_service_pb2,
    participant_service_pb2_grpc,
)
from svckit import operations
from svckit.clock import Clock, utc_now
from svckit.database import Database
from svckit.logs import configure_logging
from svckit.memory import keep_large_buffers
from svckit.mutations import Mutations
from svckit.peers import Peers
from svckit.recurring import Recurring
from svckit.saga import SagaEngine
from svckit.saga.instruments import SagaInstruments
from svckit.server import Registration, run_service
from svckit.startup import CannotStart, run_main
from svckit.telemetry import traces
from svckit.telemetry.exposition import new_registry


def main() -> None:
    keep_large_buffers()
    settings = Settings()
    try:
        store = LmdbBlockStore(settings.store_path)
    except StoreError as error:
        raise CannotStart(str(error)) from error
    serve(settings, store)


def serve(settings: Settings, store: BlockStore, clock: Clock = utc_now) -> None:
    """Serve over any block store until SIGTERM, then close it. `clock` says what has come due."""
    configure_logging(service="disk_svc", level=settings.log_level, form=settings.log_format)
    traces.start("disk_svc", settings.region, settings.traces_endpoint)
    registry = new_registry()
    database = Database(settings.database, connections=settings.database_connections)
    SCHEMA.make_ready(database, migrate=settings.migrate_at_start)
    quotas = {
        Kind.MANUAL: settings.manual_snapshots_per_disk,
        Kind.AUTOMATIC: settings.automatic_snapshots_per_disk,
    }
    realm = Realm(database, store, settings.region, quotas)
    metrics.register(registry, realm)
    disks = Disks(realm)
    points = Points(realm)
    snapshots = Snapshots(realm, disks, points, clock)
    rollbacks = Rollbacks(realm)
    policies = Policies(realm, clock)
    automatic = AutomaticSnapshots(realm, disks, points, clock)
    peers = Peers(settings.peers, settings.channel_credentials)
    copies = Copies(realm, peers)
    importers = Importers(peers, settings.region)
    engine = SagaEngine(
        database,
        [
            *disk_sagas.definitions(realm, disks, rollbacks),
            *snapshot_sagas.definitions(realm, points, snapshots),
            policy_sagas.definition(automatic, points),
            copy_sagas.definition(copies, importers, Transfer(store, importers), settings.deadline_seconds),
        ],
        operation_prefix="op-d",
        region=settings.region,
        workers=settings.saga_workers,
        lease_seconds=settings.saga_lease_seconds,
        admitted=settings.requests_admitted,
        unfinished=settings.operations_admitted,
        instruments=SagaInstruments(registry),
    )
    deletions, imports = Deletions(realm), Imports(realm)
    held = HeldHere(
        realm,
        engine,
        disks=disks,
        points=points,
        rollbacks=rollbacks,
        deletions=deletions,
        imports=imports,
    )
    mutations = Mutations(engine, answer_seconds=settings.answer_seconds)
    run_service(
        settings,
        engine,
        public=[
            Registration(
                disk_service_pb2_grpc.add_DiskServiceServicer_to_server,
                DiskServicer(realm, disks, rollbacks, mutations),
                disk_service_pb2.DESCRIPTOR.services_by_name["DiskService"],
            ),
            Registration(
                disk_snapshot_service_pb2_grpc.add_DiskSnapshotServiceServicer_to_server,
                DiskSnapshotServicer(realm, snapshots, copies, mutations),
                disk_snapshot_service_pb2.DESCRIPTOR.services_by_name["DiskSnapshotService"],
            ),
            Registration(
                auto_snapshot_policy_service_pb2_grpc.add_AutoSnapshotPolicyServiceServicer_to_server,
                AutoSnapshotPolicyServicer(realm, policies, mutations),
                auto_snapshot_policy_service_pb2.DESCRIPTOR.services_by_name["AutoSnapshotPolicyService"],
            ),
            Registration(
                block_service_pb2_grpc.add_BlockServiceServicer_to_server,
                BlockServicer(Blocks(realm, disks, snapshots)),
                block_service_pb2.DESCRIPTOR.services_by_name["BlockService"],
            ),
            *operations.registrations(engine, held),
        ],
        internal=[
            Registration(
                participant_service_pb2_grpc.add_ParticipantServiceServicer_to_server,
                ParticipantServicer(
                    realm, disks, points, rollbacks, deletions, copies=MemberCopies(copies, engine)
                ),
                participant_service_pb2.DESCRIPTOR.services_by_name["ParticipantService"],
            ),
            Registration(
                import_service_pb2_grpc.add_ImportServiceServicer_to_server,
                ImportServicer(imports),
                import_service_pb2.DESCRIPTOR.services_by_name["ImportService"],
            ),
        ],
        recurring=[
            Recurring("policies", Scheduler(realm, mutations, clock).round, settings.round_seconds),
            Recurring("expiry", Expiry(realm, snapshots, mutations, clock).round, settings.round_seconds),
        ],
        forget=store.forget,
        close=store.close,
        registry=registry,
    )


if __name__ == "__main__":
    run_main("disk_svc", main)
