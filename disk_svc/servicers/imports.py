"""The internal RPCs by which another region copies snapshots to this one: proto to use case and back."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from disk_svc import convert
from disk_svc.service.blocks import OpenVolume
from disk_svc.service.imports import Imports
from disk_svc.servicers.write_streams import Threads, durable_lengths
from stillpoint.disk.v1 import import_service_pb2 as pb
from stillpoint.disk.v1 import import_service_pb2_grpc
from svckit.steps import must_be_new, must_name_each_once
from svckit.validation import Checks


class ImportServicer(import_service_pb2_grpc.ImportServiceServicer):
    """stillpoint.disk.v1.ImportService."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports
        self._threads = Threads("imports")

    def BeginImport(self, request: pb.BeginImportRequest, context: Any) -> pb.BeginImportResponse:
        with Checks() as check:
            must_name_each_once(check, "snapshots", "snapshot_id", request.snapshots, prefix="snap-")
            for number, snapshot in enumerate(request.snapshots):
                check.disk_size(f"snapshots[{number}].size_bytes", snapshot.size_bytes)
        with must_be_new("snapshots"):
            bases = self._imports.begin(
                convert.delivery(request), [convert.incoming(snapshot) for snapshot in request.snapshots]
            )
        return pb.BeginImportResponse(
            bases=[
                pb.ImportBase(
                    snapshot_id=snapshot.snapshot_id, base_source_snapshot_id=bases[snapshot.snapshot_id]
                )
                for snapshot in request.snapshots
            ]
        )

    async def WriteImport(
        self, request_iterator: AsyncIterator[pb.WriteImportRequest], context: Any
    ) -> AsyncIterator[pb.WriteImportResponse]:
        messages = 0
        async with aclosing(durable_lengths(self._threads, request_iterator, self._open_volume)) as lengths:
            async for _ in lengths:
                messages += 1
                yield pb.WriteImportResponse(messages_durable=messages)

    def _open_volume(self, request: pb.WriteImportRequest) -> OpenVolume:
        return self._imports.open_writer(request.key, request.snapshot_id)

    def DigestImport(self, request: pb.DigestImportRequest, context: Any) -> pb.DigestImportResponse:
        return pb.DigestImportResponse(
            sha256=self._imports.digest(
                request.key, request.snapshot_id, request.offset_bytes, request.length_bytes
            )
        )

    def FinishImport(self, request: pb.FinishImportRequest, context: Any) -> pb.FinishImportResponse:
        self._imports.finish(request.key)
        return pb.FinishImportResponse()

    def WithdrawImport(self, request: pb.WithdrawImportRequest, context: Any) -> pb.WithdrawImportResponse:
        self._imports.withdraw(request.key)
        return pb.WithdrawImportResponse()
