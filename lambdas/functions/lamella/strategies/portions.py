"""Who owns what: the one description that every strategy gives, and that tasks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from lamella.plan import Range


@dataclass(frozen=True)
class Portion:
    """What one worker computes: some rows of consecutive layers, for some samples.

    Attributes
    ----------
    layers, samples
        ``[start, stop)``.
    part
        Which part of each layer, by the plan's cut; None for whole layers.
    """

    layers: Range
    samples: Range
    part: int | None = None


def even_ranges(count: int, ranges: int) -> list[Range]:
    """``count`` things in so many consecutive ranges, none more than one longer than another."""
    return list(pairwise(count * i // ranges for i in range(ranges + 1)))
