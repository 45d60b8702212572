"""The public RPCs on automatic snapshot policies: proto to use case and back. No SQL, no rules."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from disk_svc import convert, policy_repository
from disk_svc.service.policies import Policies
from disk_svc.service.realm import Realm
from disk_svc.service.slots import is_time_zone
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as pb
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2_grpc
from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy, Weekday
from svckit import paging
from svckit.caller import current_caller
from svckit.field_mask import fields_to_change
from svckit.ids import new_id
from svckit.mutations import Mutations
from svckit.validation import Checks

_MOST_DISKS = 100
_MOST_DAYS = 65535
_MOST_SNAPSHOTS = 256
_RETENTION = frozenset({"retention_days", "retention_count"})


class AutoSnapshotPolicyServicer(auto_snapshot_policy_service_pb2_grpc.AutoSnapshotPolicyServiceServicer):
    """stillpoint.disk.v1.AutoSnapshotPolicyService."""

    def __init__(self, realm: Realm, policies: Policies, mutations: Mutations) -> None:
        self._realm = realm
        self._policies = policies
        self._mutations = mutations

    def CreateAutoSnapshotPolicy(
        self, request: pb.CreateAutoSnapshotPolicyRequest, context: Any
    ) -> pb.CreateAutoSnapshotPolicyResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            settings = _settings(check, request.policy, _CHECKS)
        policy_id = new_id("asp")
        return self._mutations.direct(
            request,
            policy_id,
            lambda session: pb.CreateAutoSnapshotPolicyResponse(
                policy=convert.policy(self._policies.create(session, policy_id, settings))
            ),
            pb.CreateAutoSnapshotPolicyResponse,
        )

    def GetAutoSnapshotPolicy(
        self, request: pb.GetAutoSnapshotPolicyRequest, context: Any
    ) -> pb.GetAutoSnapshotPolicyResponse:
        with Checks() as check:
            check.resource_id("policy_id", request.policy_id)
        with self._realm.database.read() as session:
            policy = self._policies.get(session, request.policy_id)
        return pb.GetAutoSnapshotPolicyResponse(policy=convert.policy(policy))

    def ListAutoSnapshotPolicies(
        self, request: pb.ListAutoSnapshotPoliciesRequest, context: Any
    ) -> pb.ListAutoSnapshotPoliciesResponse:
        with Checks() as check:
            check.page_size(request.page_size)
            check.resource_id("filter.disk_id", request.filter.disk_id, required=False)
        with self._realm.database.read() as session:
            policies, next_page_token = policy_repository.list_policies(
                session,
                paging.Page.of(request, request.filter),
                account_id=current_caller().account_id,
                region=self._realm.region,
                disk_id=request.filter.disk_id,
            )
        return pb.ListAutoSnapshotPoliciesResponse(
            policies=[convert.policy(policy) for policy in policies], next_page_token=next_page_token
        )

    def UpdateAutoSnapshotPolicy(
        self, request: pb.UpdateAutoSnapshotPolicyRequest, context: Any
    ) -> pb.UpdateAutoSnapshotPolicyResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("policy.id", request.policy.id)
            changed = fields_to_change(check, request.policy, request.update_mask, _CHECKS)
            settings = _settings(check, request.policy, changed)
        return self._mutations.direct(
            request,
            request.policy.id,
            lambda session: pb.UpdateAutoSnapshotPolicyResponse(
                policy=convert.policy(self._policies.update(session, request.policy.id, settings))
            ),
            pb.UpdateAutoSnapshotPolicyResponse,
        )

    def DeleteAutoSnapshotPolicy(
        self, request: pb.DeleteAutoSnapshotPolicyRequest, context: Any
    ) -> pb.DeleteAutoSnapshotPolicyResponse:
        with Checks() as check:
            check.request_id(request.request_id)
            check.resource_id("policy_id", request.policy_id)

        def change(session: Any) -> pb.DeleteAutoSnapshotPolicyResponse:
            self._policies.delete(session, request.policy_id)
            return pb.DeleteAutoSnapshotPolicyResponse()

        return self._mutations.direct(request, request.policy_id, change, pb.DeleteAutoSnapshotPolicyResponse)


def _settings(check: Checks, policy: AutoSnapshotPolicy, fields: Collection[str]) -> Mapping[str, Any]:
    """The columns of these fields, checked. Of a retention both fields are one choice."""
    chosen = {*fields, *(_RETENTION if _RETENTION.intersection(fields) else ())}
    for field in chosen:
        _CHECKS[field](check, f"policy.{field}", policy)
    return {name: value for name, value in convert.policy_settings(policy).items() if name in chosen}


def _check_weekdays(check: Checks, field: str, policy: AutoSnapshotPolicy) -> None:
    _check_each_once(check, field, policy.weekdays)
    for weekday in set(policy.weekdays):
        check.enum_value(field, weekday, Weekday.values(), required=True)


def _check_hours(check: Checks, field: str, policy: AutoSnapshotPolicy) -> None:
    _check_each_once(check, field, policy.hours)
    for hour in set(policy.hours):
        check.that(0 <= hour <= 23, field, f"has {hour}, which is not an hour from 0 to 23")


def _check_each_once(check: Checks, field: str, values: Collection[object]) -> None:
    check.that(bool(values), field, "is empty")
    for value, times in Counter(values).items():
        check.that(times == 1, field, f"has {value!r} {times} times")


def _check_time_zone(check: Checks, field: str, policy: AutoSnapshotPolicy) -> None:
    known = not policy.time_zone or is_time_zone(policy.time_zone)
    check.that(known, field, "is not the IANA name of a time zone")


def _check_retention(check: Checks, field: str, policy: AutoSnapshotPolicy) -> None:
    name = field.partition(".")[2]
    most = _MOST_DAYS if name == "retention_days" else _MOST_SNAPSHOTS
    if policy.WhichOneof("retention") == name:
        check.that(1 <= getattr(policy, name) <= most, field, f"is not between 1 and {most}")


def _check_disk_ids(check: Checks, field: str, policy: AutoSnapshotPolicy) -> None:
    many = len(policy.disk_ids)
    check.that(many <= _MOST_DISKS, field, f"has {many} ids, which is more than {_MOST_DISKS}")
    for disk_id, times in Counter(policy.disk_ids[:_MOST_DISKS]).items():
        check.resource_id(field, disk_id)
        check.that(times == 1, field, f"has {disk_id!r} {times} times")


_CHECKS: Mapping[str, Callable[[Checks, str, AutoSnapshotPolicy], None]] = {
    "name": lambda check, field, policy: check.name(field, policy.name),
    "weekdays": _check_weekdays,
    "hours": _check_hours,
    "time_zone": _check_time_zone,
    "retention_days": _check_retention,
    "retention_count": _check_retention,
    "disk_ids": _check_disk_ids,
}
"""Of every field that a client sets."""
