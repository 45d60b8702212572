"""The power is cut at every moment of a block store's life: what was acknowledged is there, what was not is there whole or
not at all, and nothing is damaged. Needs strace.
"""

import copy
import random
import sys
from collections import Counter
from pathlib import Path

import lmdb
import pytest

from disk_svc.blockstore import LmdbBlockStore, StoreError
from tests.faults import power, power_workload
from tests.faults.power import Recording
from tests.faults.power_workload import Picture
from tests.unit.blockstore.helpers import damages

pytestmark = [
    pytest.mark.skipif(power.STRACE is None, reason="needs strace"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("power")
    store = folder / "store"
    command = [sys.executable, "-m", "tests.faults.power_workload", str(store)]
    return power.record(command, file=store / "data.mdb", folder=folder)


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """After so many changes each."""
    seen = [Picture()]
    for change in power_workload.changes():
        seen.append(copy.deepcopy(seen[-1]))
        change.show(seen[-1])
    return seen


def after_a_cut(recording: Recording, folder: Path, moment: int, share: float) -> LmdbBlockStore:
    """The store as it is opened again; of what was in the air this share is left."""
    folder.mkdir()
    chance = random.Random(moment)
    recording.leave(folder / "data.mdb", moment, power.luck(chance, share))
    return power_workload.opened(folder)


def cut_at_every_moment(recording: Recording, pictures: list[Picture], folder: Path, share: float) -> int:
    """Each time the store must hold what it held after the changes that were acknowledged, or after the one that was under
    way too. Returns how often.
    """
    # Before the first transaction there is no store yet, and a new one is made in its place.
    first = next(place for place, said in recording.said if said == "1")
    for moment in range(first, recording.moments.stop):
        acknowledged = len(recording.said_before(moment))
        store = after_a_cut(recording, folder / f"{moment}-{share}", moment, share)
        try:
            assert damages(store) == []
            possible = pictures[acknowledged : acknowledged + 2]
            assert any(picture.seen_in(store) for picture in possible), f"cut at {moment}"
        finally:
            store.close()
    return recording.moments.stop - first


@pytest.mark.parametrize(
    "share",
    [0.5, pytest.param(0.0, marks=pytest.mark.by_hand), pytest.param(1.0, marks=pytest.mark.by_hand)],
)
def test_after_a_power_cut_at_any_moment_what_was_acknowledged_is_there_and_nothing_is_half_done(
    recording: Recording, pictures: list[Picture], tmp_path: Path, share: float, tally: Counter[str]
):
    assert len(recording.said) == len(pictures) - 1
    tally["power cuts"] += cut_at_every_moment(recording, pictures, tmp_path, share)


def test_it_would_be_seen_if_a_write_were_not_synced(
    recording: Recording, pictures: list[Picture], tmp_path: Path
):
    """The same with a disk that does not keep what it was told to."""
    careless = Recording(recording.writes, (), recording.said)
    with pytest.raises((AssertionError, StoreError, lmdb.Error)):
        cut_at_every_moment(careless, pictures, tmp_path, 0.5)
