"""The internal RPCs of compute_svc: the lease on an instance, as steps of snapshot_svc's sagas."""

from typing import Any

from compute_svc import convert, repository
from compute_svc.service import ComputeService
from stillpoint.compute.v1 import participant_service_pb2, participant_service_pb2_grpc
from svckit import paging
from svckit.database import Database
from svckit.validation import Checks


class ParticipantServicer(participant_service_pb2_grpc.ParticipantServiceServicer):
    """stillpoint.compute.v1.ParticipantService."""

    def __init__(self, service: ComputeService, database: Database, region: str) -> None:
        self._service = service
        self._database = database
        self._region = region

    def LeaseInstance(
        self, request: participant_service_pb2.LeaseInstanceRequest, context: Any
    ) -> participant_service_pb2.LeaseInstanceResponse:
        states = (convert.instance_state(state) for state in request.allowed_states)
        allowed = [state for state in states if state is not None]
        if request.validate_only:
            with self._database.read() as session:
                instance = self._service.check_lease(
                    session,
                    request.instance_id,
                    account_id=request.account_id,
                    allowed=allowed,
                    requires_good_standing=request.requires_good_standing,
                )
        else:
            with self._database.write() as session:
                instance = self._service.lease_instance(
                    session,
                    request.key,
                    request.operation_id,
                    request.instance_id,
                    account_id=request.account_id,
                    allowed=allowed,
                    requires_good_standing=request.requires_good_standing,
                )
        return participant_service_pb2.LeaseInstanceResponse(instance=convert.instance(instance))

    def ReleaseInstance(
        self, request: participant_service_pb2.ReleaseInstanceRequest, context: Any
    ) -> participant_service_pb2.ReleaseInstanceResponse:
        with self._database.write() as session:
            self._service.release_instance(
                session,
                request.key,
                request.operation_id,
                request.instance_id,
                **convert.rollback_outcome(request.rollback_outcome),
            )
        return participant_service_pb2.ReleaseInstanceResponse()

    def ListLeases(
        self, request: participant_service_pb2.ListLeasesRequest, context: Any
    ) -> participant_service_pb2.ListLeasesResponse:
        with Checks() as check:
            check.page_size(request.page_size)
        with self._database.read() as session:
            rows, next_page_token = repository.list_leased(
                session, paging.Page.of(request), region=self._region
            )
        return participant_service_pb2.ListLeasesResponse(
            leases=[convert.lease(row) for row in rows], next_page_token=next_page_token
        )
