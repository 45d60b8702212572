"""disk_svc without its servers: a replica is what a second process on the same database would be."""

from datetime import UTC, datetime

from disk_svc.blockstore import BlockStore
from disk_svc.migrations import SCHEMA
from disk_svc.models import AutoSnapshotPolicy
from disk_svc.repository import policy_rows
from disk_svc.sagas import disks as disk_sagas
from disk_svc.sagas import policies as policy_sagas
from disk_svc.sagas import snapshots as snapshot_sagas
from disk_svc.service.automatic_snapshots import AutomaticSnapshots
from disk_svc.service.disks import Disks, InstanceDisk
from disk_svc.service.expiry import Expiry
from disk_svc.service.points import Points
from disk_svc.service.policies import Policies
from disk_svc.service.realm import Realm
from disk_svc.service.reservations import Rollbacks
from disk_svc.service.scheduler import Scheduler
from disk_svc.service.snapshots import Snapshots
from disk_svc.states import Kind, Role
from svckit.database import Database
from svckit.ids import new_id
from svckit.mutations import Mutations
from svckit.saga import SagaEngine

ACCOUNT = "local"
QUOTA = 4
BEGIN = datetime(2031, 1, 6, tzinfo=UTC)
EVERY_DAY = [1, 2, 3, 4, 5, 6, 7]


def prepare(url: str) -> None:
    database = Database(url, connections=1)
    SCHEMA.migrate(database)
    database.dispose()


class Replica:
    """Its clock stands where the test puts it."""

    def __init__(self, url: str, store: BlockStore) -> None:
        self.now = BEGIN
        self.database = Database(url, connections=12)
        self.realm = Realm(self.database, store, "local", {Kind.MANUAL: QUOTA, Kind.AUTOMATIC: QUOTA})
        self.disks = Disks(self.realm)
        self.points = Points(self.realm)
        self.snapshots = Snapshots(self.realm, self.disks, self.points, self._clock)
        self.policies = Policies(self.realm, self._clock)
        self.automatic = AutomaticSnapshots(self.realm, self.disks, self.points, self._clock)
        self.engine = SagaEngine(
            self.database,
            [
                *disk_sagas.definitions(self.realm, self.disks, Rollbacks(self.realm)),
                *snapshot_sagas.definitions(self.realm, self.points, self.snapshots),
                policy_sagas.definition(self.automatic, self.points),
            ],
            operation_prefix="op-d",
            region="local",
            workers=4,
            lease_seconds=30.0,
        )
        mutations = Mutations(self.engine)
        self.scheduler = Scheduler(self.realm, mutations, self._clock)
        self.expiry = Expiry(self.realm, self.snapshots, mutations, self._clock)

    def _clock(self) -> datetime:
        return self.now

    def close(self) -> None:
        self.engine.stop()
        self.database.dispose()

    def a_disk(self) -> str:
        operation_id, disk_id = new_id("op-c"), new_id("disk")
        self.disks.create_for_instance(
            f"{operation_id}/create_disks",
            operation_id,
            ACCOUNT,
            new_id("i"),
            [InstanceDisk(disk_id, "d", Role.SYSTEM, 1 << 20, "")],
        )
        return disk_id

    def a_policy(self, *disk_ids: str, hours: list[int], keep_count: int | None = None) -> str:
        settings = {
            "name": "policy",
            "weekdays": EVERY_DAY,
            "hours": hours,
            "time_zone": "UTC",
            "retention_days": None,
            "retention_count": keep_count,
            "disk_ids": disk_ids,
        }
        policy_id = new_id("asp")
        with self.database.write() as session:
            self.policies.create(session, policy_id, settings)
        return policy_id

    def set_policy(self, policy_id: str, *disk_ids: str, **retention: int | None) -> None:
        """Make it, or change it."""
        settings = {"disk_ids": disk_ids, **retention}
        made = {"name": "policy", "weekdays": EVERY_DAY, "hours": [0], "time_zone": "UTC"}
        with self.database.write() as session:
            if policy_rows.find(session, account_id=ACCOUNT, region="local", policy_id=policy_id):
                self.policies.update(session, policy_id, settings)
            else:
                self.policies.create(session, policy_id, made | settings)

    def policy(self, policy_id: str) -> AutoSnapshotPolicy:
        with self.database.read() as session:
            return self.policies.get(session, policy_id)
