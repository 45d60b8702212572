"""stillpoint.compute.v1.ParticipantService: the lease on an instance, as steps of snapshot_svc's sagas."""

import pytest

from stillpoint.compute.v1 import instance_pb2
from stillpoint.compute.v1 import participant_service_pb2 as pb
from tests.contract.cloud import ACCOUNT, Cloud, an_unknown_id
from tests.contract.error_tables import COMPUTE
from tests.contract.inside import STOPPED, Inside, release_of, step_withdrawn
from tests.contract.refusals import invalid, refused


def leases(inside: Inside) -> dict[str, str]:
    """Operation by instance, a page at a time."""
    found: dict[str, str] = {}
    request = pb.ListLeasesRequest(page_size=2)
    while True:
        answer = inside.compute.ListLeases(request)
        found |= {lease.instance_id: lease.operation_id for lease in answer.leases}
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


class TestLeaseInstance:
    def test_gives_the_operation_the_instance_until_it_is_released(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        answer = inside.compute.LeaseInstance(request)
        assert answer.instance == cloud.instance(machine.id)
        assert answer.instance.operation_id == request.operation_id
        assert leases(inside)[machine.id] == request.operation_id
        inside.compute.ReleaseInstance(release_of(request))
        assert not cloud.instance(machine.id).operation_id
        assert machine.id not in leases(inside)

    def test_the_same_key_again_has_one_effect_and_gets_the_same_answer(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        first = inside.compute.LeaseInstance(request)
        assert inside.compute.LeaseInstance(request) == first
        inside.compute.ReleaseInstance(release_of(request))

    def test_a_call_that_comes_after_its_undo_is_refused(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(request)
        inside.compute.ReleaseInstance(release_of(request))
        with step_withdrawn() as refusal:
            inside.compute.LeaseInstance(request)
        assert refusal.metadata == {"key": request.key}
        assert not cloud.instance(machine.id).operation_id

    def test_an_undo_of_what_never_happened_does_nothing_and_refuses_the_late_call(
        self, cloud: Cloud, inside: Inside
    ):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id)
        for _ in range(2):
            inside.compute.ReleaseInstance(release_of(request))
        with step_withdrawn():
            inside.compute.LeaseInstance(request)
        assert not cloud.instance(machine.id).operation_id

    def test_an_undo_leaves_the_lease_of_another_operation(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        late = inside.lease_request(machine.id)
        with inside.leased(machine.id) as operation_id:
            inside.compute.ReleaseInstance(release_of(late))
            assert cloud.instance(machine.id).operation_id == operation_id

    def test_a_refused_call_may_be_made_again_with_its_key(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id, allowed=STOPPED)
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE):
            inside.compute.LeaseInstance(request)
        cloud.stop(machine.id)
        inside.compute.LeaseInstance(request)
        inside.compute.ReleaseInstance(release_of(request))

    @pytest.mark.parametrize("validate_only", [False, True])
    def test_fails_when_the_instance_is_not_there(self, inside: Inside, validate_only: bool):
        with refused("NOT_FOUND", "INSTANCE_NOT_FOUND", COMPUTE):
            inside.compute.LeaseInstance(
                inside.lease_request(an_unknown_id("i"), validate_only=validate_only)
            )

    def test_fails_when_the_instance_is_in_no_allowed_state(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with refused("FAILED_PRECONDITION", "INSTANCE_STATE", COMPUTE) as refusal:
            inside.compute.LeaseInstance(inside.lease_request(machine.id, allowed=STOPPED))
        assert refusal.metadata == {"instance_id": machine.id, "state": "RUNNING"}

    def test_fails_when_another_operation_has_the_lease(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with inside.leased(machine.id) as operation_id:
            with refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE) as refusal:
                inside.compute.LeaseInstance(inside.lease_request(machine.id))
        assert refusal.metadata["operation_id"] == operation_id

    def test_fails_for_an_account_in_debt_only_where_asked(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        with cloud.account_in_debt():
            with refused("FAILED_PRECONDITION", "ACCOUNT_IN_DEBT", COMPUTE):
                inside.compute.LeaseInstance(inside.lease_request(machine.id, requires_good_standing=True))
            with inside.leased(machine.id):
                pass

    def test_fails_for_everything_at_once_in_one_answer(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id, allowed=STOPPED, requires_good_standing=True)
        with cloud.account_in_debt(), inside.leased(machine.id):
            with refused("FAILED_PRECONDITION", "PRECONDITIONS", COMPUTE) as refusal:
                inside.compute.LeaseInstance(request)
        assert sorted(refusal.violations) == [
            ("ACCOUNT_IN_DEBT", f"account/{ACCOUNT}"),
            ("INSTANCE_BUSY", f"instance/{machine.id}"),
            ("INSTANCE_STATE", f"instance/{machine.id}"),
        ]

    def test_validating_changes_nothing_and_uses_up_no_key(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance()
        request = inside.lease_request(machine.id, validate_only=True)
        before = cloud.instance(machine.id)
        assert inside.compute.LeaseInstance(request).instance == before
        assert cloud.instance(machine.id) == before
        with inside.leased(machine.id), refused("FAILED_PRECONDITION", "INSTANCE_BUSY", COMPUTE):
            inside.compute.LeaseInstance(request)
        request.validate_only = False
        inside.compute.LeaseInstance(request)
        inside.compute.ReleaseInstance(release_of(request))


class TestReleaseInstance:
    def test_an_unspecified_outcome_leaves_what_an_earlier_rollback_left(self, cloud: Cloud, inside: Inside):
        machine = cloud.an_instance(stopped=True)
        lease = inside.lease_request(machine.id)
        inside.compute.LeaseInstance(lease)
        inside.compute.ReleaseInstance(
            release_of(lease, pb.ReleaseInstanceRequest.ROLLBACK_OUTCOME_INCOMPLETE)
        )
        with inside.leased(machine.id):
            pass
        with refused("FAILED_PRECONDITION", "ROLLBACK_INCOMPLETE", COMPUTE):
            cloud.start(machine.id)
        assert cloud.instance(machine.id).state == instance_pb2.Instance.STATE_STOPPED


class TestListLeases:
    def test_lists_newest_instance_first(self, cloud: Cloud, inside: Inside):
        machines = [cloud.an_instance() for _ in range(3)]
        requests = [inside.lease_request(machine.id) for machine in machines]
        for request in requests:
            inside.compute.LeaseInstance(request)
        try:
            listed = inside.compute.ListLeases(pb.ListLeasesRequest(page_size=3)).leases
            assert [(lease.instance_id, lease.operation_id) for lease in listed] == [
                (request.instance_id, request.operation_id) for request in reversed(requests)
            ]
            assert all(lease.HasField("since") for lease in listed)
            assert leases(inside).keys() >= {machine.id for machine in machines}
        finally:
            for request in requests:
                inside.compute.ReleaseInstance(release_of(request))

    def test_fails_when_the_token_is_none(self, inside: Inside):
        with refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"):
            inside.compute.ListLeases(pb.ListLeasesRequest(page_token="junk"))

    def test_fails_when_page_size_is_negative(self, inside: Inside):
        with invalid("page_size"):
            inside.compute.ListLeases(pb.ListLeasesRequest(page_size=-1))
