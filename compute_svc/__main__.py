"""Composition root of compute_svc: settings, database, saga engine, server. No logic."""

from compute_svc import sagas
from compute_svc.clients import Disks
from compute_svc.holds import Leases
from compute_svc.migrations import SCHEMA
from compute_svc.participant_servicer import ParticipantServicer
from compute_svc.service import ComputeService
from compute_svc.servicer import AccountServicer, InstanceServicer
from compute_svc.settings import Settings
from stillpoint.compute.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    instance_service_pb2,
    instance_service_pb2_grpc,
    participant_service_pb2,
    participant_service_pb2_grpc,
)
from svckit import operations
from svckit.channels import open_channel
from svckit.database import Database
from svckit.logs import configure_logging
from svckit.mutations import Mutations
from svckit.saga import SagaEngine
from svckit.saga.instruments import SagaInstruments
from svckit.server import Registration, run_service
from svckit.startup import run_main
from svckit.telemetry import traces
from svckit.telemetry.exposition import new_registry


def main() -> None:
    settings = Settings()
    configure_logging(service="compute_svc", level=settings.log_level, form=settings.log_format)
    traces.start("compute_svc", settings.region, settings.traces_endpoint)
    registry = new_registry()
    database = Database(settings.database, connections=settings.database_connections)
    SCHEMA.make_ready(database, migrate=settings.migrate_at_start)
    service = ComputeService(settings.region)
    disks = Disks(open_channel(settings.disk_address, settings.channel_credentials))
    engine = SagaEngine(
        database,
        sagas.definitions(service, database, disks, settings.deadline_seconds),
        operation_prefix="op-c",
        region=settings.region,
        workers=settings.saga_workers,
        lease_seconds=settings.saga_lease_seconds,
        admitted=settings.requests_admitted,
        unfinished=settings.operations_admitted,
        instruments=SagaInstruments(registry),
    )
    mutations = Mutations(engine, answer_seconds=settings.answer_seconds)
    run_service(
        settings,
        engine,
        public=[
            Registration(
                instance_service_pb2_grpc.add_InstanceServiceServicer_to_server,
                InstanceServicer(service, mutations, database, settings.region),
                instance_service_pb2.DESCRIPTOR.services_by_name["InstanceService"],
            ),
            Registration(
                account_service_pb2_grpc.add_AccountServiceServicer_to_server,
                AccountServicer(service, mutations, database),
                account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
            ),
            *operations.registrations(engine, Leases(service, database, settings.region)),
        ],
        internal=[
            Registration(
                participant_service_pb2_grpc.add_ParticipantServiceServicer_to_server,
                ParticipantServicer(service, database, settings.region),
                participant_service_pb2.DESCRIPTOR.services_by_name["ParticipantService"],
            ),
        ],
        registry=registry,
    )


if __name__ == "__main__":
    run_main("compute_svc", main)
