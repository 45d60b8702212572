"""A complete answer when an instance is refused: "When compute_svc refuses, the disks are still asked, so that the answer is
complete" (design.md §4).
"""

from collections.abc import Callable
from typing import NoReturn

from svckit.calls import Unanswered
from svckit.errors import Refusal, refuse_all


def refuse_with_disks(refusal: Refusal, ask_disks: Callable[[], object], *, domain: str) -> NoReturn:
    """Raise a refusal together with what the disks have against it."""
    refusals = [refusal]
    try:
        ask_disks()
    except Refusal as disks_refuse:
        refusals.append(disks_refuse)
    except Unanswered:
        pass  # the refusal at hand is reason enough
    refuse_all(refusals, domain)
    raise refusal
