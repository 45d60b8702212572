"""The states of disks and snapshots.

A disk's state is derived from two columns, so that a transition never has to remember what to go back to: where it is
attached, and the task that an operation has on it. With a task, the task is the state. A task blocks control operations,
never reading and writing, except ROLLING_BACK and DELETING (and CREATING, when there is nothing to read yet).
"""

import enum


class Role(enum.StrEnum):
    SYSTEM = "SYSTEM"
    DATA = "DATA"


class Attachment(enum.StrEnum):
    DETACHED = "DETACHED"  # a data disk on no instance → MOUNTED
    MOUNTED = "MOUNTED"  # a data disk on an instance, running or stopped → DETACHED
    RUNNING = "RUNNING"  # a system disk, as long as it serves its instance


class Task(enum.StrEnum):
    NONE = ""
    CREATING = "CREATING"
    SNAPSHOTTING = "SNAPSHOTTING"
    RESIZING = "RESIZING"
    ROLLING_BACK = "ROLLING_BACK"
    DELETING = "DELETING"


class SnapshotState(enum.StrEnum):
    CREATING = "CREATING"  # → AVAILABLE when sealed and finished, ERROR when sealing failed; gone when undone
    AVAILABLE = "AVAILABLE"  # → DELETING
    DELETING = "DELETING"  # → gone; AVAILABLE when the deletion of an instance snapshot is refused, or abandoned before it began
    ERROR = "ERROR"  # → DELETING


class Kind(enum.StrEnum):
    MANUAL = "MANUAL"
    AUTOMATIC = "AUTOMATIC"


class PointState(enum.StrEnum):
    PREPARED = "PREPARED"  # its rows are there → CUT, WITHDRAWN
    CUT = "CUT"  # the store has cut the disks → gone when finished
    WITHDRAWN = "WITHDRAWN"  # from PREPARED or CUT: it is being undone, and is not finished any more → gone


class ImportState(enum.StrEnum):
    PREPARED = "PREPARED"  # its rows are there, and keep its base → RECEIVING
    RECEIVING = "RECEIVING"  # its volume is there → gone when finished or withdrawn


class Purpose(enum.StrEnum):
    """What disks and snapshots are reserved for."""

    ROLLBACK = "rollback"
    DELETION = "deletion"
    BEGUN_DELETION = "begun deletion"
    """Of DELETION, once bytes may be gone: it is carried out, and not taken back any more."""
    COPY = "copy"


BLOCKS_IO = (Task.CREATING, Task.ROLLING_BACK, Task.DELETING)
HOLDS_SLOT = (SnapshotState.CREATING, SnapshotState.AVAILABLE, SnapshotState.DELETING)
DELETABLE = (SnapshotState.AVAILABLE, SnapshotState.ERROR)
