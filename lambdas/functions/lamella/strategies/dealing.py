"""Which samples each share has: live work is what is to be even, not the count.

A sample's work is the layers that it stays alive in, which its input tells only roughly: in sparse networks
those with many nonzero features live on. So samples are sorted by that, and dealt in snake order, first to
last share and back, which evens out whatever grows with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.plan import Range
from lamella.strategies.portions import even_ranges

# Shares of consecutive samples are kept where none has more work than this times the mean.
EVEN_ENOUGH = 1.02


def deal(nonzero: NDArray[np.int64], shares: int) -> NDArray[np.uint32] | None:
    """The sample at each position, ascending within each share of positions (`even_ranges`).

    Parameters
    ----------
    nonzero : (samples,)
        How many features of each sample are not zero.

    Returns
    -------
    (samples,) uint32, or None
        None where the input's own order is as good.
    """
    # Squares, since those with many do much more: of the official images, the upper tenth lives ten times as
    # long as the middle (benchmarks/dealing.py).
    work = nonzero * nonzero
    ranges = even_ranges(len(work), shares)
    before = unevenness(work, ranges)
    if before <= EVEN_ENOUGH:
        return None
    dealt = np.argsort(_snake(work, ranges), kind="stable")
    return dealt.astype(np.uint32) if unevenness(work[dealt], ranges) < before else None


def unevenness(work: NDArray[np.number], ranges: Sequence[Range]) -> float:
    """Of consecutive samples, the most work of a range over the mean."""
    sums = np.array([work[start:stop].sum() for start, stop in ranges], np.float64)
    return float(sums.max() / sums.mean()) if sums.any() else 1.0


def _snake(work: NDArray[np.int64], ranges: Sequence[Range]) -> NDArray[np.int16]:
    """Each sample's share; all have as many as their ranges are long."""
    shares = len(ranges)
    rounds = len(work) // shares
    turn = np.arange(shares, dtype=np.int16)
    order = np.tile(np.concatenate([turn, turn[::-1]]), rounds // 2 + 1)[: rounds * shares]
    longer = [share for share, (start, stop) in enumerate(ranges) if stop - start > rounds]
    owners = np.empty(len(work), np.int16)
    owners[np.argsort(-work, kind="stable")] = np.concatenate([order, np.array(longer, np.int16)])
    return owners
