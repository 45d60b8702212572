"""What tests/faults/test_every_step.py goes through is what there is."""

from tests.faults.attempts import Attempts
from tests.faults.sagas import BY_THE_CLOCK, SAGAS


def test_there_is_an_attempt_at_every_kind_of_saga():
    assert Attempts.kinds() | BY_THE_CLOCK == SAGAS.keys()
