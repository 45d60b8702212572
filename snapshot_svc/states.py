"""The states of an instance snapshot, and from which of them each operation may begin.

The operation that works on one is in its `operation_id`; the state changes only when that operation can no longer be
refused, so a refused rollback or deletion is never seen as ROLLING_BACK or DELETING.
"""

import enum


class State(enum.StrEnum):
    CREATING = "CREATING"  # → AVAILABLE; ERROR when a member fails after the moment, or abandoned; gone when refused before it, or not received
    AVAILABLE = "AVAILABLE"  # → ROLLING_BACK, DELETING
    ROLLING_BACK = "ROLLING_BACK"  # → AVAILABLE, ERROR_ROLLBACK
    DELETING = "DELETING"  # → gone; ERROR when it is abandoned
    ERROR = "ERROR"  # → DELETING
    ERROR_ROLLBACK = "ERROR_ROLLBACK"  # → ROLLING_BACK, DELETING


CAN_ROLL_BACK = (State.AVAILABLE, State.ERROR_ROLLBACK)
"""spec.md: "Even after rollback, Instance Snapshots can still be used for further rollback operations." """
CAN_BE_COPIED = (State.AVAILABLE, State.ROLLING_BACK, State.ERROR_ROLLBACK)
"""Where every member is AVAILABLE. It is not held meanwhile: its members are, by disk_svc."""
CAN_BE_DELETED = (State.AVAILABLE, State.ERROR, State.ERROR_ROLLBACK)
