"""Dense layers: what is stored with its zeros, and in which order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.numbers import BFLOAT16, as_bfloat16, as_float32
from model_prep.encode import encode_bias, narrow

if TYPE_CHECKING:
    from model_prep.source import SourceLayer

Array = NDArray[Any]

# A matrix that a source gives whole is stored whole if so much of it is not zero. At half, float32 takes 4
# bytes a weight instead of 3 with a 16-bit index for each that is not zero, and is multiplied several times
# as fast: without indices, sums of whole tiles stay in registers.
DENSE_SHARE = 0.5
# Rows whose weights lie beside each other, as the compiled kernel multiplies them (dense.h). Cuts are between
# tiles, so layers of few rows have them one by one.
TILE_ROWS = 8
TILED_FROM_ROWS = 512


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


def tile_of(rows: int) -> int:
    """Rows of a tile in a layer of so many."""
    return TILE_ROWS if rows >= TILED_FROM_ROWS else 1


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


def tiled(values: Array, tile: int) -> Array:
    """The weights in stored order: tile after tile of rows, and in a tile column after column."""
    rows, columns = values.shape
    whole = rows // tile * tile
    tiles = values[:whole].reshape(-1, tile, columns).transpose(0, 2, 1)
    return np.concatenate([np.ascontiguousarray(tiles).reshape(-1), values[whole:].T.reshape(-1)])


@dataclass(frozen=True, eq=False)
class EncodedDense:
    """A dense layer as it is written: the fields of `lamella.manifest.Layer`, arrays instead of tensors.

    Its rows are in the source's order: each reads every column, so none is better anywhere.

    Attributes
    ----------
    starts : (rows + 1,) int64
        Where each row's weights would begin, one row after the other.
    values : (rows * columns,)
        See `tiled`.
    positions : (columns,)
        Stored row of the layer before that each column multiplies; None where they are the same.
    """

    columns: int
    starts: NDArray[np.int64]
    tile: int
    values: Array
    positions: Array | None
    bias: float | Array

    order = None

    @property
    def rows(self) -> int:
        """Outputs."""
        return len(self.starts) - 1

    @property
    def nnz(self) -> int:
        """Weights."""
        return len(self.values)

    def arrays(self) -> dict[str, Array]:
        """What goes into a file, in the order in which it is hashed."""
        named = {"positions": self.positions, "values": self.values, "bias": self.bias}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    def digest(self, start: int, stop: int) -> bytes:
        """sha256 of the bytes of the rows ``[start, stop)``, which are whole tiles."""
        spans = {
            "positions": slice(None),
            "values": slice(int(self.starts[start]), int(self.starts[stop])),
            "bias": slice(start, stop),
        }
        state = hashlib.sha256()
        for name, array in self.arrays().items():
            state.update(array[spans[name]].view(np.uint8).data)
        return state.digest()


def encode_dense(layer: SourceLayer, positions: NDArray[np.int64] | None) -> EncodedDense:
    """A dense layer in its smallest exact form.

    Parameters
    ----------
    positions
        Stored row of the layer before for each row of the source; None where they are the same.
    """
    assert isinstance(layer.weight, DenseWeight)
    rows, columns = layer.weight.shape
    tile = tile_of(rows)
    values = tiled(narrowed(layer.weight.values), tile)
    return EncodedDense(
        columns=columns,
        starts=np.arange(rows + 1) * columns,
        tile=tile,
        values=values if values.dtype == BFLOAT16 else values.astype(values.dtype.newbyteorder("<")),
        positions=None if positions is None else narrow(positions, columns - 1),
        bias=encode_bias(layer.bias, np.arange(rows)),
    )
