"""A complete answer when a lease is refused: "When compute_svc refuses, the disks are still asked, so that the answer is
complete" (design.md §4).
"""

from collections.abc import Callable

from svckit.calls import Unanswered
from svckit.errors import Refusal, refuse_all
from svckit.saga.definition import Run


def refuse_with_disks(refusal: Refusal, ask_disks: Callable[[Run], object], run: Run, *, domain: str) -> None:
    """Raise a refusal together with what the disks have against it."""
    refusals = [refusal]
    try:
        ask_disks(run)
    except Refusal as disks_refuse:
        refusals.append(disks_refuse)
    except Unanswered:
        pass  # the refusal at hand is reason enough
    refuse_all(refusals, domain)
