"""What the kernel multiplies by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.activation_names import ActivationName

_NO_SLOPE = np.float32(0)


@dataclass(frozen=True, kw_only=True)
class AnyLayer:
    """What layers have in common; an output is ``clip(activation(sum + bias), lo, hi)``.

    Attributes
    ----------
    number
        The layer's, for messages.
    columns
        Rows that the input block must have.
    bias
        One float32, or one per row.
    slope
        Of ``leaky_relu``, below zero.
    """

    number: int
    columns: int
    bias: np.float32 | NDArray[np.float32]
    bias_on_nonzero: bool
    activation: ActivationName
    slope: np.float32 = _NO_SLOPE
    lo: np.float32 | None
    hi: np.float32 | None
    zeros_to_zeros: bool


@dataclass(frozen=True, kw_only=True)
class LayerWeights(AnyLayer):
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
        """Of its entries."""
        return self.indices.nbytes + self.values.nbytes

    def row_shares(self, count: int) -> list[int]:
        """Bounds of so many ranges of rows that take alike long."""
        bounds: list[int] = np.searchsorted(self.starts, np.linspace(0, self.nnz, count + 1)).tolist()
        bounds[0], bounds[-1] = 0, self.rows
        return bounds


@dataclass(frozen=True, kw_only=True)
class DenseWeights(AnyLayer):
    """Rows of one dense layer, as they are stored.

    Attributes
    ----------
    rows, inputs
        Of the weights' matrix.
    values : (rows * inputs,) float32, float16 or bfloat16
        Band after band of ``band`` rows (the last may have fewer), and in a band column after column.
    positions : (inputs,) int32
        Row of the input block that each column multiplies, all within ``columns``; None where it is the same.
    """

    rows: int
    inputs: int
    values: NDArray[np.generic]
    band: int
    positions: NDArray[np.int32] | None

    @property
    def nnz(self) -> int:
        return self.rows * self.inputs

    @property
    def bytes(self) -> int:
        return self.values.nbytes

    def row_shares(self, count: int) -> list[int]:
        """Bounds of so many ranges of rows that take alike long: of whole tiles."""
        tiles = -(-self.rows // self.band)
        return [min(self.rows, tiles * i // count * self.band) for i in range(count + 1)]
