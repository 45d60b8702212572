"""Every RPC of every service, found by reflection, is sent whatever a client could send: see messages.py.

    pytest tests/fuzz                                  some thousands of requests
    pytest tests/fuzz --fuzz-seed NUMBER               the dice of an earlier run again
    make fuzz                                          100,000, and every method must also have succeeded

What clients can reach comes first, and leaves nothing behind. Then whoever is a service sends nonsense too: it is trusted
in what it holds and gives back, so that what may be asked afterwards is less.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stillpoint.compute.v1.account_service_pb2 import Account, SetAccountStandingRequest
from stillpoint.compute.v1.account_service_pb2_grpc import AccountServiceStub
from stillpoint_cli.addresses import Service
from stillpoint_cli.doctor import HOLDS, LEASES, STORE
from tests.contract.error_tables import Observed, is_public
from tests.fuzz.conftest import BY_HAND_REQUESTS
from tests.fuzz.fuzzed import Region, come_to_rest
from tests.fuzz.fuzzer import CLIENTS, Fuzzer
from tests.fuzz.methods import Target
from tests.support.main_job import MainJob
from tests.support.regions import NORTH, SOUTH, two_regions

pytestmark = pytest.mark.timeout(3600)

_INTERNAL_SHARE = 0.35


@dataclass(frozen=True, slots=True)
class Fuzzed:
    north: Region
    south: Region
    targets: list[Target]
    fuzzer: Fuzzer
    observed: Observed
    requests: int
    console: Console
    shown: Callable[[], AbstractContextManager[None]]
    """While pytest captures nothing."""

    def send(self, targets: list[Target], requests: int) -> None:
        with self.shown(), Progress(console=self.console) as progress:
            self.fuzzer.run(targets, requests, progress)

    def assert_answered_and_standing(self) -> None:
        regions = (self.north, self.south)
        faults = [
            *self.fuzzer.tally.faults,
            *(error for region in regions for error in region.logged_errors()),
        ]
        if faults:
            pytest.fail("\n\n".join(faults), pytrace=False)
        for region in regions:
            region.assert_all_serve()

    def assert_still_does_its_job(self) -> None:
        AccountServiceStub(self.north.public[Service.COMPUTE]).SetAccountStanding(
            SetAccountStandingRequest(standing=Account.STANDING_GOOD)
        )
        job = MainJob(self.north.public)
        machine = job.make_machine()
        job.fill(machine, "before")
        taken = job.take_snapshot(machine)
        job.fill(machine, "after")
        job.stop(machine)
        job.roll_back(taken.id)
        assert job.words_on(machine) == ["before 0", "before 1"]
        job.delete_snapshot(taken.id)
        job.delete_machine(machine)


@pytest.fixture(scope="session")
def fuzzed(
    request: pytest.FixtureRequest, database_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fuzzed]:
    folder = tmp_path_factory.mktemp(f"fuzz-{database_kind}")
    with ExitStack() as held:
        local = held.enter_context(
            two_regions(
                request, folder, database_kind, environment=lambda _home: {"STILLPOINT_LOG_FORMAT": "json"}
            )
        )
        north, south = (held.enter_context(Region.of(local[name])) for name in (NORTH, SOUTH))
        observed = Observed()
        capturing = request.config.pluginmanager.getplugin("capturemanager")
        assert capturing is not None
        yield Fuzzed(
            north,
            south,
            north.served(),
            Fuzzer(north.channels, observed, request.config.option.fuzz_seed),
            observed,
            request.config.option.fuzz_requests,
            Console(),
            capturing.global_and_fixture_disabled,
        )


def test_whatever_a_client_sends_is_answered_or_refused_in_time_and_leaves_nothing_behind(fuzzed: Fuzzed):
    public = [target for target in fuzzed.targets if not target.port.internal]
    fuzzed.send(public, round(fuzzed.requests * (1 - _INTERNAL_SHARE)))
    unfinished = come_to_rest(fuzzed.north, fuzzed.south)
    fuzzed.assert_answered_and_standing()
    assert fuzzed.observed.undocumented() == []
    assert unfinished == []
    # An operation that was abandoned at one service only is to be abandoned at the others: doctor says so.
    fuzzed.north.abandon({each.operation_id for each in fuzzed.north.findings()} - {""})
    assert fuzzed.north.findings() == []
    assert fuzzed.south.findings() == []
    fuzzed.assert_still_does_its_job()


def test_whatever_a_service_is_sent_by_another_is_answered_or_refused_in_time(fuzzed: Fuzzed):
    fuzzed.send(fuzzed.targets, round(fuzzed.requests * _INTERNAL_SHARE))
    fuzzed.north.abandon({operation.id for operation in come_to_rest(fuzzed.north, fuzzed.south)})
    fuzzed.assert_answered_and_standing()
    # Members that an invented deletion holds are a reason that a client never meets otherwise.
    assert [line for line in fuzzed.observed.undocumented() if not is_public(line.partition(":")[0])] == []
    # Nobody drives the operations whose steps were sent. Members that an invented operation made, or took away, stay so.
    fuzzed.north.abandon({each.operation_id for each in fuzzed.north.findings()} - {""})
    assert [each for each in fuzzed.north.findings() if each.check in (LEASES, HOLDS, STORE)] == []
    fuzzed.assert_still_does_its_job()


def test_every_method_was_called_and_by_hand_each_has_succeeded(fuzzed: Fuzzed):
    tally = fuzzed.fuzzer.tally
    assert set(tally.sent) == {str(target) for target in fuzzed.targets}
    if fuzzed.requests < BY_HAND_REQUESTS:
        return
    table = Table("method", "requests", "OK", "refused")
    for name, *numbers in tally.rows():
        table.add_row(name, *map(str, numbers))
    with fuzzed.shown():
        fuzzed.console.print(table, width=100, crop=False)
        fuzzed.console.print(
            f"{tally.sent.total()} requests by {CLIENTS} clients in {tally.seconds:.0f} s, {tally.accepted.total()} OK; "
            f"the longest took {tally.longest_seconds:.1f} s"
        )
    never = {target.path for target in fuzzed.targets}
    never -= {target.path for target in fuzzed.targets if tally.accepted[str(target)]}
    assert never == set()
