"""A worker's own weights: where they are stored, and what they are once read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lamella.activation_names import ActivationName
from lamella.errors import ModelError
from lamella.kernel import DenseWeights, LayerWeights
from lamella.manifest import DTYPES, Layer, Table
from lamella.plan import LayerPart
from lamella.tiles import Tiles

# Of a part: the kernel counts them in int32.
MOST_ENTRIES = 2**31


@dataclass(frozen=True)
class StoredPart:
    """Rows of a layer as they are stored.

    Attributes
    ----------
    starts : (rows + 1,) int64
        Where each row's entries begin; the first is 0.
    indices : (nnz,) int32
        Rows of the layer before.
    values : (nnz,) float32
    bias
        One float32, or one per row.
    """

    layer: int
    starts: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bias: np.float32 | NDArray[np.float32]

    def for_kernel(self, layer: Layer, position: NDArray[np.int32] | None, columns: int) -> LayerWeights:
        """Weights whose indices are rows of a worker's input block.

        Parameters
        ----------
        position
            Where each row of the layer before is in that block, or -1; None where the block is that layer.
        columns
            Rows of the block.

        Raises
        ------
        ModelError
            If a weight multiplies a row that the block lacks.
        """
        indices = _in_block(self.indices, position, layer.columns, columns, self.layer)
        return LayerWeights(
            number=self.layer,
            columns=columns,
            starts=self.starts.astype(np.int32),
            indices=indices,
            values=self.values,
            bias=self.bias,
            bias_on_nonzero=layer.bias_on == "nonzero",
            activation=_activation(layer),
            slope=np.float32(layer.slope),
            lo=None if layer.lo is None else np.float32(layer.lo),
            hi=None if layer.hi is None else np.float32(layer.hi),
            zeros_to_zeros=layer.zeros_to_zeros,
        )


@dataclass(frozen=True)
class DensePart:
    """Rows of a dense layer as they are stored.

    Attributes
    ----------
    rows
        How many.
    values : (rows * columns of the layer,)
        As `lamella.manifest.Dense` describes them.
    positions : (columns of the layer,)
        Row of the layer before that each column multiplies; None where they are the same.
    bias
        One float32, or one per row.
    """

    layer: int
    rows: int
    values: NDArray[np.generic]
    positions: NDArray[np.unsignedinteger] | None
    bias: np.float32 | NDArray[np.float32]

    def for_kernel(self, layer: Layer, position: NDArray[np.int32] | None, columns: int) -> DenseWeights:
        """As `StoredPart.for_kernel`; the weights themselves are not copied."""
        positions: NDArray[np.int32] | None = None
        # Without rows none is multiplied, and none was sent.
        if self.rows and not (self.positions is None and position is None):
            rows_before = np.arange(layer.columns) if self.positions is None else self.positions
            positions = _in_block(rows_before, position, layer.columns, columns, self.layer)
        return DenseWeights(
            number=self.layer,
            columns=columns,
            rows=self.rows,
            inputs=layer.columns,
            values=self.values,
            band=layer.band,
            positions=positions,
            bias=self.bias,
            bias_on_nonzero=layer.bias_on == "nonzero",
            activation=_activation(layer),
            slope=np.float32(layer.slope),
            lo=None if layer.lo is None else np.float32(layer.lo),
            hi=None if layer.hi is None else np.float32(layer.hi),
            zeros_to_zeros=layer.zeros_to_zeros,
        )


AnyPart = StoredPart | DensePart


def _in_block(
    rows: NDArray[np.integer], position: NDArray[np.int32] | None, width: int, columns: int, layer: int
) -> NDArray[np.int32]:
    """Rows of the layer before, of which there are ``width``, as rows of a block of ``columns``.

    The kernel reads where they say, so each is looked at.

    Raises
    ------
    ModelError
        If there is no such row, or the block lacks it.
    """
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < width:
        raise ModelError(f"layer {layer} multiplies rows that there are not: prepare the model again")
    indices = rows.astype(np.int32, copy=False) if position is None else position[rows]
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < columns:
        raise ModelError(f"layer {layer} needs rows that its cut doesn't name: prepare the model again")
    return indices


def _activation(layer: Layer) -> ActivationName:
    """What workers apply: softmax needs whole samples, which only Collect has."""
    return "identity" if layer.activation == "softmax" else layer.activation


def decoded(
    layer: Layer, part: LayerPart, tiles: Tiles, data: memoryview, positions: bytes | None, where: str
) -> AnyPart:
    """A part from its bytes.

    Parameters
    ----------
    data
        Its tiles, one after the other.
    positions
        Bytes of a dense layer's positions, if it has any.
    where
        The model's place, for messages.

    Raises
    ------
    ModelError
        If they are not what the part's cut says.
    """
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
    if nnz >= MOST_ENTRIES:
        raise ModelError(
            f"layer {part.layer} of {where} has {nnz:,} weights for one worker, which takes less than "
            f"{MOST_ENTRIES:,}: ask for more workers"
        )
    fields = _fields(layer)
    # Each is written where it stays, in its final type: large layers are copied no more than once.
    arrays = {field.name: np.empty(nnz if field.per_entry else rows, field.ready) for field in fields}
    offset = row = entry = 0
    for tile_rows, tile_entries in zip(tiles.rows, tiles.entries, strict=True):
        for field in fields:
            first, count = (entry, tile_entries) if field.per_entry else (row, tile_rows)
            piece = np.frombuffer(data, field.dtype, count, offset)
            arrays[field.name][first : first + count] = piece
            offset += piece.nbytes
        row += tile_rows
        entry += tile_entries
    bias = np.float32(layer.bias) if isinstance(layer.bias, float) else arrays["bias"]
    if layer.dense:
        if nnz != rows * layer.columns or (rows and part.rows[0] % layer.band):
            raise ModelError(f"layer {part.layer} of {where} contradicts its cut: prepare the model again")
        rows_before = None
        if layer.dense.positions:
            assert positions is not None
            rows_before = np.frombuffer(positions, DTYPES[layer.dense.positions.dtype])
        return DensePart(part.layer, rows, arrays["values"], rows_before, bias)
    starts: NDArray[np.int64]
    if isinstance(layer.row_nnz, int):
        starts = np.arange(rows + 1) * layer.row_nnz
    else:
        starts = np.concatenate([[0], np.cumsum(arrays["row_nnz"])])
    if starts[-1] != nnz:
        raise ModelError(f"layer {part.layer} of {where} contradicts its cut: prepare the model again")
    values: NDArray[np.float32]
    if isinstance(layer.values, float):
        values = np.full(nnz, layer.values, np.float32)
    elif isinstance(layer.values, Table):
        table = np.array(layer.values.values, np.float32)
        if arrays["values"].max(initial=0) >= len(table):
            raise ModelError(
                f"layer {part.layer} of {where} names values that there are not: prepare it again"
            )
        values = table[arrays["values"]]
    else:
        values = arrays["values"]
    return StoredPart(part.layer, starts, arrays["indices"], values, bias)


@dataclass(frozen=True)
class _Field:
    """An array of a tile, as it is stored and as it is used."""

    name: str
    dtype: np.dtype[np.generic]
    ready: np.dtype[Any]
    per_entry: bool


def _fields(layer: Layer) -> list[_Field]:
    """What a tile of a layer holds, in order."""
    values = "U8" if isinstance(layer.values, Table) else layer.values
    # Codes, and dense weights, are used as they are stored.
    kept = values == "U8" or layer.dense is not None
    held: tuple[tuple[str, object, DTypeLike, bool], ...] = (
        ("row_nnz", None if layer.dense else layer.row_nnz, np.int64, False),
        ("indices", layer.indices, np.int32, True),
        ("values", values, DTYPES[values] if kept and isinstance(values, str) else np.float32, True),
        ("bias", layer.bias, np.float32, False),
    )
    return [
        _Field(name, DTYPES[dtype], np.dtype(ready), each)
        for name, dtype, ready, each in held
        if isinstance(dtype, str)
    ]
