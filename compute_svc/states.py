"""The states of an instance, and from which of them each operation may begin.

Starting and stopping take effect at once: there is no hypervisor driver yet, and no timer stands in for it, so STARTING
and STOPPING exist in the contract only.
"""

import enum


class InstanceState(enum.StrEnum):
    CREATING = "CREATING"  # → RUNNING when its disks are there; gone when they are refused; ERROR when it is abandoned
    RUNNING = "RUNNING"  # → STOPPED, STOPPED_NO_CHARGE
    STOPPED = "STOPPED"  # → RUNNING, DELETING
    STOPPED_NO_CHARGE = "STOPPED_NO_CHARGE"  # → RUNNING, DELETING
    DELETING = (
        "DELETING"  # → gone; back to where it came from when a disk refuses; ERROR when it is abandoned
    )
    ERROR = "ERROR"  # → DELETING


class Standing(enum.StrEnum):
    GOOD = "GOOD"
    IN_DEBT = "IN_DEBT"


STARTABLE = (InstanceState.STOPPED, InstanceState.STOPPED_NO_CHARGE)
STOPPABLE = (InstanceState.RUNNING,)
DELETABLE = (InstanceState.STOPPED, InstanceState.STOPPED_NO_CHARGE, InstanceState.ERROR)
ROLLBACKABLE = (InstanceState.STOPPED, InstanceState.STOPPED_NO_CHARGE)
ATTACHABLE = (InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.STOPPED_NO_CHARGE)
