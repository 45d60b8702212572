"""Devices where a lease, which keeps two disks from being attached at once, is not there to do so."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from disk_svc.migrations import SCHEMA
from disk_svc.repository import disk_rows
from disk_svc.service.devices import data_devices
from disk_svc.states import Attachment, Role, Task
from svckit.database import Database

_DISK = {
    "name": "d",
    "account_id": "local",
    "region": "local",
    "role": Role.DATA,
    "attachment": Attachment.MOUNTED,
    "task": Task.NONE,
    "task_operation_id": "",
    "size_bytes": 1 << 20,
    "source_snapshot_id": "",
    "description": "",
    "labels": {},
}


def test_no_two_disks_are_one_device_of_an_instance_whoever_attaches_them(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'disk.db'}", connections=1)
    SCHEMA.migrate(database)
    try:
        with database.write() as session:
            places = [("i-1", "vdb"), ("i-2", "vdb"), ("i-1", "vdc")]
            rows = [
                {**_DISK, "id": f"disk-{number}", "instance_id": instance_id, "device": device}
                for number, (instance_id, device) in enumerate(places)
            ]
            disk_rows.add_disks(session, rows)
        with pytest.raises(sa.exc.IntegrityError), database.write() as session:
            disk_rows.add_disks(session, [{**_DISK, "id": "d", "instance_id": "i-1", "device": "vdb"}])
    finally:
        database.dispose()


def test_a_device_that_is_free_between_others_comes_before_those_after_them():
    assert next(data_devices(taken={"vda", "vdb", "vdd"})) == "vdc"
