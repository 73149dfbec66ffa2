"""Whether the workers of a run that failed are launched once more: a pure rule."""

from __future__ import annotations

from lamella.failures import may_pass
from lamella.layout import MAX_ATTEMPTS


def is_worth_another(attempt: int, error: str, started_s: float, failed_s: float, left_s: float) -> bool:
    """Whether an attempt is to be followed by one more.

    Parameters
    ----------
    attempt
        The one that failed, from 1.
    error
        What the attempt failed by, as Step Functions names it.
    started_s, failed_s
        Unix times at which the run was begun, and at which it was seen to have failed: another attempt has
        to come further than this one did.
    left_s
        Of the run's one deadline.
    """
    return attempt < MAX_ATTEMPTS and may_pass(error) and left_s >= failed_s - started_s
