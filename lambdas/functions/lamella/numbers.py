"""The types in which weights are stored, as numpy has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# numpy has no such numbers, and must not take them for whole ones: the upper half of a float32, in a field.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers as float32; larger ones become infinite."""
    if values.dtype != BFLOAT16:
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    upper = np.ascontiguousarray(values).view("<u2").reshape(values.shape)
    return (upper.astype(np.uint32) << np.uint32(16)).view(np.float32)


def as_bfloat16(values: NDArray[np.float32]) -> NDArray[Any]:
    """The upper halves of float32 numbers: the same numbers where the lower ones are zero."""
    upper = np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(16)
    return upper.astype("<u2").view(BFLOAT16).reshape(values.shape)
