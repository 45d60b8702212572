"""Composition root of snapshot_svc: settings, database, saga engine, servers. No logic."""

from snapshot_svc import sagas
from snapshot_svc.clients import Disks, Instances, OtherRegions
from snapshot_svc.expiry import Expiry
from snapshot_svc.holds import Received
from snapshot_svc.import_servicer import ImportServicer
from snapshot_svc.imports import Imports
from snapshot_svc.migrations import SCHEMA
from snapshot_svc.service import SnapshotService
from snapshot_svc.servicer import InstanceSnapshotServicer
from snapshot_svc.settings import Settings
from snapshot_svc.validations import Validations
from stillpoint.snapshot.v1 import (
    import_service_pb2,
    import_service_pb2_grpc,
    instance_snapshot_service_pb2,
    instance_snapshot_service_pb2_grpc,
)
from svckit import operations
from svckit.channels import open_channel
from svckit.clock import Clock, utc_now
from svckit.database import Database
from svckit.logs import configure_logging
from svckit.mutations import Mutations
from svckit.peers import Peers
from svckit.recurring import Recurring
from svckit.saga import SagaEngine
from svckit.saga.instruments import SagaInstruments
from svckit.server import Registration, run_service
from svckit.startup import run_main
from svckit.telemetry import traces
from svckit.telemetry.exposition import new_registry


def main() -> None:
    serve(Settings())


def serve(settings: Settings, clock: Clock = utc_now) -> None:
    """Serve until SIGTERM. `clock` says what has expired."""
    configure_logging(service="snapshot_svc", level=settings.log_level, form=settings.log_format)
    traces.start("snapshot_svc", settings.region, settings.traces_endpoint)
    registry = new_registry()
    database = Database(settings.database, connections=settings.database_connections)
    SCHEMA.make_ready(database, migrate=settings.migrate_at_start)
    credentials = settings.channel_credentials
    peers = Peers(settings.peers, credentials)
    service = SnapshotService(settings.region, peers, clock)
    instances = Instances(open_channel(settings.compute_address, credentials))
    disks = Disks(open_channel(settings.disk_address, credentials))
    engine = SagaEngine(
        database,
        sagas.definitions(
            service, instances, disks, OtherRegions(peers, settings.region), settings.deadline_seconds
        ),
        operation_prefix="op-s",
        region=settings.region,
        workers=settings.saga_workers,
        lease_seconds=settings.saga_lease_seconds,
        admitted=settings.requests_admitted,
        unfinished=settings.operations_admitted,
        instruments=SagaInstruments(registry),
    )
    mutations = Mutations(engine, answer_seconds=settings.answer_seconds)
    expiry = Expiry(service, mutations, database, settings.region, clock)
    imports = Imports(settings.region)
    validations = Validations(service, database, instances, disks, settings.region)
    run_service(
        settings,
        engine,
        public=[
            Registration(
                instance_snapshot_service_pb2_grpc.add_InstanceSnapshotServiceServicer_to_server,
                InstanceSnapshotServicer(service, mutations, validations, database, settings.region),
                instance_snapshot_service_pb2.DESCRIPTOR.services_by_name["InstanceSnapshotService"],
            ),
            *operations.registrations(engine, Received(imports, database, settings.region)),
        ],
        internal=[
            Registration(
                import_service_pb2_grpc.add_ImportServiceServicer_to_server,
                ImportServicer(imports, database),
                import_service_pb2.DESCRIPTOR.services_by_name["ImportService"],
            ),
        ],
        recurring=[Recurring("expiry", expiry.round, settings.round_seconds)],
        registry=registry,
    )


if __name__ == "__main__":
    run_main("snapshot_svc", main)
