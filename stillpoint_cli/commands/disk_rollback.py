"""What is known to stand in the way of rolling one disk back, said before anybody is asked whether to do it.

The RPCs that roll one disk back have no dry run. The services say the last word: this only spares a question in vain.
"""

from collections.abc import Iterator

from stillpoint.compute.v1.instance_pb2 import Instance
from stillpoint.compute.v1.instance_service_pb2 import GetInstanceRequest
from stillpoint.disk.v1.disk_pb2 import Disk
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint_cli.connections import Connections
from stillpoint_cli.errors import Failure
from stillpoint_cli.output import enum_name
from stillpoint_cli.pasting import command

_STOPPED = frozenset({Instance.STATE_STOPPED, Instance.STATE_STOPPED_NO_CHARGE})


def refuse_rollback(connections: Connections, disk: Disk, target: DiskSnapshot) -> None:
    """Raises Failure with everything that stands in the way now."""
    things = [*_about_instance(connections, disk.instance_id), *_about_disk(disk, target)]
    if things:
        raise Failure("\n  • ".join([f"{disk.id} cannot be rolled back now", *things]))


def _about_instance(connections: Connections, instance_id: str) -> Iterator[str]:
    if not instance_id:
        return
    instance = connections.instances.GetInstance(GetInstanceRequest(instance_id=instance_id)).instance
    state = enum_name(Instance.State.Name, instance.state, "STATE_")
    if instance.state == Instance.STATE_RUNNING:
        yield f"instance {instance_id} is {state}: stop it first, {command('instance', 'stop', instance_id)}"
    elif instance.state not in _STOPPED:
        yield f"instance {instance_id} is {state}; it must be STOPPED or STOPPED_NO_CHARGE"
    if instance.operation_id:
        yield f"operation {instance.operation_id} holds instance {instance_id}"


def _about_disk(disk: Disk, target: DiskSnapshot) -> Iterator[str]:
    if disk.operation_id:
        state = enum_name(Disk.State.Name, disk.state, "STATE_")
        yield f"operation {disk.operation_id} holds the disk, which is {state}"
    if target.disk_id != disk.id:
        yield f"{target.id} is a snapshot of {target.disk_id}, not of this disk"
    if target.state != DiskSnapshot.STATE_AVAILABLE:
        state = enum_name(DiskSnapshot.State.Name, target.state, "STATE_")
        yield f"snapshot {target.id} is {state}; it must be AVAILABLE"
