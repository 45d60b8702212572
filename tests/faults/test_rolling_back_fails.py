"""Applying a rollback fails for good only when bytes are lost: then no disk is changed, the snapshot says ERROR_ROLLBACK, and
rolling back again carries on (design.md §6).
"""

from typing import Any

import pytest

from stillpoint.compute.v1 import instance_service_pb2
from stillpoint_cli.addresses import Service
from tests.faults.positions import rollback_on
from tests.faults.stage import Machine, Stage, new_request_id, refusal_of


def begin_start(stage: Stage, machine: Machine) -> Any:
    return stage.instances.StartInstance.future(
        instance_service_pb2.StartInstanceRequest(instance_id=machine.id)
    )


@pytest.mark.parametrize(
    "dies", [None, "before WithdrawRollback", "after WithdrawRollback", "before ReleaseInstance"]
)
def test_a_rollback_that_finds_lost_bytes_changes_no_disk_and_says_so_whatever_dies_on_the_way(
    stage: Stage, dies: str | None
):
    machine, begin = rollback_on(stage)
    request_id = new_request_id()
    stage.director.failing_restore = True
    try:
        if dies is None:
            begin(request_id).result()
        else:
            stage.stopped_at(dies, lambda: begin(request_id))
            stage.kill(Service.SNAPSHOT)
            stage.restart(Service.SNAPSHOT)
        stage.come_to_rest()
    finally:
        stage.director.failing_restore = False

    [snapshot] = stage.snapshots_of(machine)
    assert stage.states_of(machine) == ["ERROR_ROLLBACK"]
    assert "do not match their checksum" in snapshot.state_reason
    assert stage.word_on(machine) == "new"
    assert refusal_of(begin_start(stage, machine)).reason == "ROLLBACK_INCOMPLETE"
    stage.assert_nothing_left()

    answer = stage.begin_rollback(snapshot.id).result()
    assert stage.outcome(answer.operation_id) == "SUCCEEDED"
    assert stage.states_of(machine) == ["AVAILABLE"]
    assert stage.snapshot(snapshot.id).state_reason == ""
    assert stage.word_on(machine) == "old"
    begin_start(stage, machine).result()
    stage.assert_nothing_left()
