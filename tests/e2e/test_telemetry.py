"""What an operator sees of three real services: their metrics, their traces and their logs, after a short session."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from stillpoint.snapshot.v1 import instance_snapshot_service_pb2, instance_snapshot_service_pb2_grpc
from stillpoint_cli.addresses import Service
from stillpoint_cli.local import STOP_SECONDS, LocalDeployment
from tests.e2e.images import write_image
from tests.e2e.processes import CommandLine
from tests.support.servers import free_port
from tests.support.waiting import eventually

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "stillpoint.json"
MODULES = {service.module for service in Service}
REQUEST_ID = "asked-by-a-test.1"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What OpenTelemetry's own would be: it keeps each service's spans."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = defaultdict(list)

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for of_one in request.resource_spans:
            about = {each.key: each.value.string_value for each in of_one.resource.attributes}
            for scope in of_one.scope_spans:
                self.spans[about["service.name"]].extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_operation(self, operation_id: str) -> dict[str, list[Span]]:
        """Of each service, those that say that they are about this operation."""
        found = {
            service: [span for span in spans if attributes(span).get("operation_id") == operation_id]
            for service, spans in list(self.spans.items())
        }
        return {service: spans for service, spans in found.items() if spans}


def attributes(span: Span) -> dict[str, Any]:
    """Ours, without what goes before their names."""
    return {
        each.key.removeprefix("stillpoint."): getattr(each.value, each.value.WhichOneof("value") or "")
        for each in span.attributes
        if each.key.startswith("stillpoint.")
    }


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector, and its URL."""
    collector = Collector()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call] # it ships no types
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield collector, f"http://127.0.0.1:{port}"
        server.stop(None).wait()


@dataclass(frozen=True, slots=True)
class Session:
    """A machine was made, a disk of it was written to, and a snapshot of it was taken: by this operation."""

    collector: Collector
    scrapes: Mapping[Service, str]
    logs: Mapping[str, Sequence[str]]
    operation_id: str

    @property
    def samples(self) -> set[str]:
        return {
            sample.name
            for text in self.scrapes.values()
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("telemetry") / "var"
    stillpoint = CommandLine(folder)
    with collecting() as (collector, url):
        environment = {
            "STILLPOINT_LOG_FORMAT": "json",
            "STILLPOINT_LOG_LEVEL": "debug",
            "STILLPOINT_TRACES_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with LocalDeployment(folder, free_ports=True, environment=environment) as deployment:
            made = stillpoint.json("instance", "create", "web-1", "--system", "1MiB", "--data", "1MiB")
            image = write_image(folder.with_name("image"), MIB)
            stillpoint.out("disk", "import", made["data_disk_ids"][0], image)
            with grpc.insecure_channel(deployment.addresses.snapshot.public) as channel:
                _ask_for_nothing_that_is_served(channel)
                stub = instance_snapshot_service_pb2_grpc.InstanceSnapshotServiceStub(channel)
                request = instance_snapshot_service_pb2.CreateInstanceSnapshotRequest(
                    instance_id=made["instance"]["id"]
                )
                answer = stub.CreateInstanceSnapshot(
                    request, timeout=30, metadata=(("x-request-id", REQUEST_ID),)
                )
            eventually(
                lambda: _saga_has_ended(collector, answer.operation_id), what="the last span of the saga"
            )
            scrapes = {
                service: _get(f"http://{deployment.addresses.of(service).metrics}/metrics")
                for service in Service
            }
        logs = {service.module: deployment.log_path(service).read_text().splitlines() for service in Service}
        yield Session(collector, scrapes, logs, answer.operation_id)


def _ask_for_nothing_that_is_served(channel: grpc.Channel) -> None:
    for path in ("/stillpoint.snapshot.v1.InstanceSnapshotService/MadeUp", "/made.Up/Method"):
        stub: Any = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            stub(b"", timeout=30)


def _saga_has_ended(collector: Collector, operation_id: str) -> bool:
    spans = collector.of_operation(operation_id).get("snapshot_svc", [])
    return any(span.name == "saga create_instance_snapshot" for span in spans)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


# Metrics


def test_every_metric_on_the_dashboard_is_in_a_scrape(session: Session):
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    named = {
        name for expression in expressions for name in re.findall(r"\b(?:stillpoint|process)_\w+", expression)
    }
    assert len(expressions) > 20
    assert named - session.samples == set()


def test_every_label_on_the_dashboard_is_one_that_its_metric_has(session: Session):
    labels: dict[str, set[str]] = defaultdict(lambda: {"job", "instance"})
    for text in session.scrapes.values():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels[sample.name] |= set(sample.labels)
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            names = re.findall(r"\b(?:stillpoint|process)_\w+", target["expr"])
            known = set.intersection(*(labels[name] for name in names))
            asked = [name for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for name in by.split(", ")]
            asked += re.findall(r"{{(\w+)}}", target["legendFormat"])
            asked += re.findall(r"(\w+)=~?\"", target["expr"])
            assert set(asked) <= known, target


def test_the_documentation_and_a_scrape_name_the_same_metrics_types_and_labels(session: Session):
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\|", (ROOT / "docs" / "metrics.md").read_text(), re.M
    )
    documented = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows}
    served: dict[str, tuple[str, set[str]]] = {}
    for text in session.scrapes.values():
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            served[name] = (family.type, labels | served.get(name, ("", set()))[1])
    assert documented == served


def test_what_documentation_says_is_disk_svcs_is_in_no_other_scrape(session: Session):
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| [\w, ]*\| ([^|]*) \|", text, re.M))
    for service, scrape in session.scrapes.items():
        types = set(re.findall(r"^# TYPE (\w+) ", scrape, re.M))
        ours = {name for name, meaning in rows.items() if "disk_svc: " not in meaning}
        assert types == (set(rows) if service is Service.DISK else ours)


def test_no_label_is_an_id_or_what_a_client_made_up(session: Session):
    values = {
        value
        for text in session.scrapes.values()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert [value for value in values if re.search(r"\d{3}[a-z]|made\.?up", value, re.IGNORECASE)] == []
    assert session.scrapes[Service.SNAPSHOT].count('grpc_code="UNIMPLEMENTED"') == 1


def test_what_was_done_was_counted(session: Session):
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for text in session.scrapes.values()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    method = ("CreateInstanceSnapshot", "stillpoint.snapshot.v1.InstanceSnapshotService")
    assert samples["stillpoint_rpc_handled_total", "CreateInstanceSnapshot", "OK", method[1]] == 1
    assert samples["stillpoint_rpc_duration_seconds_count", *method] == 1
    assert samples["stillpoint_rpc_in_flight", *method] == 0
    assert samples["stillpoint_sagas_ended_total", "SUCCEEDED", "create_instance_snapshot"] == 1
    assert samples["stillpoint_sagas", "RUNNING", "create_instance_snapshot"] == 0
    assert (
        samples["stillpoint_saga_step_duration_seconds_count", "create_instance_snapshot", "cut", "do"] == 1
    )
    assert samples["stillpoint_quota_fullest_disk_snapshots", "MANUAL"] == 1
    assert samples["stillpoint_store_written_bytes_total",] == MIB
    assert samples["stillpoint_store_file_bytes",] >= samples["stillpoint_store_used_bytes",] > MIB / 2


# Traces


def test_one_snapshot_is_one_trace_through_all_three_services(session: Session):
    spans = session.collector.of_operation(session.operation_id)
    assert set(spans) == MODULES
    assert len({span.trace_id for of_one in spans.values() for span in of_one}) == 1


def test_a_step_is_in_the_request_that_began_it_and_what_it_calls_is_in_the_step(session: Session):
    every = {span.span_id: span for spans in session.collector.spans.values() for span in spans}

    def path(span: Span) -> list[str]:
        above = every.get(span.parent_span_id)
        return [*(path(above) if above else []), span.name]

    disk = session.collector.of_operation(session.operation_id)["disk_svc"]
    (cut,) = (span for span in disk if span.name.endswith("/CreateConsistencyPoint"))
    called = "/stillpoint.disk.v1.ParticipantService/CreateConsistencyPoint"
    asked = "/stillpoint.snapshot.v1.InstanceSnapshotService/CreateInstanceSnapshot"
    assert path(cut) == [asked, "saga create_instance_snapshot", "cut", called, called]


def test_a_step_says_of_which_operation_it_is_and_which_try(session: Session):
    spans = session.collector.of_operation(session.operation_id)["snapshot_svc"]
    steps = [attributes(span) for span in spans if "step" in attributes(span)]
    assert [step["step"] for step in steps] == ["lease", "cut", "seal", "finish", "release"]
    for step in steps:
        assert step == {
            "operation_id": session.operation_id,
            "saga": "create_instance_snapshot",
            "step": step["step"],
            "undo": False,
            "attempt": 1,
        }


def test_health_is_in_no_trace(session: Session):
    names = {span.name for spans in session.collector.spans.values() for span in spans}
    assert not [name for name in names if "health" in name.lower()]


@pytest.mark.parametrize("service", Service)
def test_without_a_collector_nothing_of_opentelemetry_is_imported(service: Service):
    code = f"import sys, {service.module}.__main__; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_a_collector_that_is_away_keeps_nobody_from_serving_nor_from_stopping(tmp_path: Path):
    environment = {
        "STILLPOINT_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "STILLPOINT_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    }
    deployment = LocalDeployment(tmp_path / "var", free_ports=True, environment=environment)
    with deployment:
        CommandLine(tmp_path / "var").out("instance", "create", "web-1", "--system", "1MiB")
        begun = time.monotonic()
    assert time.monotonic() - begun < STOP_SECONDS  # or they were killed
    for service in Service:
        for line in deployment.log_path(service).read_text().splitlines():
            json.loads(line)


# Logs


def test_every_line_is_an_object_that_says_when_and_where(session: Session):
    for module, lines in session.logs.items():
        assert len(lines) > 3
        for line in lines:
            said = json.loads(line)
            assert said["service"] == module
            assert {"timestamp", "level", "event"} <= said.keys()


def test_every_line_of_a_request_has_its_ids(session: Session):
    of_requests = [said for said in _every_line(session) if "method" in said]
    assert len(of_requests) > 15
    for said in of_requests:
        assert said["account_id"] == said["subject"] == "local", said
        assert said["request_id"]


def test_an_operation_is_followed_through_all_services_by_its_id(session: Session):
    lines = [said for said in _every_line(session) if said.get("operation_id") == session.operation_id]
    assert {said["service"] for said in lines} == MODULES
    of_the_request = [said for said in lines if said.get("request_id") == REQUEST_ID]
    methods = {said["method"].rpartition("/")[2] for said in of_the_request if said["event"] == "answered"}
    assert methods == {
        "CreateInstanceSnapshot",
        "LeaseInstance",
        "CreateConsistencyPoint",
        "SealConsistencyPoint",
        "FinishConsistencyPoint",
        "ReleaseInstance",
    }
    (ended,) = (said for said in lines if said["event"] == "saga ended")
    assert (ended["saga"], ended["state"]) == ("create_instance_snapshot", "SUCCEEDED")
    assert ended["request_id"] == REQUEST_ID


def _every_line(session: Session) -> list[dict[str, Any]]:
    return [json.loads(line) for lines in session.logs.values() for line in lines]
