"""The disk_svc of another region as the saga of a copy sees it: one method per step, an answer or a refusal; anything else
is not known.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from disk_svc import convert
from disk_svc.blockstore import Extent
from stillpoint.disk.v1 import block_service_pb2, import_service_pb2_grpc
from stillpoint.disk.v1 import import_service_pb2 as pb
from svckit.calls import Unanswered, call, patience_seconds, told_apart
from svckit.clock import to_timestamp
from svckit.peers import Peers
from svckit.saga import Run

_TIMEOUT_SECONDS = 10.0
_LONG_TIMEOUT_SECONDS = 60.0
"""For what takes as long as there are bytes."""


class Importers:
    """ImportService of the region that a copy goes to, which is in the saga's input."""

    def __init__(self, peers: Peers, region: str) -> None:
        self._peers = peers
        self._region = region

    def begin(self, run: Run) -> list[str]:
        """Returns the base of each snapshot, in their order: one of its relatives here, or nothing."""
        request = pb.BeginImportRequest(
            key=_key(run),
            operation_id=run.id,
            source_region=self._region,
            account_id=run.account_id,
            instance_snapshot_id=run.input["copy_instance_snapshot_id"],
            snapshots=[_imported(each) for each in run.input["snapshots"]],
        )
        patience = patience_seconds(run.deadline, _TIMEOUT_SECONDS)
        answer = call(self._stub(run).BeginImport, request, timeout_seconds=patience)
        return [base.base_source_snapshot_id for base in answer.bases]

    def write(self, run: Run, copy_snapshot_id: str, messages: Iterator[list[Extent]]) -> None:
        """Returns when all of them are durable."""
        sent = 0

        def requests() -> Iterator[pb.WriteImportRequest]:
            nonlocal sent
            for extents in messages:
                sent += 1
                yield pb.WriteImportRequest(
                    key=_key(run),
                    snapshot_id=copy_snapshot_id,
                    extents=[
                        block_service_pb2.Extent(offset_bytes=extent.offset_bytes, data=extent.data)
                        for extent in extents
                    ],
                )

        durable = 0
        with told_apart():
            for answer in self._stub(run).WriteImport(requests(), timeout=_LONG_TIMEOUT_SECONDS):
                durable = answer.messages_durable
        if durable != sent:
            raise Unanswered(f"the stream ended when {durable} of {sent} messages were durable")

    def digest(self, run: Run, copy_snapshot_id: str, offset_bytes: int, length_bytes: int) -> bytes:
        request = pb.DigestImportRequest(
            key=_key(run),
            snapshot_id=copy_snapshot_id,
            offset_bytes=offset_bytes,
            length_bytes=length_bytes,
        )
        return call(self._stub(run).DigestImport, request, timeout_seconds=_LONG_TIMEOUT_SECONDS).sha256

    def finish(self, run: Run) -> None:
        call(
            self._stub(run).FinishImport,
            pb.FinishImportRequest(key=_key(run)),
            timeout_seconds=_TIMEOUT_SECONDS,
        )

    def withdraw(self, run: Run) -> None:
        call(
            self._stub(run).WithdrawImport,
            pb.WithdrawImportRequest(key=_key(run)),
            timeout_seconds=_TIMEOUT_SECONDS,
        )

    def _stub(self, run: Run) -> import_service_pb2_grpc.ImportServiceStub:
        return import_service_pb2_grpc.ImportServiceStub(self._peers.channel(run.input["region"]))


def _key(run: Run) -> str:
    """Of the import, as the other region knows it."""
    return run.key("begin")


def _imported(snapshot: Mapping[str, Any]) -> pb.ImportedSnapshot:
    return pb.ImportedSnapshot(
        snapshot_id=snapshot["copy_snapshot_id"],
        source_snapshot_id=snapshot["snapshot_id"],
        name=snapshot["name"],
        description=snapshot["description"],
        labels=snapshot["labels"],
        size_bytes=snapshot["size_bytes"],
        cut_time=to_timestamp(convert.moment(snapshot["cut_time"])),
        base_source_snapshot_ids=snapshot["relatives"],
    )
