"""BatchDeleteInstanceSnapshots of stillpoint.snapshot.v1.InstanceSnapshotService."""

from stillpoint.snapshot.v1 import instance_snapshot_pb2
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as pb
from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud, a_request_id, an_unknown_id
from tests.contract.error_tables import SNAPSHOT
from tests.contract.inside import Inside
from tests.contract.refusals import invalid, refused
from tests.contract.troubled import TroubledCloud

State = instance_snapshot_pb2.InstanceSnapshot
Result = pb.BatchDeleteInstanceSnapshotsResponse.Result


def delete(cloud: Cloud, *ids: str, request_id: str = "") -> list[Result]:
    request = pb.BatchDeleteInstanceSnapshotsRequest(request_id=request_id, instance_snapshot_ids=ids)
    return list(cloud.instance_snapshots.BatchDeleteInstanceSnapshots(request).results)


def finish(cloud: Cloud, results: list[Result]) -> None:
    for result in results:
        assert not result.HasField("error"), result
        cloud.finish(result.operation_id)


class TestBatchDeleteInstanceSnapshots:
    def test_deletes_each_with_an_operation_of_its_own_in_the_order_of_the_request(self, cloud: Cloud):
        machine = cloud.an_instance(data_disks=1)
        wholes = [cloud.an_instance_snapshot(machine.id).id for _ in range(4)]
        stays, *go = wholes
        results = delete(cloud, *go[::-1])
        assert [result.instance_snapshot_id for result in results] == go[::-1]
        assert len({result.operation_id for result in results}) == len(go)
        finish(cloud, results)
        assert [snapshot.id for snapshot in cloud.instance_snapshots_of(machine.id)] == [stays]
        assert cloud.disk(machine.system_disk_id).manual_snapshots.used == 1

    def test_one_that_cannot_be_deleted_does_not_keep_the_others(self, cloud: Cloud, inside: Inside):
        machine, unknown = cloud.an_instance(data_disks=1), an_unknown_id("isnap")
        first, in_use, last = (cloud.an_instance_snapshot(machine.id) for _ in range(3))
        with inside.being_made(in_use.members[0].snapshot_id):
            results = delete(cloud, first.id, unknown, "No Id", in_use.id, "\x00", last.id)
        gone, missing, malformed, used, worse, also_gone = results
        finish(cloud, [gone, also_gone])
        assert (missing.error.code, missing.error.reason) == (5, "INSTANCE_SNAPSHOT_NOT_FOUND")
        assert not missing.operation_id
        for each in (malformed, worse):
            assert (each.error.code, each.error.reason) == (3, "INVALID_REQUEST")
        assert (used.error.code, used.error.reason) == (9, "SNAPSHOT_IN_USE")
        [violation] = used.error.violations
        assert (violation.type, used.error.domain) == ("SNAPSHOT_IN_USE", "disk.stillpoint")
        assert violation.subject.startswith("snapshot/snap-")
        assert cloud.rest(used.operation_id).error == used.error
        assert [snapshot.id for snapshot in cloud.instance_snapshots_of(machine.id)] == [in_use.id]
        assert cloud.instance_snapshot(in_use.id).state == State.STATE_AVAILABLE

    def test_deletes_100_at_once(self, cloud: Cloud):
        wholes = [cloud.an_instance_snapshot(cloud.an_instance().id).id for _ in range(20)]
        results = delete(cloud, *wholes, *(an_unknown_id("isnap") for _ in range(80)))
        finish(cloud, results[:20])
        assert {result.error.reason for result in results[20:]} == {"INSTANCE_SNAPSHOT_NOT_FOUND"}

    def test_the_same_request_again_gets_the_first_answer_of_those_that_were_refused_too(
        self, cloud: Cloud, inside: Inside
    ):
        machine, request_id = cloud.an_instance(), a_request_id()
        in_use, goes = (cloud.an_instance_snapshot(machine.id) for _ in range(2))
        ids = [in_use.id, goes.id, an_unknown_id("isnap")]
        with inside.being_made(in_use.members[0].snapshot_id):
            first = delete(cloud, *ids, request_id=request_id)
        finish(cloud, [first[1]])
        assert delete(cloud, *ids, request_id=request_id) == first
        assert cloud.instance_snapshot(in_use.id).state == State.STATE_AVAILABLE
        finish(cloud, delete(cloud, in_use.id, request_id=a_request_id()))

    def test_another_order_is_another_request(self, cloud: Cloud):
        ids, request_id = [an_unknown_id("isnap") for _ in range(2)], a_request_id()
        delete(cloud, *ids, request_id=request_id)
        with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
            delete(cloud, *ids[::-1], request_id=request_id)

    def test_two_batches_of_the_same_ones_in_opposite_order_delete_each_once(self, cloud: Cloud):
        machine = cloud.an_instance()
        ids = [cloud.an_instance_snapshot(machine.id).id for _ in range(4)]
        calls = [
            cloud.instance_snapshots.BatchDeleteInstanceSnapshots.future(
                pb.BatchDeleteInstanceSnapshotsRequest(instance_snapshot_ids=order)
            )
            for order in (ids, ids[::-1])
        ]
        results = [result for call in calls for result in call.result().results]
        for snapshot_id in ids:
            accepted = [
                result
                for result in results
                if result.instance_snapshot_id == snapshot_id and not result.HasField("error")
            ]
            assert len(accepted) == 1
            finish(cloud, accepted)
            assert len(cloud.operations_on(Service.SNAPSHOT, snapshot_id)) == 2  # made, and deleted

    def test_fails_when_it_names_none(self, cloud: Cloud):
        with invalid("instance_snapshot_ids"):
            delete(cloud)

    def test_fails_when_it_names_one_twice_and_deletes_none(self, cloud: Cloud):
        whole, other = (cloud.an_instance_snapshot(cloud.an_instance().id) for _ in range(2))
        with invalid("instance_snapshot_ids") as refusal:
            delete(cloud, whole.id, other.id, whole.id)
        assert whole.id in refusal.message
        assert other.id not in refusal.message
        assert cloud.instance_snapshot(other.id) == other

    def test_fails_when_it_names_101(self, cloud: Cloud):
        with invalid("instance_snapshot_ids") as refusal:
            delete(cloud, *(an_unknown_id("isnap") for _ in range(101)))
        assert "101" in refusal.message

    def test_says_of_each_that_disk_svc_did_not_answer_and_leaves_them(self, troubled: TroubledCloud):
        machine = troubled.an_instance()
        ids = [troubled.an_instance_snapshot(machine.id).id for _ in range(2)]
        with troubled.without(Service.DISK):
            results = delete(troubled, *ids, an_unknown_id("isnap"))
        assert [(result.error.code, result.error.reason) for result in results] == [
            (14, "DEPENDENCY_UNAVAILABLE"),
            (14, "DEPENDENCY_UNAVAILABLE"),
            (5, "INSTANCE_SNAPSHOT_NOT_FOUND"),
        ]
        for result in results[:2]:
            troubled.rest(result.operation_id)
        finish(troubled, delete(troubled, *ids))
        with refused("NOT_FOUND", "INSTANCE_SNAPSHOT_NOT_FOUND", SNAPSHOT):
            troubled.instance_snapshot(ids[0])
