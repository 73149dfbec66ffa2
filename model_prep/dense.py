"""Dense layers: what is stored with its zeros, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.numbers import BFLOAT16, as_bfloat16, as_float32
from model_prep.encode import EncodedLayer, encode_bias, narrow

if TYPE_CHECKING:
    from model_prep.source import SourceLayer

Array = NDArray[Any]

# A matrix that a source gives whole is stored whole if so much of it is not zero. At half, float32 takes 4
# bytes a weight instead of 3 with a 16-bit index for each that is not zero, and is multiplied (measured at
# 2,048 x 2,048) 5 times as fast for one sample, twice for 8, 1.1 times for 64.
DENSE_SHARE = 0.5
# Rows whose weights lie beside each other, as the compiled kernel multiplies them (dense.h). Cuts are between
# bands, so layers of few rows have them one by one.
BAND_ROWS = 8
BANDED_FROM_ROWS = 512


@dataclass(frozen=True, eq=False)
class DenseWeight:
    """A matrix whose zeros are weights like others.

    Attributes
    ----------
    values : (outputs, inputs) float32, float16 or bfloat16
    """

    values: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs, inputs."""
        rows, columns = self.values.shape
        return rows, columns

    @property
    def nnz(self) -> int:
        """Stored weights: all."""
        return int(self.values.size)

    def toarray(self) -> NDArray[np.float32]:
        """As float32."""
        return as_float32(self.values)


def band_of(rows: int) -> int:
    """Rows of a band in a layer of so many."""
    return BAND_ROWS if rows >= BANDED_FROM_ROWS else 1


def narrowed(values: Array) -> Array:
    """The same numbers in 16 bits, where each of them fits exactly."""
    if values.dtype.itemsize == 2:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    if not (bits & np.uint32(0xFFFF)).any():
        return as_bfloat16(values)
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype("<f2")
    return half if bool((half.astype(np.float32).view(np.uint32) == bits).all()) else values


def banded(values: Array, band: int) -> Array:
    """The weights in stored order: band after band of rows, and in a band column after column."""
    rows, columns = values.shape
    whole = rows // band * band
    bands = values[:whole].reshape(-1, band, columns).transpose(0, 2, 1)
    return np.concatenate([np.ascontiguousarray(bands).reshape(-1), values[whole:].T.reshape(-1)])


def encode_dense(
    layer: SourceLayer, positions: NDArray[np.int64] | None, bounds: NDArray[np.int64]
) -> EncodedLayer:
    """A dense layer in its smallest exact form; its rows are in the source's order.

    Parameters
    ----------
    positions
        Stored row of the layer before for each row of the source; None where they are the same.
    bounds
        Rows at which tiles begin, whole bands, and the number of rows.
    """
    assert isinstance(layer.weight, DenseWeight)
    rows, columns = layer.weight.shape
    band = band_of(rows)
    values = banded(narrowed(layer.weight.values), band)
    if values.dtype != BFLOAT16:
        values = values.astype(values.dtype.newbyteorder("<"))
    bias = encode_bias(layer.bias, np.arange(rows))
    entry_bounds = bounds * columns
    tiles = []
    for (first, last), (begin, end) in zip(pairwise(bounds), pairwise(entry_bounds), strict=True):
        shifts = bias[first:last].tobytes() if isinstance(bias, np.ndarray) else b""
        tiles.append(values[begin:end].tobytes() + shifts)
    return EncodedLayer(
        rows=rows,
        columns=columns,
        nnz=rows * columns,
        row_nnz=columns,
        indices=None,
        values=values,
        table=None,
        bias=bias,
        order=None,
        bounds=bounds,
        entry_bounds=entry_bounds,
        tiles=tiles,
        band=band,
        positions=None if positions is None else narrow(positions, columns - 1),
    )
