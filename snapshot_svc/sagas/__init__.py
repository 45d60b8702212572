"""The sagas of snapshot_svc, one file each: what the product exists for.

create     lease → cut → seal | → finish → release; from a disk, locate before that
roll back  lease → reserve | → apply → release
delete     reserve | → apply
copy       begin → start → copy | → finish; to another region

The bar is the pivot: before it everything can be undone, and is when a step is refused or the deadline passes; after it
nothing may refuse, and it goes forward until it is done.
"""

from snapshot_svc.clients import Disks, Instances, OtherRegions
from snapshot_svc.sagas import copy, create, delete, rollback
from snapshot_svc.service import SnapshotService
from svckit.saga import SagaDefinition


def definitions(
    service: SnapshotService,
    instances: Instances,
    disks: Disks,
    regions: OtherRegions,
    deadline_seconds: float,
) -> list[SagaDefinition]:
    return [
        *create.definitions(service, instances, disks, deadline_seconds),
        rollback.definition(service, instances, disks, deadline_seconds),
        delete.definition(disks, deadline_seconds),
        copy.definition(disks, regions, deadline_seconds),
    ]
