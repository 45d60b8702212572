"""The sagas of compute_svc: what crosses to disk_svc, step by step.

The instance is held by the operation, from its first step (when it is being made: from the transaction that accepts it)
until the commit that ends it, so nothing else touches it in between.
"""

from collections.abc import Callable, Collection, Mapping

from sqlalchemy.orm import Session

from compute_svc import convert, repository
from compute_svc.clients import Disks
from compute_svc.errors import DOMAIN, InstanceNotFound
from compute_svc.service import ComputeService
from compute_svc.states import ATTACHABLE, DELETABLE, ROLLBACKABLE, InstanceState
from stillpoint.compute.v1 import instance_service_pb2
from svckit.database import Database
from svckit.errors import Refusal
from svckit.saga import Run, SagaDefinition, Step
from svckit.saga.refusals import refuse_with_disks


def definitions(
    service: ComputeService, database: Database, disks: Disks, deadline_seconds: float
) -> list[SagaDefinition]:
    return [
        _create_instance(service, disks, deadline_seconds),
        _delete_instance(service, database, disks),
        _attach_disk(service, database, disks),
        _detach_disk(service, database, disks),
        _roll_back_disk(service, database, disks),
    ]


def _lease(
    service: ComputeService,
    database: Database,
    allowed: Collection[InstanceState],
    ask_disks: Callable[[Run], object],
    record: Callable[[Session, Run], None] | None = None,
) -> Step:
    """Takes the lease, or refuses with everything that stands against it, on the disks too: to ask them is no call to make
    in the transaction that admits the request.
    """

    def lease(run: Run) -> Mapping[str, str]:
        try:
            with database.write() as session:
                instance = service.lease_instance(
                    session,
                    run.key("lease"),
                    run.id,
                    run.resource_id,
                    account_id=run.account_id,
                    allowed=allowed,
                    requires_good_standing=False,
                )
        except InstanceNotFound:
            raise
        except Refusal as refusal:
            refuse_with_disks(refusal, ask_disks, run, domain=DOMAIN)
            raise
        return {"state_before": instance.state}

    def release(run: Run) -> None:
        # Without the step's result nothing was recorded after it, so that the state is still what it was.
        before = {"state": run.data["state_before"]} if run.data else {}
        with database.write() as session:
            service.release_instance(session, run.key("lease"), run.id, run.resource_id, **before)

    return Step("lease", do=lease, undo=release, record=record)


def _given_back(_session: Session, _run: Run, _refusal: Refusal) -> None:
    """The undo of the lease has done it; Leases.let_go, when it is abandoned."""


def _rests_in_error(session: Session, run: Run, _refusal: Refusal, _step: str) -> None:
    """What is abandoned while it is made or deleted. Its disks may be there, and go when it is deleted."""
    repository.give_instance_up(session, run.resource_id)


def _create_instance(service: ComputeService, disks: Disks, deadline_seconds: float) -> SagaDefinition:
    def record(session: Session, run: Run) -> None:
        repository.release_lease(session, run.resource_id, run.id, state=InstanceState.RUNNING)

    def answer(session: Session, run: Run) -> instance_service_pb2.CreateInstanceResponse:
        return instance_service_pb2.CreateInstanceResponse(
            instance=convert.instance(service.get_instance(session, run.resource_id, run.account_id)),
            operation_id=run.id,
            data_disk_ids=[disk["disk_id"] for disk in run.input["disks"][1:]],
        )

    def failed(session: Session, run: Run, _refusal: Refusal) -> None:
        repository.remove_instance(session, run.resource_id)

    return SagaDefinition(
        kind="create_instance",
        steps=(Step("create_disks", do=disks.create, undo=disks.withdraw, record=record, answer=answer),),
        failed=failed,
        deadline_seconds=deadline_seconds,
        abandoned=_rests_in_error,
    )


def _delete_instance(service: ComputeService, database: Database, disks: Disks) -> SagaDefinition:
    def record_lease(session: Session, run: Run) -> None:
        repository.change_leased_instance(session, run.resource_id, run.id, state=InstanceState.DELETING)

    def record(session: Session, run: Run) -> None:
        repository.remove_instance(session, run.resource_id)

    def answer(_session: Session, run: Run) -> instance_service_pb2.DeleteInstanceResponse:
        return instance_service_pb2.DeleteInstanceResponse(
            operation_id=run.id, detached_disk_ids=run.data["detached_disk_ids"]
        )

    return SagaDefinition(
        kind="delete_instance",
        steps=(
            _lease(service, database, DELETABLE, disks.check_release, record_lease),
            # No undo: the call is all or none, and its refusal is final, so that no earlier try of it takes effect later.
            Step("release_disks", do=disks.release, record=record, answer=answer),
        ),
        failed=_given_back,
        abandoned=_rests_in_error,
    )


def _release(session: Session, run: Run) -> None:
    repository.release_lease(session, run.resource_id, run.id)


def _attach_disk(service: ComputeService, database: Database, disks: Disks) -> SagaDefinition:
    def answer(session: Session, run: Run) -> instance_service_pb2.AttachDiskResponse:
        return instance_service_pb2.AttachDiskResponse(
            instance=convert.instance(service.get_instance(session, run.resource_id, run.account_id)),
            operation_id=run.id,
        )

    return SagaDefinition(
        kind="attach_disk",
        steps=(
            _lease(service, database, ATTACHABLE, disks.check_attach),
            Step("attach", do=disks.attach, record=_release, answer=answer),
        ),
        failed=_given_back,
    )


def _detach_disk(service: ComputeService, database: Database, disks: Disks) -> SagaDefinition:
    def answer(session: Session, run: Run) -> instance_service_pb2.DetachDiskResponse:
        return instance_service_pb2.DetachDiskResponse(
            instance=convert.instance(service.get_instance(session, run.resource_id, run.account_id)),
            operation_id=run.id,
        )

    return SagaDefinition(
        kind="detach_disk",
        steps=(
            _lease(service, database, ATTACHABLE, disks.check_detach),
            Step("detach", do=disks.detach, record=_release, answer=answer),
        ),
        failed=_given_back,
    )


def _roll_back_disk(service: ComputeService, database: Database, disks: Disks) -> SagaDefinition:
    """Lease, reserve, apply. There is no pivot to pass before applying: of one disk nothing is ever half done, so when
    the store refuses, for lost bytes, everything is given back. There is no deadline either: what is not known may have
    taken effect, and is tried until it is known.
    """

    def answer(session: Session, run: Run) -> instance_service_pb2.RollbackDiskResponse:
        return instance_service_pb2.RollbackDiskResponse(
            instance=convert.instance(service.get_instance(session, run.resource_id, run.account_id)),
            operation_id=run.id,
        )

    return SagaDefinition(
        kind="rollback_disk",
        steps=(
            _lease(service, database, ROLLBACKABLE, disks.check_rollback),
            Step("reserve", do=disks.reserve_rollback, undo=disks.withdraw_rollback),
            Step("apply", do=disks.apply_rollback, record=_release, answer=answer),
        ),
        failed=_given_back,
    )
