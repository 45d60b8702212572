"""Stages are dear (three processes each), so tests share them: one that a test has left out of order is replaced."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults.regions import Regions
from tests.faults.stage import Stage

PATIENT_SECONDS = 30.0
"""The product's default."""

Stages = Callable[[float], Stage]


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """Stages by snapshot_svc's deadline."""
    kept: dict[float, Stage] = {}

    def give(deadline_seconds: float) -> Stage:
        stage = kept.get(deadline_seconds)
        if stage is not None and not stage.in_order:
            stage.close()
            stage = None
        if stage is None:
            folder = tmp_path_factory.mktemp("stage") / "s"
            stage = kept[deadline_seconds] = Stage(folder, deadline_seconds=deadline_seconds)
        stage.in_order = False
        return stage

    yield give
    for stage in kept.values():
        stage.close()


@pytest.fixture
def stage(stages: Stages) -> Iterator[Stage]:
    """With time enough before the point of no return."""
    given = stages(PATIENT_SECONDS)
    yield given
    given.gates.lose_all()


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regions]:
    regions = Regions(tmp_path_factory.mktemp("r"), deadline_seconds=PATIENT_SECONDS)
    yield regions
    regions.close()


@pytest.fixture
def regions(both: Regions) -> Iterator[Regions]:
    """Two regions, with time enough before the point of no return."""
    yield both
    both.proxy.messages_to_damage = 0
    both.south.director.failing_seal = None
    both.lose_all()
