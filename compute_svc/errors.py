"""Why compute_svc refuses; stillpoint.compute.v1.ErrorReason documents each reason.

ComputeRefusal
├── InstanceNotFound    NOT_FOUND
├── InstanceInState     FAILED_PRECONDITION
├── InstanceBusy        FAILED_PRECONDITION
├── RollbackIncomplete  FAILED_PRECONDITION
├── AccountInDebt       FAILED_PRECONDITION
└── AccountNotFound     NOT_FOUND
"""

from collections.abc import Sequence

import grpc

from compute_svc.states import InstanceState
from svckit.errors import Refusal, Violation

DOMAIN = "compute.stillpoint"


class ComputeRefusal(Refusal):
    domain = DOMAIN


class InstanceNotFound(ComputeRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "INSTANCE_NOT_FOUND"

    def __init__(self, instance_id: str) -> None:
        message = f"instance {instance_id} does not exist"
        super().__init__(
            message,
            metadata={"instance_id": instance_id},
            preconditions=[Violation(self.reason, f"instance/{instance_id}", message)],
        )


class InstanceInState(ComputeRefusal):
    reason = "INSTANCE_STATE"

    def __init__(self, instance_id: str, state: InstanceState, allowed: Sequence[InstanceState]) -> None:
        message = f"instance {instance_id} is {state}; it must be {' or '.join(allowed)}"
        super().__init__(
            message,
            metadata={"instance_id": instance_id, "state": state},
            preconditions=[Violation(self.reason, f"instance/{instance_id}", message)],
        )


class InstanceBusy(ComputeRefusal):
    reason = "INSTANCE_BUSY"

    def __init__(self, instance_id: str, operation_id: str) -> None:
        message = f"instance {instance_id} is held by operation {operation_id}"
        super().__init__(
            message,
            metadata={"instance_id": instance_id, "operation_id": operation_id},
            preconditions=[Violation(self.reason, f"instance/{instance_id}", message)],
        )


class RollbackIncomplete(ComputeRefusal):
    reason = "ROLLBACK_INCOMPLETE"

    def __init__(self, instance_id: str) -> None:
        message = (
            f"a rollback of instance {instance_id} could not be done whole; roll all members of a snapshot back before "
            "starting it"
        )
        super().__init__(
            message,
            metadata={"instance_id": instance_id},
            preconditions=[Violation(self.reason, f"instance/{instance_id}", message)],
        )


class AccountInDebt(ComputeRefusal):
    reason = "ACCOUNT_IN_DEBT"

    def __init__(self, account_id: str) -> None:
        message = f"account {account_id} is in debt"
        super().__init__(
            message,
            metadata={"account_id": account_id},
            preconditions=[Violation(self.reason, f"account/{account_id}", message)],
        )


class AccountNotFound(ComputeRefusal):
    code = grpc.StatusCode.NOT_FOUND
    reason = "ACCOUNT_NOT_FOUND"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} does not exist", metadata={"account_id": account_id})
