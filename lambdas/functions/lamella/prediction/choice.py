"""Which of several plans is taken, by seconds and dollars alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WITHIN = 2.0  # times the fastest's seconds, of which the cheapest is taken where nothing is asked


@dataclass(frozen=True)
class Offer:
    """What a plan takes and costs."""

    seconds: float
    usd: float


def front(offers: Sequence[Offer]) -> list[int]:
    """Those than which none is both as fast and as cheap (Pareto), the fastest first; of equals the first."""
    kept: list[int] = []
    for number in sorted(range(len(offers)), key=lambda i: (offers[i].seconds, offers[i].usd, i)):
        if not kept or offers[number].usd < offers[kept[-1]].usd:
            kept.append(number)
    return kept


def chosen(
    offers: Sequence[Offer], *, deadline_s: float | None = None, budget_usd: float | None = None
) -> int | None:
    """The one to take; None if none keeps to what is asked.

    With a deadline, the cheapest that keeps it (and to the budget); with a budget alone, the fastest that
    keeps it; with neither, the cheapest of those within `WITHIN` times the fastest.
    """
    kept = front(offers)
    if budget_usd is not None:
        kept = [number for number in kept if offers[number].usd <= budget_usd]
    if deadline_s is not None:
        kept = [number for number in kept if offers[number].seconds <= deadline_s]
    elif budget_usd is None and kept:
        within_s = WITHIN * offers[kept[0]].seconds
        kept = [number for number in kept if offers[number].seconds <= within_s]
    if not kept:
        return None
    # A front is the dearer the faster.
    return kept[0] if budget_usd is not None and deadline_s is None else kept[-1]
