"""Random histories of valid and invalid calls, by several clients, with kills, against the rules in Python.

pytest tests/model                            some hundred steps
pytest tests/model --model-steps 50000        a long run (`make model`)
pytest tests/model --model-seed N             the histories that a run with that seed had, as far as kills and races allow
"""

import random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.error_tables import Observed
from tests.model.machine import Machine
from tests.model.product import Product
from tests.model.telling import Tally

MOST_STEPS_IN_A_HISTORY = 100
HISTORIES_AT_A_TIME = 50


@pytest.mark.timeout(0)  # as long as it was asked to be; each call has its own
def test_every_answer_every_state_and_every_byte_is_what_the_rules_say(
    product: Product, observed: Observed, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
):
    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    steps: int = pytestconfig.getoption("model_steps")
    chosen = pytestconfig.getoption("model_seed")
    number = random.randrange(1 << 32) if chosen is None else chosen
    # In a short run too there are several: the first one is hypothesis's simplest, the same step again and again.
    in_a_history = max(1, min(MOST_STEPS_IN_A_HISTORY, steps // 10))
    tally = Tally(tell, steps)
    machine = type("Machine", (Machine,), {"product": product, "tally": tally})
    tell(f"model: seed {number}")
    try:
        while tally.steps < steps:
            histories = -(-(steps - tally.steps) // in_a_history)
            run_state_machine_as_test(
                seed(number)(machine),
                settings=settings(
                    max_examples=min(HISTORIES_AT_A_TIME, histories),
                    stateful_step_count=in_a_history,
                    deadline=None,
                    database=None,
                    derandomize=False,
                    print_blob=True,
                    report_multiple_bugs=False,
                    # A history is as long as it is: real processes are asked, some of which are killed and started again.
                    suppress_health_check=[HealthCheck.too_slow],
                    phases=[Phase.generate, Phase.shrink],
                ),
            )
            number += 1
    finally:
        tell(tally.told())
    assert product.faults() == []
    assert observed.undocumented() == []
