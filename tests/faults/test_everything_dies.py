"""A bad night: machines are snapshotted, ruined, rolled back and relieved of their snapshots without a pause, while every
service is killed again and again at moments nobody has chosen. Clients ask again with the same `request_id` until they
are told; what they are told must be true, and at dawn nothing is left over.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint_cli.addresses import Service
from stillpoint_cli.errors import code_of
from tests.faults.stage import REST_SECONDS, Machine, Stage, new_request_id, state_name

KILLS = 6
MACHINES = 3

_NOT_NOW = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

Answer = TypeVar("Answer")


def persist(ask: Callable[[], Answer]) -> Answer:
    """Ask until there is an answer."""
    give_up = time.monotonic() + 2 * REST_SECONDS
    while True:
        try:
            return ask()
        except grpc.RpcError as error:
            if code_of(error) not in _NOT_NOW or time.monotonic() > give_up:
                raise


class Owner:
    """Somebody who uses one machine, and believes what the services say."""

    def __init__(self, stage: Stage, machine: Machine) -> None:
        self.rounds = 0
        self.error: BaseException | None = None
        self._stage = stage
        self._machine = machine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                self._round(f"round-{self.rounds}")
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def _round(self, word: str) -> None:
        stage, machine = self._stage, self._machine
        persist(lambda: stage.fill(machine, word))
        taken = self._do(lambda request_id: stage.begin_snapshot(machine, request_id))
        snapshot_id = taken.instance_snapshot.id
        assert state_name(persist(lambda: stage.snapshot(snapshot_id))) == "AVAILABLE"
        persist(lambda: stage.fill(machine, "ruin"))
        stop = instance_service_pb2.StopInstanceRequest(request_id=new_request_id(), instance_id=machine.id)
        persist(lambda: stage.instances.StopInstance(stop))
        self._do(lambda request_id: stage.begin_rollback(snapshot_id, request_id))
        assert persist(lambda: stage.word_on(machine)) == word
        start = instance_service_pb2.StartInstanceRequest(request_id=new_request_id(), instance_id=machine.id)
        persist(lambda: stage.instances.StartInstance(start))
        assert persist(lambda: stage.states_of(machine)) == ["AVAILABLE"]
        self._do(lambda request_id: stage.begin_deletion(snapshot_id, request_id))
        assert persist(lambda: stage.states_of(machine)) == []

    def _do(self, begin: Callable[[str], Any]) -> Any:
        request_id = new_request_id()
        answer = persist(lambda: begin(request_id).result())
        assert persist(lambda: self._stage.outcome(answer.operation_id)) == "SUCCEEDED"
        assert persist(lambda: begin(request_id).result()) == answer
        return answer


@pytest.mark.on_both_databases
def test_while_services_die_at_random_every_answer_is_true_and_in_the_end_nothing_is_left(stage: Stage):
    chance = random.Random(20)
    machines = [stage.make_machine() for _ in range(MACHINES)]
    owners = [Owner(stage, machine) for machine in machines]
    victims = [service for service in Service for _ in range(KILLS // len(Service))]
    chance.shuffle(victims)
    for service in victims:
        stage.kill(service)
        stage.restart(service)
    for owner in owners:
        owner.stop()
    assert [owner.error for owner in owners] == [None] * MACHINES
    assert all(owner.rounds for owner in owners)
    stage.assert_nothing_left()
    for machine in machines:
        assert stage.disk_snapshots_of(machine) == []
