"""What the kernel multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LayerWeights:
    """Rows of one layer, ready to be multiplied.

    Attributes
    ----------
    number
        The layer's, for messages.
    columns
        Rows that the input block must have.
    starts : (rows + 1,) int32
    indices : (nnz,) int32
        Row of the input block that each entry multiplies; all within ``columns``.
    values : (nnz,) float32
    bias
        One float32, or one per row.
    """

    number: int
    columns: int
    starts: NDArray[np.int32]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bias: np.float32 | NDArray[np.float32]
    bias_on_nonzero: bool
    relu: bool
    lo: np.float32 | None
    hi: np.float32 | None
    zeros_to_zeros: bool

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def bytes(self) -> int:
        """Of its entries."""
        return self.indices.nbytes + self.values.nbytes
