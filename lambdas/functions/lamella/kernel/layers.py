"""What the kernel multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.kernel.activation import Activation

PANEL = 16  # rows of a dense layer whose weights lie together, as kernel.c has it


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a layer does with its sums, and what messages call it.

    Attributes
    ----------
    number
        The layer's, for messages.
    columns
        Rows that the input block must have.
    bias
        One float32, or one per row.
    slope
        Of leaky_relu, below zero; as float32.
    """

    number: int
    columns: int
    bias: np.float32 | NDArray[np.float32]
    bias_on_nonzero: bool
    activation: Activation
    lo: np.float32 | None
    hi: np.float32 | None
    zeros_to_zeros: bool
    slope: float = 0.0

    @property
    def rows(self) -> int:
        raise NotImplementedError

    @property
    def nnz(self) -> int:
        """Products that a sample costs."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Of its weights."""
        raise NotImplementedError

    def shares(self, count: int) -> list[int]:
        """Bounds of as many ranges of rows that cost alike."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LayerWeights(Layer):
    """Rows of one sparse layer, ready to be multiplied.

    Attributes
    ----------
    starts : (rows + 1,) int32
    indices : (nnz,) int32
        Row of the input block that each entry multiplies; all within ``columns``.
    values : (nnz,) float32
    """

    starts: NDArray[np.int32]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def bytes(self) -> int:
        return self.indices.nbytes + self.values.nbytes

    def shares(self, count: int) -> list[int]:
        inner = np.searchsorted(self.starts, np.linspace(0, self.nnz, count + 1)[1:-1])
        return [0, *inner.tolist(), self.rows]


@dataclass(frozen=True, kw_only=True)
class DenseWeights(Layer):
    """Rows of one dense layer, ready to be multiplied.

    Its sums have the bits of a sparse layer's with the same weights: a product that is zero changes none.

    Attributes
    ----------
    height
        Its rows.
    panels : (ceil(rows / PANEL), columns, PANEL)
        Weights as stored: float32, float16, or the bits of bfloat16 as uint16; zeros after the last row.
    """

    height: int
    panels: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]

    @property
    def rows(self) -> int:
        return self.height

    @property
    def nnz(self) -> int:
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        return self.panels.nbytes

    def shares(self, count: int) -> list[int]:
        panels = len(self.panels)
        return [min(self.rows, panels * i // count * PANEL) for i in range(count)] + [self.rows]

    def weights(self) -> NDArray[np.float32]:
        """All of them, (rows, columns)."""
        flat = self.panels.transpose(0, 2, 1).reshape(-1, self.columns)[: self.rows]
        if flat.dtype == np.uint16:
            return (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.astype(np.float32)


def dense_panels(weights: NDArray[np.generic]) -> NDArray[np.generic]:
    """A (rows, columns) matrix in the order of `DenseWeights.panels`."""
    rows, columns = weights.shape
    padded = np.zeros((-(-rows // PANEL) * PANEL, columns), weights.dtype)
    padded[:rows] = weights
    return np.ascontiguousarray(padded.reshape(-1, PANEL, columns).transpose(0, 2, 1))
