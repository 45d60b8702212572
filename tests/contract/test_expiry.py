"""Snapshots that expire: what a client may ask for, and what becomes of them, by a clock that the tests move."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint.disk.v1 import disk_snapshot_service_pb2, participant_service_pb2
from stillpoint.disk.v1.disk_snapshot_pb2 import DiskSnapshot
from stillpoint.operation.v1 import event_service_pb2
from stillpoint.operation.v1.operation_pb2 import Operation
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2
from stillpoint.snapshot.v1.instance_snapshot_pb2 import InstanceSnapshot
from stillpoint_cli.addresses import Service
from svckit.clock import to_timestamp
from tests.contract.cloud import Cloud, a_request_id
from tests.contract.error_tables import DISK
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.resources import DISK_SNAPSHOT, INSTANCE_SNAPSHOT, Resource
from tests.contract.test_policies_at_work import PutClock, delete
from tests.contract.troubled import TroubledCloud
from tests.support.waiting import eventually

DAY = timedelta(days=1)
FAR = Timestamp(seconds=4102444800)  # 2100
NOW = datetime(2041, 5, 5, 12, tzinfo=UTC)
each_kind = pytest.mark.parametrize("kind", [DISK_SNAPSHOT, INSTANCE_SNAPSHOT], ids=str)
NO_TIMES = [
    Timestamp(seconds=1 << 60),
    Timestamp(seconds=-(1 << 60)),
    Timestamp(seconds=FAR.seconds, nanos=-1),
]


@pytest.fixture
def put_clock(troubled: TroubledCloud) -> Iterator[PutClock]:
    with troubled.clock() as put:
        put(NOW)
        yield put


@pytest.fixture(scope="module")
def within(troubled: TroubledCloud) -> Inside:
    return Inside(troubled)


def of_disk(
    cloud: Cloud, disk_id: str, expire_time: Timestamp | datetime | None, request_id: str = ""
) -> DiskSnapshot:
    if isinstance(expire_time, datetime):
        expire_time = to_timestamp(expire_time)
    answer = cloud.disk_snapshots.CreateDiskSnapshot(
        disk_snapshot_service_pb2.CreateDiskSnapshotRequest(
            request_id=request_id, disk_id=disk_id, expire_time=expire_time
        )
    )
    cloud.finish(answer.operation_id)
    return answer.snapshot


def of_instance(
    cloud: Cloud, instance_id: str, expire_time: Timestamp | datetime, *, validate_only: bool = False
) -> InstanceSnapshot:
    if isinstance(expire_time, datetime):
        expire_time = to_timestamp(expire_time) or Timestamp()
    answer = cloud.instance_snapshots.CreateInstanceSnapshot(
        instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
            instance_id=instance_id, expire_time=expire_time, validate_only=validate_only
        )
    )
    if not validate_only:
        cloud.finish(answer.operation_id)
    return answer.instance_snapshot


def snapshots_of(cloud: Cloud, disk_id: str) -> list[str]:
    return [snapshot.id for snapshot in cloud.snapshots_of(disk_id=disk_id)]


def is_gone(cloud: Cloud, whole: InstanceSnapshot) -> bool:
    return whole.id not in {each.id for each in cloud.instance_snapshots_of(whole.instance_id)}


def deletions_of(cloud: Cloud, service: Service, resource_id: str) -> list[Operation]:
    return [each for each in cloud.operations_on(service, resource_id) if each.kind.startswith("delete_")]


class TestAsking:
    def test_a_disk_snapshot_says_when_it_expires(self, cloud: Cloud):
        snapshot = of_disk(cloud, cloud.a_disk(), FAR)
        assert snapshot.expire_time == FAR == cloud.disk_snapshot(snapshot.id).expire_time

    def test_an_instance_snapshot_says_when_it_expires_and_its_members_do_not_on_their_own(
        self, cloud: Cloud
    ):
        whole = of_instance(cloud, cloud.an_instance().id, FAR)
        assert whole.expire_time == FAR == cloud.instance_snapshot(whole.id).expire_time
        [member] = cloud.instance_snapshot(whole.id).members
        assert not cloud.disk_snapshot(member.snapshot_id).HasField("expire_time")

    def test_without_an_expire_time_neither_has_one(self, cloud: Cloud):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        assert not whole.HasField("expire_time")
        assert not cloud.disk_snapshot(cloud.a_disk_snapshot()).HasField("expire_time")

    def test_a_validation_says_when_it_would_expire(self, cloud: Cloud):
        machine = cloud.an_instance()
        assert of_instance(cloud, machine.id, FAR, validate_only=True).expire_time == FAR
        assert not cloud.instance_snapshots_of(machine.id)

    @pytest.mark.parametrize("malformed", NO_TIMES)
    def test_fails_when_the_expire_time_is_no_time(self, cloud: Cloud, malformed: Timestamp):
        machine = cloud.an_instance()
        with invalid("expire_time"):
            of_disk(cloud, machine.system_disk_id, malformed)
        with invalid("expire_time"):
            of_instance(cloud, machine.id, malformed)

    @pytest.mark.parametrize("ago", [timedelta(0), DAY])
    def test_fails_when_the_expire_time_has_passed(self, cloud: Cloud, ago: timedelta):
        machine, past = cloud.an_instance(), datetime.now(UTC) - ago
        with invalid("expire_time"):
            of_disk(cloud, machine.system_disk_id, past)
        for validate_only in (False, True):
            with invalid("expire_time"):
                of_instance(cloud, machine.id, past, validate_only=validate_only)
        assert snapshots_of(cloud, machine.system_disk_id) == []

    def test_a_request_that_is_repeated_after_its_expire_time_gets_its_first_answer(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        disk_id, request_id = troubled.a_disk(), a_request_id()
        first = of_disk(troubled, disk_id, NOW + DAY, request_id)
        put_clock(NOW + 2 * DAY)
        assert of_disk(troubled, disk_id, NOW + DAY, request_id) == first


class TestAskingAgain:
    """Of UpdateDiskSnapshot and UpdateInstanceSnapshot."""

    @each_kind
    def test_a_snapshot_gets_a_time_another_one_and_none(self, cloud: Cloud, kind: Resource):
        snapshot = kind.make(cloud)
        for expire_time in (FAR, Timestamp(seconds=FAR.seconds + 1)):
            changed = kind.update(cloud, {"id": snapshot.id, "expire_time": expire_time})
            assert changed.expire_time == expire_time
            assert changed.name == snapshot.name
            assert kind.get(cloud, snapshot.id) == changed
        assert kind.update(cloud, {"id": snapshot.id, "name": "renamed"}).HasField("expire_time")
        assert not kind.update(cloud, {"id": snapshot.id}, "expire_time").HasField("expire_time")

    @each_kind
    def test_fails_when_the_expire_time_is_no_time_or_has_passed(self, cloud: Cloud, kind: Resource):
        snapshot = kind.make(cloud)
        for wrong in (*NO_TIMES, to_timestamp(datetime.now(UTC))):
            with invalid(f"{kind.field}.expire_time"):
                kind.update(cloud, {"id": snapshot.id, "name": "renamed", "expire_time": wrong})
        assert kind.get(cloud, snapshot.id) == snapshot

    @pytest.mark.parametrize("expire_time", [FAR, None])
    def test_fails_when_the_snapshot_is_a_member_of_an_instance_snapshot(
        self, cloud: Cloud, expire_time: Timestamp | None
    ):
        whole = cloud.an_instance_snapshot(cloud.an_instance().id)
        [member] = whole.members
        changed = {"id": member.snapshot_id, "name": "renamed", "expire_time": expire_time}
        with refused("FAILED_PRECONDITION", "EXPIRY_NOT_OWN", DISK) as refusal:
            DISK_SNAPSHOT.update(cloud, changed, "name", "expire_time")
        assert refusal.metadata == {"snapshot_id": member.snapshot_id, "instance_snapshot_id": whole.id}
        assert refusal.violations == [("EXPIRY_NOT_OWN", f"snapshot/{member.snapshot_id}")]
        assert cloud.disk_snapshot(member.snapshot_id).name != "renamed"

    def test_fails_when_a_policy_has_taken_the_snapshot(self, troubled: TroubledCloud, put_clock: PutClock):
        policy = troubled.a_policy(troubled.a_disk())
        put_clock(policy.next_slot_time.ToDatetime(UTC))
        [result] = eventually(lambda: troubled.policy(policy.id).results, what="the slot")
        with refused("FAILED_PRECONDITION", "EXPIRY_NOT_OWN", DISK) as refusal:
            DISK_SNAPSHOT.update(troubled, {"id": result.snapshot_id, "expire_time": FAR})
        assert refusal.metadata == {"snapshot_id": result.snapshot_id, "policy_id": policy.id}
        renamed = DISK_SNAPSHOT.update(troubled, {"id": result.snapshot_id, "name": "renamed"})
        assert (renamed.name, renamed.policy_id) == ("renamed", policy.id)
        delete(troubled, policy.id)

    def test_a_snapshot_that_got_more_time_stays_until_then(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        disk_id, witness = troubled.a_disk(), troubled.a_disk()
        snapshot = of_disk(troubled, disk_id, NOW + DAY)
        of_disk(troubled, witness, NOW + DAY)
        DISK_SNAPSHOT.update(troubled, {"id": snapshot.id, "expire_time": to_timestamp(NOW + 3 * DAY)})
        put_clock(NOW + 2 * DAY)
        eventually(lambda: not snapshots_of(troubled, witness), what="the witness's expiry")
        assert snapshots_of(troubled, disk_id) == [snapshot.id]
        put_clock(NOW + 3 * DAY)
        eventually(lambda: not snapshots_of(troubled, disk_id), what="its expiry")


class TestExpiring:
    def test_a_disk_snapshot_is_deleted_when_its_time_has_come_and_not_before(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        disk_id = troubled.a_disk()
        kept = of_disk(troubled, disk_id, None).id
        late = of_disk(troubled, disk_id, NOW + 2 * DAY).id
        soon = of_disk(troubled, disk_id, NOW + DAY).id
        put_clock(NOW + DAY - timedelta(microseconds=1))
        assert snapshots_of(troubled, disk_id) == [soon, late, kept]
        put_clock(NOW + DAY)
        eventually(lambda: snapshots_of(troubled, disk_id) == [late, kept], what="the first expiry")
        put_clock(NOW + 3 * DAY)
        eventually(lambda: snapshots_of(troubled, disk_id) == [kept], what="the second expiry")
        [deletion] = deletions_of(troubled, Service.DISK, soon)
        assert troubled.finish(deletion.id).kind == "delete_disk_snapshot"

    def test_expiry_is_who_asked(self, troubled: TroubledCloud, put_clock: PutClock):
        disk_id = troubled.a_disk()
        snapshot_id = of_disk(troubled, disk_id, NOW + DAY).id
        put_clock(NOW + DAY)
        eventually(lambda: not snapshots_of(troubled, disk_id), what="its expiry")
        [deletion] = deletions_of(troubled, Service.DISK, snapshot_id)
        request = event_service_pb2.ListEventsRequest(
            filter=event_service_pb2.ListEventsRequest.Filter(operation_id=deletion.id)
        )
        events = troubled.events[Service.DISK].ListEvents(request).events
        assert {event.actor for event in events} == {"expiry"}

    def test_a_disk_snapshot_in_use_goes_when_it_no_longer_is(
        self, troubled: TroubledCloud, within: Inside, put_clock: PutClock
    ):
        disk_id, witness = troubled.a_disk(), troubled.a_disk()
        in_use = of_disk(troubled, disk_id, NOW + DAY).id
        of_disk(troubled, witness, NOW + DAY)
        with within.being_made(in_use):
            put_clock(NOW + DAY)
            eventually(lambda: not snapshots_of(troubled, witness), what="the witness's expiry")
            assert snapshots_of(troubled, disk_id) == [in_use]
            assert troubled.disk_snapshot(in_use).state == DiskSnapshot.STATE_AVAILABLE
        eventually(lambda: not snapshots_of(troubled, disk_id), what="its expiry")

    def test_what_expires_while_the_service_is_away_goes_when_it_is_back(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        machine = troubled.an_instance()
        whole = of_instance(troubled, machine.id, NOW + DAY)
        alone = of_disk(troubled, machine.system_disk_id, NOW + DAY)
        with troubled.without(Service.DISK), troubled.without(Service.SNAPSHOT):
            put_clock(NOW + DAY)
        eventually(
            lambda: (
                not troubled.instance_snapshots_of(machine.id)
                and not snapshots_of(troubled, machine.system_disk_id)
            ),
            what=f"the expiry of {whole.id} and {alone.id}",
        )

    def test_an_instance_snapshot_is_deleted_whole(self, troubled: TroubledCloud, put_clock: PutClock):
        machine = troubled.an_instance(data_disks=2)
        whole = of_instance(troubled, machine.id, NOW + DAY)
        kept = troubled.an_instance_snapshot(machine.id)
        put_clock(NOW + DAY)
        eventually(
            lambda: [each.id for each in troubled.instance_snapshots_of(machine.id)] == [kept.id],
            what="its expiry",
        )
        assert troubled.snapshots_of(instance_snapshot_id=whole.id) == []
        assert len(troubled.snapshots_of(instance_snapshot_id=kept.id)) == 3
        [deletion] = deletions_of(troubled, Service.SNAPSHOT, whole.id)
        assert troubled.finish(deletion.id).kind == "delete_instance_snapshot"

    def test_an_instance_snapshot_with_a_member_in_use_stays_whole_and_goes_when_it_no_longer_is(
        self, troubled: TroubledCloud, within: Inside, put_clock: PutClock
    ):
        machine = troubled.an_instance(data_disks=1)
        whole = troubled.instance_snapshot(of_instance(troubled, machine.id, NOW + DAY).id)
        with within.being_made(whole.members[1].snapshot_id):
            put_clock(NOW + DAY)
            refused = eventually(
                lambda: [
                    each
                    for each in deletions_of(troubled, Service.SNAPSHOT, whole.id)
                    if each.state == Operation.STATE_FAILED
                ],
                what="a refused deletion",
            )
            assert refused[0].error.reason == "SNAPSHOT_IN_USE"
            assert len(troubled.snapshots_of(instance_snapshot_id=whole.id)) == 2
        eventually(lambda: not troubled.instance_snapshots_of(machine.id), what="its expiry")
        assert troubled.snapshots_of(instance_snapshot_id=whole.id) == []

    def test_an_expired_instance_snapshot_that_an_operation_works_on_waits_for_it(
        self, troubled: TroubledCloud, put_clock: PutClock
    ):
        machine = troubled.an_instance(stopped=True)
        whole = of_instance(troubled, machine.id, NOW + DAY)
        with troubled.store_fails("restore", "broken"):
            rollback = troubled.instance_snapshots.RollbackInstanceSnapshot(
                instance_snapshot_service_pb2.RollbackInstanceSnapshotRequest(instance_snapshot_id=whole.id)
            )
            put_clock(NOW + DAY)
            witness = of_instance(troubled, troubled.an_instance().id, NOW + DAY + timedelta(seconds=1))
            put_clock(NOW + 2 * DAY)
            eventually(lambda: is_gone(troubled, witness), what="the witness's expiry")
            assert troubled.instance_snapshot(whole.id).state == InstanceSnapshot.STATE_ROLLING_BACK
        troubled.finish(rollback.operation_id)
        eventually(lambda: is_gone(troubled, whole), what="its expiry")

    def test_an_expired_instance_snapshot_whose_members_are_held_is_tried_again_until_they_are_not(
        self, troubled: TroubledCloud, within: Inside, put_clock: PutClock
    ):
        machine = troubled.an_instance()
        whole = troubled.instance_snapshot(of_instance(troubled, machine.id, NOW + DAY).id)
        request = within.deletion_request(whole.id)
        within.disk.ReserveSnapshotDeletion(request)
        put_clock(NOW + DAY)
        [member] = whole.members
        eventually(
            lambda: deletions_of(troubled, Service.SNAPSHOT, whole.id), what="a deletion that is refused"
        )
        assert troubled.disk_snapshot(member.snapshot_id).state == DiskSnapshot.STATE_DELETING
        within.disk.WithdrawSnapshotDeletion(
            participant_service_pb2.WithdrawSnapshotDeletionRequest(key=request.key)
        )
        eventually(lambda: is_gone(troubled, whole), what="its expiry")
