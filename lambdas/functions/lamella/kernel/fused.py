"""Fused multiplication and addition of float32, in numpy: ``a b + c`` rounded once, as C's fmaf does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fused(a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]) -> NDArray[np.float32]:
    """By way of float64, which holds every product exactly.

    Their sum is rounded to odd, not to nearest: then rounding it to float32 is as if it had been done at once
    (Boldo and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms using rounding to
    odd, IEEE Transactions on Computers 57, 2008).
    """
    with np.errstate(all="ignore"):
        product, addend = a.astype(np.float64) * b, c.astype(np.float64)
        total = product + addend
        # What rounding took away (Knuth's two-sum).
        seen = total - product
        lost = (product - (total - seen)) + (addend - seen)
        bits = total.view(np.int64)
        inexact = (lost != 0) & (bits & 1 == 0) & np.isfinite(total)
        bits += np.where((lost > 0) == (total > 0), 1, -1) * inexact
        return total.astype(np.float32)
