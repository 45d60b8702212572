"""Users who never pause: everybody is served, and what the services hold does not grow."""

import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment
from tests.load.answers import OVERLOADED
from tests.load.chart import draw, line, quarters, write_csv
from tests.load.children import Child
from tests.load.conftest import Start
from tests.load.processes import look_at, watched
from tests.support.waiting import eventually

_PROGRAMS = 2
_CHARTS = Path(__file__).parents[2] / "build" / "load"
# A pool opens its connections as they are needed, so a rare crowd adds some late; of SQLite each has three files.
_MORE_FILES = 12
_MORE_THREADS = 4
_POOL_FILES = 3 * 34


class Served:
    """What the users of several programs were answered; `rates` are answers a second, one for each second."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.rates: list[int] = []
        self.rounds = 0
        self.broken_streams = 0


def _use(deployment: LocalDeployment, *, users: int, seconds: float) -> Served:
    served = Served()
    addresses = {str(service): deployment.addresses.of(service).public for service in Service}
    given: dict[str, Any] = {"addresses": addresses, "users": users // _PROGRAMS, "seconds": seconds}
    with Child("users", **given) as first, Child("users", **given) as second:
        answers = [0]
        while True:
            said = [child.says() for child in (first, second)]
            if any("by_answer" in each for each in said):
                break
            answers.append(sum(each["answers"] for each in said))
        served.rates = [after - before for before, after in itertools.pairwise(answers)]
        for child, each in zip((first, second), said, strict=True):
            while "by_answer" not in each:
                each = child.says()  # noqa: PLW2901 - one program may end a second after the other
            served.answers.update(each["by_answer"])
            served.rounds += each["rounds"]
            served.broken_streams += each["broken_streams"]
    return served


@pytest.mark.by_hand
@pytest.mark.timeout(1200)
def test_sixty_four_users_for_ten_minutes_leave_memory_open_files_and_threads_flat(
    start: Start, database_kind: str
):
    deployment = start()
    with watched(deployment.pids) as samples:
        served = _use(deployment, users=64, seconds=600)
    write_csv(_CHARTS / f"{database_kind}.csv", samples)
    print(
        f"\n64 users for ten minutes, {database_kind}: {served.answers.total()} answers, {served.rounds} rounds"
    )
    print(f"by answer: {dict(served.answers)}; streams begun again: {served.broken_streams}")
    print(f"answers a second: {line(served.rates)} median {sorted(served.rates)[len(served.rates) // 2]}")
    print(draw(samples))
    _assert_only_promised(served)
    for service, of_one in samples.items():
        for name, more in (("open_files", _MORE_FILES), ("threads", _MORE_THREADS)):
            before, after = quarters(of_one, name)
            assert after <= before + more, f"{name} of {service}: {before} to {after}"
        before, after = quarters(of_one, "memory_mib")
        assert after <= 1.1 * before + 4, f"memory of {service}: {before:.1f} to {after:.1f} MiB"


def test_users_who_have_gone_leave_no_file_open(start: Start):
    deployment = start()
    at_rest = {service: look_at(pid) for service, pid in deployment.pids.items()}
    served = _use(deployment, users=16, seconds=5)
    _assert_only_promised(served)
    assert served.rounds >= 16
    for service, pid in deployment.pids.items():
        most = at_rest[service].open_files + _POOL_FILES

        def is_back(pid: int = pid, most: int = most) -> bool:
            time.sleep(0.1)
            return look_at(pid).open_files <= most

        eventually(is_back, what=f"{service} closing its connections")


def _assert_only_promised(served: Served) -> None:
    codes = {name.partition(" ")[2] for name in served.answers}
    assert codes <= {"OK", OVERLOADED}, served.answers
    assert served.broken_streams == 0
