"""What a block store can answer besides the result.

StoreError
├── Refused              a definite no; nothing was changed
│   ├── AlreadyUsed      an id or a key was used before, for something else
│   ├── Fenced           the writer's generation is over
│   ├── OutOfRange       beyond the end of the volume, or a resize that would shrink
│   ├── OutOfSpace       less room than the reserve; deletes and reclaim go on
│   ├── UnknownObject
│   │   ├── UnknownSnapshot
│   │   └── UnknownVolume
│   └── Withdrawn        a tombstone: the undo came first
├── DataLoss             what is stored is not what was written
├── StoreClosed
├── StoreLocked          another process has the folder open
└── UnknownFormat        written by a version of this code that is not this one
"""


class StoreError(Exception):
    """Base of everything a store raises on purpose. Anything else is a bug, or the machine's failure."""


class Refused(StoreError):
    """A definite no. An operation raises it before its first change: the group commit relies on that."""


class AlreadyUsed(Refused):
    """The id or key names something else already; the caller has mixed up two operations."""


class Fenced(Refused):
    """The volume was fenced, restored or deleted since the writer was opened; open a new one, if one may."""


class OutOfRange(Refused):
    """The bytes lie outside the volume, or the new size is below the old."""


class OutOfSpace(Refused):
    """Room is below the reserve, or the disk or the map is full. Nothing of the operation was applied."""


class UnknownObject(Refused):
    """No volume and no snapshot has this id, or it was deleted."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.object_id = object_id


class UnknownSnapshot(UnknownObject):
    pass


class UnknownVolume(UnknownObject):
    pass


class Withdrawn(Refused):
    """The undo (or the delete) of this came before it. The operation is late and must not take effect."""


class DataLoss(StoreError):
    """A checksum is wrong or a piece is missing, at or after this offset. The bytes are never returned."""

    def __init__(self, object_id: str, offset_bytes: int) -> None:
        super().__init__(object_id, offset_bytes)
        self.object_id = object_id
        self.offset_bytes = offset_bytes

    def __str__(self) -> str:
        return f"{self.object_id} is damaged at byte {self.offset_bytes}"


class StoreClosed(StoreError):
    pass


class StoreLocked(StoreError):
    def __init__(self, folder: str, holder: str) -> None:
        """`holder` is empty when it has not yet said who it is."""
        super().__init__(folder, holder)
        self.folder = folder
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.folder} is in use by {self.holder or 'another process'}"


class UnknownFormat(StoreError):
    pass
