"""The lossless form in which a layer is stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model_prep.source import SourceLayer, Weight

Array = NDArray[Any]

TABLE_SIZE = 256
# What a value of a table takes in the manifest, about.
_TABLE_VALUE_BYTES = 24
_GLANCE = 4096


@dataclass(frozen=True, eq=False)
class Rows:
    """A layer's weights in stored order.

    Attributes
    ----------
    starts : (rows + 1,)
        Where each row's entries begin.
    columns : (nnz,)
        Stored position, in the layer before, of each entry's column; a row's entries ascend by column of the
        source.
    values : (nnz,) float32
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]


def stored_rows(weight: Weight, order: NDArray[np.int64], positions: NDArray[np.int64] | None) -> Rows:
    """Take a layer's rows in ``order``, and name its columns by ``positions`` (None: as they are)."""
    begins = weight.indptr[order].astype(np.int64)
    lengths = weight.indptr[order + 1] - begins
    starts = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    entries = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths)
    columns = weight.indices[entries]
    return Rows(starts, columns if positions is None else positions[columns], weight.data[entries])


@dataclass(frozen=True, eq=False)
class EncodedLayer:
    """One layer as it is written: the fields of `lamella.manifest.Layer`, arrays instead of their types.

    Attributes
    ----------
    rows, columns, nnz
        Outputs, inputs and weights.
    table
        Values that ``values`` are codes of, if they are.
    bounds : (tiles + 1,)
        Rows at which tiles begin.
    tiles
        Bytes of each.
    band, positions
        Of a dense layer, which has no indices: see `lamella.manifest.Dense`.
    """

    rows: int
    columns: int
    nnz: int
    row_nnz: int | Array
    indices: Array | None
    values: float | Array
    table: tuple[float, ...] | None
    bias: float | Array
    order: Array | None
    bounds: NDArray[np.int64]
    entry_bounds: NDArray[np.int64]
    tiles: list[bytes]
    band: int = 1
    positions: Array | None = None

    def digest(self, start: int, stop: int) -> bytes:
        """sha256 of the tiles that the rows ``[start, stop)`` consist of."""
        first, last = np.searchsorted(self.bounds, (start, stop))
        state = hashlib.sha256()
        for tile in self.tiles[first:last]:
            state.update(tile)
        return state.digest()


def encode(
    layer: SourceLayer, rows: Rows, order: NDArray[np.int64], bounds: NDArray[np.int64]
) -> EncodedLayer:
    """Choose the smallest exact form of each of a layer's arrays, and cut them into tiles.

    Parameters
    ----------
    bounds
        Rows at which tiles begin, and the number of rows.
    """
    values, table = encode_values(rows.values)
    lengths = np.diff(rows.starts)
    uniform = bool((lengths == lengths[0]).all())
    row_nnz = int(lengths[0]) if uniform else narrow(lengths, int(lengths.max()))
    indices = narrow(rows.columns, layer.inputs - 1)
    bias = encode_bias(layer.bias, order)
    moved = bool((order != np.arange(len(order))).any())
    entry_bounds = rows.starts[bounds]
    tiles = []
    for (first, last), (begin, end) in zip(pairwise(bounds), pairwise(entry_bounds), strict=True):
        by_row, by_entry = slice(int(first), int(last)), slice(int(begin), int(end))
        held = ((row_nnz, by_row), (indices, by_entry), (values, by_entry), (bias, by_row))
        tiles.append(b"".join(array[span].data for array, span in held if isinstance(array, np.ndarray)))
    return EncodedLayer(
        rows=len(order),
        columns=layer.inputs,
        nnz=len(rows.columns),
        row_nnz=row_nnz,
        indices=indices,
        values=values,
        table=table,
        bias=bias,
        order=narrow(order, len(order) - 1) if moved else None,
        bounds=bounds,
        entry_bounds=entry_bounds,
        tiles=tiles,
    )


def encode_bias(bias: float | NDArray[np.float32], order: NDArray[np.int64]) -> float | Array:
    """One number, if it is the same for all rows; else one for each in ``order``."""
    if not isinstance(bias, np.ndarray):
        return bias
    same = bool((_bits(bias) == _bits(bias)[0]).all())
    return float(bias[0]) if same else bias[order].astype("<f4")


def encode_values(values: NDArray[np.float32]) -> tuple[float | Array, tuple[float, ...] | None]:
    """The smallest exact form of float32 values: one number, codes and their table, float16, or float32."""
    if not len(values):
        return 0.0, None
    bits = _bits(values)
    distinct = np.unique(bits[:_GLANCE])
    if len(distinct) <= TABLE_SIZE:
        distinct = np.unique(bits)
    if len(distinct) == 1:
        return float(values[0]), None
    table_bytes = len(values) + _TABLE_VALUE_BYTES * len(distinct)
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype("<f2")
    exact = bool((_bits(half.astype(np.float32)) == bits).all())
    plain = half if exact else values.astype("<f4")
    if len(distinct) > TABLE_SIZE or table_bytes >= plain.nbytes:
        return plain, None
    codes = np.searchsorted(distinct, bits).astype(np.uint8)
    return codes, tuple(distinct.view(np.float32).tolist())


def narrow(values: NDArray[Any], largest: int) -> Array:
    """Whole numbers in the narrowest unsigned type that holds ``largest``."""
    return np.ascontiguousarray(values, np.min_scalar_type(largest).newbyteorder("<"))


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)
