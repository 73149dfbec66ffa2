"""A worker's own weights: where they are stored, and what they are once read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from lamella.kernel import LayerWeights
from lamella.manifest import DTYPES, Layer, Table
from lamella.plan import LayerPart
from lamella.tiles import Tiles


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
        indices = self.indices if position is None else position[self.indices]
        if len(indices) and (indices.min() < 0 or indices.max() >= columns):
            raise ModelError(
                f"layer {self.layer} needs rows that its cut doesn't name: prepare the model again"
            )
        return LayerWeights(
            number=self.layer,
            columns=columns,
            starts=self.starts.astype(np.int32),
            indices=indices,
            values=self.values,
            bias=self.bias,
            bias_on_nonzero=layer.bias_on == "nonzero",
            activation=layer.activation,
            lo=None if layer.lo is None else np.float32(layer.lo),
            hi=None if layer.hi is None else np.float32(layer.hi),
            zeros_to_zeros=layer.zeros_to_zeros,
        )


def decoded(layer: Layer, part: LayerPart, tiles: Tiles, data: memoryview, where: str) -> StoredPart:
    """A part from its bytes.

    Parameters
    ----------
    data
        Its tiles, one after the other.
    where
        The model's place, for messages.

    Raises
    ------
    ModelError
        If they are not what the part's cut says.
    """
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
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
        values = np.array(layer.values.values, np.float32)[arrays["values"]]
    else:
        values = arrays["values"]
    bias = np.float32(layer.bias) if isinstance(layer.bias, float) else arrays["bias"]
    return StoredPart(part.layer, starts, arrays["indices"], values, bias)


@dataclass(frozen=True)
class _Field:
    """An array of a tile, as it is stored and as it is used."""

    name: str
    dtype: np.dtype[np.generic]
    ready: type[np.generic]
    per_entry: bool


def _fields(layer: Layer) -> list[_Field]:
    """What a tile of a layer holds, in order."""
    codes = isinstance(layer.values, Table)
    held = (
        ("row_nnz", layer.row_nnz, np.int64, False),
        ("indices", layer.indices, np.int32, True),
        ("values", "U8" if codes else layer.values, np.uint8 if codes else np.float32, True),
        ("bias", layer.bias, np.float32, False),
    )
    return [
        _Field(name, DTYPES[dtype], ready, each)
        for name, dtype, ready, each in held
        if isinstance(dtype, str)
    ]
