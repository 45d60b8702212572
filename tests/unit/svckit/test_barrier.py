"""A step's call and its undo at a participant, in every order and at once (design.md §6, law 5)."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from svckit import barrier
from svckit.database import Database
from svckit.errors import StepWithdrawn

KEY = "op-1/cut"


def _enter(database: Database, key: str = KEY) -> str:
    try:
        with database.write() as session:
            return "first" if barrier.enter(session, key) else "again"
    except StepWithdrawn:
        return "refused"


def _withdraw(database: Database, key: str = KEY) -> str:
    with database.write() as session:
        return "undo" if barrier.withdraw(session, key) else "nothing"


@pytest.mark.parametrize(
    ("calls", "outcomes"),
    [
        ("d", ["first"]),
        ("dd", ["first", "again"]),
        ("du", ["first", "undo"]),
        ("duu", ["first", "undo", "nothing"]),
        ("dud", ["first", "undo", "refused"]),
        ("ddu", ["first", "again", "undo"]),
        ("u", ["nothing"]),
        ("ud", ["nothing", "refused"]),
        ("uu", ["nothing", "nothing"]),
        ("uud", ["nothing", "nothing", "refused"]),
        ("udu", ["nothing", "refused", "nothing"]),
    ],
)
def test_each_order_of_calls_and_undos_has_its_one_outcome(
    database: Database, calls: str, outcomes: list[str]
):
    assert [_enter(database) if call == "d" else _withdraw(database) for call in calls] == outcomes


def test_a_call_whose_transaction_failed_was_never_made(database: Database):
    with pytest.raises(RuntimeError, match="disk full"), database.write() as session:  # noqa: PT012 - as one transaction
        assert barrier.enter(session, KEY)
        raise RuntimeError("disk full")
    assert _enter(database) == "first"


def test_keys_do_not_touch_each_other(database: Database):
    assert _withdraw(database, "op-1/a") == "nothing"
    assert _enter(database, "op-1/b") == "first"


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (barrier.enter, _enter, "again"),
        (barrier.enter, _withdraw, "undo"),
        (barrier.withdraw, _enter, "refused"),
        (barrier.withdraw, _withdraw, "nothing"),
    ],
)
def test_whoever_comes_second_waits_for_the_first_to_commit_and_sees_what_it_did(
    url: str,
    database: Database,
    first: Callable[..., bool],
    second: Callable[[Database], str],
    outcome: str,
):
    other = Database(url, connections=2)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            first(session, KEY)
            waiting = pool.submit(second, other)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.15)
        assert waiting.result(timeout=15) == outcome
    other.dispose()


def test_calls_and_undos_that_race_never_leave_an_effect_that_nobody_undoes(url: str):
    """Two calls and two undos for each of many keys, at once and from two processes' worth of connections."""
    databases = [Database(url, connections=4), Database(url, connections=4)]
    keys = [f"op-{n}/cut" for n in range(25)]
    start = threading.Barrier(4)

    def race(number: int, call: Callable[[Database, str], str]) -> list[str]:
        outcomes = []
        for key in keys:
            start.wait()
            outcomes.append(call(databases[number % 2], key))
        return outcomes

    racers = [_enter, _withdraw, _enter, _withdraw]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(race, itertools.count(), racers))
    for outcomes in zip(*rows, strict=True):
        assert outcomes.count("first") == outcomes.count("undo") <= 1, outcomes
        assert ("again" in outcomes) <= ("first" in outcomes), outcomes
    assert {_enter(databases[0], key) for key in keys} == {"refused"}
    for database in databases:
        database.dispose()
