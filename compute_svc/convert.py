"""Rows to messages, and enum values to and from messages."""

from collections.abc import Mapping

from compute_svc.models import Instance
from compute_svc.service import NewDisk
from compute_svc.states import InstanceState, Standing
from stillpoint.compute.v1 import (
    account_service_pb2,
    instance_pb2,
    instance_service_pb2,
    participant_service_pb2,
)
from svckit.clock import to_timestamp


def instance(row: Instance) -> instance_pb2.Instance:
    return instance_pb2.Instance(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        region=row.region,
        state=instance_pb2.Instance.State.Value(f"STATE_{row.state}"),
        operation_id=row.lease_operation_id,
        system_disk_id=row.system_disk_id,
        create_time=to_timestamp(row.create_time),
        update_time=to_timestamp(row.update_time),
        description=row.description,
        labels=row.labels,
    )


def instance_state(value: "instance_pb2.Instance.State.ValueType") -> InstanceState | None:
    """None for UNSPECIFIED, and for the states that are reserved and that no instance is ever in."""
    name = instance_state_name(value)
    return InstanceState(name) if name in InstanceState.__members__ else None


def instance_state_name(value: "instance_pb2.Instance.State.ValueType") -> str:
    """Empty for UNSPECIFIED."""
    return "" if value == 0 else instance_pb2.Instance.State.Name(value).removeprefix("STATE_")


def account(account_id: str, standing: Standing) -> account_service_pb2.Account:
    return account_service_pb2.Account(
        id=account_id, standing=account_service_pb2.Account.Standing.Value(f"STANDING_{standing}")
    )


def standing(value: "account_service_pb2.Account.Standing.ValueType") -> Standing:
    return Standing(account_service_pb2.Account.Standing.Name(value).removeprefix("STANDING_"))


def new_disk(message: instance_service_pb2.NewDisk) -> NewDisk:
    return NewDisk(message.name, message.size_bytes, message.source_snapshot_id)


def lease(row: Instance) -> participant_service_pb2.Lease:
    return participant_service_pb2.Lease(
        instance_id=row.id, operation_id=row.lease_operation_id, since=to_timestamp(row.lease_since)
    )


def rollback_outcome(
    outcome: "participant_service_pb2.ReleaseInstanceRequest.RollbackOutcome.ValueType",
) -> Mapping[str, bool]:
    """What it changes of an instance; nothing when it says nothing: what an earlier rollback left stays."""
    outcomes = participant_service_pb2.ReleaseInstanceRequest
    return {
        outcomes.ROLLBACK_OUTCOME_COMPLETE: {"rollback_incomplete": False},
        outcomes.ROLLBACK_OUTCOME_INCOMPLETE: {"rollback_incomplete": True},
    }.get(outcome, {})
