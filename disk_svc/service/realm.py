"""What every room of the service works in."""

from dataclasses import dataclass

from disk_svc.blockstore import BlockStore
from disk_svc.models import Disk
from disk_svc.states import Kind
from svckit.database import Database


@dataclass(frozen=True, slots=True)
class Realm:
    """One region's rows and bytes, and how many snapshots of each kind a disk may have."""

    database: Database
    store: BlockStore
    region: str
    quotas: dict[Kind, int]


def is_on(disk: Disk, instance_id: str) -> bool:
    return bool(instance_id) and disk.instance_id == instance_id
