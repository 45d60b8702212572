"""The public RPCs on automatic snapshot policies: proto to use case and back. No SQL, no rules."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.orm import Session

from disk_svc import convert
from disk_svc.repository import policy_rows
from disk_svc.service.policies import Policies
from disk_svc.service.realm import Realm
from disk_svc.service.slots import is_time_zone
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2 as pb
from stillpoint.disk.v1 import auto_snapshot_policy_service_pb2_grpc
from stillpoint.disk.v1.auto_snapshot_policy_pb2 import AutoSnapshotPolicy, Weekday
from svckit import paging, updates
from svckit.caller import current_caller
from svckit.ids import new_id
from svckit.mutations import Mutations
from svckit.validation import Checks

_MOST_DISKS = 100
_DAYS: Mapping[int, str] = {
    value: name.removeprefix("WEEKDAY_").capitalize() for name, value in Weekday.items()
}


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
            settings = updates.everything(check, "policy", request.policy, _SETTABLE)
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
            policies, next_page_token = policy_rows.list_policies(
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
            settings = updates.changes(check, "policy", request.policy, request.update_mask, _SETTABLE)
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

        def change(session: Session) -> pb.DeleteAutoSnapshotPolicyResponse:
            self._policies.delete(session, request.policy_id)
            return pb.DeleteAutoSnapshotPolicyResponse()

        return self._mutations.direct(request, request.policy_id, change, pb.DeleteAutoSnapshotPolicyResponse)


def _name(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    check.name(f"{at}.name", policy.name)
    return {"name": policy.name}


def _weekdays(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    _check_each_once(check, f"{at}.weekdays", [_DAYS.get(day, day) for day in policy.weekdays])
    for weekday in set(policy.weekdays):
        check.enum_value(f"{at}.weekdays", weekday, Weekday.values(), required=True)
    return {"weekdays": sorted(policy.weekdays)}


def _hours(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    _check_each_once(check, f"{at}.hours", policy.hours)
    for hour in set(policy.hours):
        check.that(0 <= hour <= 23, f"{at}.hours", f"has {hour}, which is not an hour from 0 to 23")
    return {"hours": sorted(policy.hours)}


def _check_each_once(check: Checks, field: str, values: Collection[int | str]) -> None:
    check.that(bool(values), field, "is empty")
    for value, times in Counter(values).items():
        check.that(times == 1, field, f"has {value} more than once")


def _time_zone(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    time_zone = policy.time_zone or "UTC"
    check.that(is_time_zone(time_zone), f"{at}.time_zone", "is not the IANA name of a time zone")
    return {"time_zone": time_zone}


def _retention(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    columns: dict[str, int | None] = {"retention_days": None, "retention_count": None}
    match policy.WhichOneof("retention"):
        case "retention_days":
            columns["retention_days"] = days = policy.retention_days
            check.that(1 <= days <= 65535, f"{at}.retention_days", "is not between 1 and 65535")
        case "retention_count":
            columns["retention_count"] = count = policy.retention_count
            check.that(1 <= count <= 256, f"{at}.retention_count", "is not between 1 and 256")
        case None:
            pass
    return columns


def _disk_ids(check: Checks, at: str, policy: AutoSnapshotPolicy) -> Mapping[str, Any]:
    field, many = f"{at}.disk_ids", len(policy.disk_ids)
    check.that(many <= _MOST_DISKS, field, f"has {many} ids, which is more than {_MOST_DISKS}")
    for disk_id, times in Counter(policy.disk_ids[:_MOST_DISKS]).items():
        check.resource_id(field, disk_id)
        check.that(times == 1, field, f"has {disk_id!r} more than once")
    return {"disk_ids": list(policy.disk_ids)}


_SETTABLE: Mapping[str, updates.Reader] = {
    "name": _name,
    "weekdays": _weekdays,
    "hours": _hours,
    "time_zone": _time_zone,
    "retention_days": _retention,
    "retention_count": _retention,
    "disk_ids": _disk_ids,
}
