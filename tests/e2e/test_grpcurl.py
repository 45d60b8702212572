"""What a client can do that has none of our code: grpcurl, as README.md shows it, and anything else that reads reflection.

README.md is the script of the first test: a shell runs its commands as they are written. What it shows is looked for in
what comes, line by line and in that order; `…` stands for anything. Ports are the deployment's, and an id that the
README shows is, from the line on where it is first shown, the one that came there.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from stillpoint.operation.v1.operation_service_pb2 import ListOperationsRequest
from stillpoint.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from stillpoint_cli.addresses import DEFAULT_ADDRESSES, Service
from tests.e2e.processes import STILLPOINT, Ran, Up, environment, run
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]
_BUILT = _ROOT / ".tools/bin/grpcurl"
GRPCURL = _BUILT if _BUILT.exists() else shutil.which("grpcurl")

_ID = r"\b(?:i|disk|snap|isnap|op-[cds])-[0-9a-z]{26}\b"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A command as README.md has it, and what is shown under it."""

    command: str
    shown: list[str] = field(default_factory=list)

    @property
    def program(self) -> str:
        return self.command.split()[0]

    @property
    def method(self) -> str:
        """The RPC that grpcurl is to call; of another command, nothing that is one."""
        return self.command.rpartition("/")[2]


def console_blocks(markdown: str) -> Iterator[Exchange]:
    for block in re.findall(r"^```console\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        # A command may go on in the next line, as in a shell.
        lines = block.replace("\\\n", "").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("$ "):
                following = lines[number + 1 :]
                end = next((n for n, each in enumerate(following) if each.startswith("$ ")), len(following))
                yield Exchange(line[2:], [each for each in following[:end] if each])


class Session:
    """README's ids and ports, in terms of this deployment."""

    def __init__(self, up: Up) -> None:
        self._ids: dict[str, str] = {}
        self._addresses = {
            DEFAULT_ADDRESSES.of(service).public.replace("127.0.0.1", "localhost"): up.addresses.of(
                service
            ).public.replace("127.0.0.1", "localhost")
            for service in Service
        }

    def command(self, exchange: Exchange) -> str:
        command = re.sub(_ID, lambda found: self._ids[found[0]], exchange.command)
        for shown, address in self._addresses.items():
            command = command.replace(shown, address)
        return command

    def compare(self, exchange: Exchange, output: str) -> None:
        """Learns the ids in `output`; fails at the first line that README shows and that is not there."""
        lines = iter(output.splitlines())
        for shown in exchange.shown:
            pattern, ids = self._pattern(shown)
            for line in lines:
                if found := re.fullmatch(pattern, line):
                    self._ids.update(zip(ids, found.groups(), strict=True))
                    break
            else:
                pytest.fail(f"README.md shows {shown!r} after {exchange.command!r}; what came is:\n{output}")
        if not any("…" in shown for shown in exchange.shown):
            assert len(output.splitlines()) == len(exchange.shown), output

    def _pattern(self, shown: str) -> tuple[str, list[str]]:
        """What a line like this one matches, and which ids of README's its groups give."""
        ids: list[str] = []
        text, elided, _ = shown.partition("…")
        pattern = ""
        for part in re.split(f"({_ID}|{_TIME})", text.rstrip() if elided else text):
            if re.fullmatch(_TIME, part):
                pattern += _TIME
            elif re.fullmatch(_ID, part) and part not in self._ids:
                ids.append(part)
                pattern += f"({_ID})"
            else:
                pattern += re.escape(self._ids.get(part, part))
        return pattern + (".*" if elided else ""), ids


def until_nothing_is_in_progress(up: Up) -> None:
    """As for a person, who types more slowly than an operation takes."""
    with grpc.insecure_channel(up.addresses.snapshot.public) as channel:
        stub = OperationServiceStub(channel)
        request = ListOperationsRequest(filter=ListOperationsRequest.Filter(unfinished=True))
        eventually(lambda: not stub.ListOperations(request).operations, what="the end of every operation")


@pytest.mark.skipif(
    GRPCURL is None, reason="grpcurl is neither in .tools/bin nor on PATH; `make grpcurl` builds it"
)
def test_the_session_in_the_readme_goes_as_the_readme_shows_it(up: Up, tmp_path: Path):
    # What the README puts before this has the same programs, where `make` has made them.
    path = os.pathsep.join([os.environ["PATH"], str(STILLPOINT.parent)])
    exported = ""

    def type_in(command: str) -> Ran:
        # A rollback asks whether it may.
        return run(
            ["bash", "-c", f'{exported}\ncd "$0"\n{command}', tmp_path],
            env=environment(DIR=str(up.folder)) | {"PATH": path},
            cwd=_ROOT,
            typed="y\n",
        )

    session = Session(up)
    answers: dict[str, Any] = {}
    _, section, rest = (
        (_ROOT / "README.md").read_text(encoding="utf-8").partition("## A session with grpcurl\n")
    )
    assert section
    for exchange in console_blocks(rest.partition("\n## ")[0]):
        if exchange.program == "export":
            exported += f"{exchange.command}\n"
        if exchange.program in {"make", "export"}:
            continue
        ran = type_in(session.command(exchange))
        assert (ran.code == 0) == (exchange.shown[:1] != ["ERROR:"]), f"{exchange.command}: {ran}"
        # A command that shows nothing is there for what it does.
        if exchange.shown:
            session.compare(exchange, ran.out + ran.err)
        answers[exchange.method] = json.loads(ran.out) if ran.out.startswith("{") else ran.out
        until_nothing_is_in_progress(up)

    created = answers["CreateInstance"]
    members = answers["CreateInstanceSnapshot"]["instance_snapshot"]["members"]
    assert [member["disk_id"] for member in members] == [
        created["instance"]["system_disk_id"],
        *created["data_disk_ids"],
    ]
    assert len({member["snapshot_id"] for member in members}) == 2
    assert "RollbackInstanceSnapshot" in answers
    assert (tmp_path / "system.img").stat().st_size == 10 << 30


def public_services(service: Service) -> set[str]:
    """Those of its protos that are for everybody, and those that each service has for its own."""
    names = set()
    for package in (service.value, "operation"):
        for proto in (_ROOT / "protos/stillpoint" / package).glob("v1/*.proto"):
            found = re.findall(r"^service (\w+) \{", proto.read_text(encoding="utf-8"), re.MULTILINE)
            names |= {f"stillpoint.{package}.v1.{name}" for name in found}
    return names - {f"stillpoint.{service}.v1.{name}" for name in ("ParticipantService", "ImportService")}


@pytest.mark.parametrize("service", Service)
def test_a_public_port_describes_its_services_to_who_has_no_proto_and_they_can_be_called(
    up: Up, service: Service
):
    with grpc.insecure_channel(up.addresses.of(service).public) as channel:
        described = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(described)
        names = {name for name in described.get_services() if name.startswith("stillpoint.")}
        assert names == public_services(service)
        called = set()
        for name in names:
            for method in pool.FindServiceByName(name).methods:
                request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
                assert request.DESCRIPTOR.fields, method.full_name
                if method.name.startswith("List") and not method.server_streaming:
                    call = channel.unary_unary(
                        f"/{name}/{method.name}",
                        request_serializer=request.SerializeToString,
                        response_deserializer=response.FromString,
                    )
                    assert call(request(), timeout=30).DESCRIPTOR is method.output_type
                    called.add(method.name)
        assert called > {"ListOperations", "ListEvents"}
