"""The internal RPCs of snapshot_svc: the steps of another region's saga that copies an instance snapshot to this one."""

from typing import Any

from snapshot_svc.imports import Imports
from stillpoint.snapshot.v1 import import_service_pb2 as pb
from stillpoint.snapshot.v1 import import_service_pb2_grpc
from svckit.clock import from_timestamp
from svckit.database import Database
from svckit.steps import must_be_new, must_name_each_once
from svckit.validation import Checks


class ImportServicer(import_service_pb2_grpc.ImportServiceServicer):
    """stillpoint.snapshot.v1.ImportService."""

    def __init__(self, imports: Imports, database: Database) -> None:
        self._imports = imports
        self._database = database

    def BeginImport(self, request: pb.BeginImportRequest, context: Any) -> pb.BeginImportResponse:
        with Checks() as check:
            check.resource_id("instance_snapshot_id", request.instance_snapshot_id)
            must_name_each_once(check, "members", "snapshot_id", request.members)
        with must_be_new("instance_snapshot_id"), self._database.write() as session:
            self._imports.begin(
                session,
                request.key,
                values={
                    "id": request.instance_snapshot_id,
                    "name": request.name,
                    "description": request.description,
                    "labels": dict(request.labels),
                    "account_id": request.account_id,
                    "instance_id": request.instance_id,
                    "operation_id": request.operation_id,
                    "cut_time": from_timestamp(request.cut_time),
                    "source_region": request.source_region,
                    "source_instance_snapshot_id": request.source_instance_snapshot_id,
                },
                members=[
                    {
                        "disk_id": member.disk_id,
                        "disk_name": member.disk_name,
                        "is_system_disk": member.is_system_disk,
                        "snapshot_id": member.snapshot_id,
                        "size_bytes": member.size_bytes,
                        "device": member.device,
                    }
                    for member in request.members
                ],
            )
        return pb.BeginImportResponse()

    def FinishImport(self, request: pb.FinishImportRequest, context: Any) -> pb.FinishImportResponse:
        with self._database.write() as session:
            self._imports.finish(session, request.key, request.instance_snapshot_id)
        return pb.FinishImportResponse()

    def WithdrawImport(self, request: pb.WithdrawImportRequest, context: Any) -> pb.WithdrawImportResponse:
        with self._database.write() as session:
            self._imports.withdraw(session, request.key, request.instance_snapshot_id)
        return pb.WithdrawImportResponse()
