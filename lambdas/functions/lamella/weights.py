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
    indices : (nnz,)
        Rows of the layer before.
    values : (nnz,) float32
    bias
        One float32, or one per row.
    """

    layer: int
    starts: NDArray[np.int64]
    indices: NDArray[np.unsignedinteger]
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
        indices = self.indices.astype(np.int32) if position is None else position[self.indices]
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
    fields = _fields(layer)
    pieces: dict[str, list[NDArray[np.generic]]] = {field.name: [] for field in fields}
    offset = 0
    for rows, entries in zip(tiles.rows, tiles.entries, strict=True):
        for field in fields:
            piece = np.frombuffer(data, field.dtype, entries if field.per_entry else rows, offset)
            pieces[field.name].append(piece)
            offset += piece.nbytes
    if len(fields) == 1:
        # What is stored of nothing but indices is one array already.
        pieces[fields[0].name] = [np.frombuffer(data, fields[0].dtype)]
    arrays = {name: found[0] if len(found) == 1 else np.concatenate(found) for name, found in pieces.items()}
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
    starts: NDArray[np.int64]
    if isinstance(layer.row_nnz, int):
        starts = np.arange(rows + 1) * layer.row_nnz
    else:
        starts = np.concatenate([[0], np.cumsum(arrays["row_nnz"], dtype=np.int64)])
    if starts[-1] != nnz:
        raise ModelError(f"layer {part.layer} of {where} contradicts its cut: prepare the model again")
    values: NDArray[np.float32]
    if isinstance(layer.values, float):
        values = np.full(nnz, layer.values, np.float32)
    elif isinstance(layer.values, Table):
        values = np.array(layer.values.values, np.float32)[arrays["values"].astype(np.intp)]
    else:
        values = arrays["values"].astype(np.float32)
    bias: np.float32 | NDArray[np.float32]
    bias = np.float32(layer.bias) if isinstance(layer.bias, float) else arrays["bias"].astype(np.float32)
    indices = arrays["indices"]
    return StoredPart(part.layer, starts, indices.view(indices.dtype.newbyteorder("=")), values, bias)


@dataclass(frozen=True)
class _Field:
    """An array of a tile."""

    name: str
    dtype: np.dtype[np.generic]
    per_entry: bool


def _fields(layer: Layer) -> list[_Field]:
    """What a tile of a layer holds, in order."""
    codes = "U8" if isinstance(layer.values, Table) else layer.values
    held = (
        ("row_nnz", layer.row_nnz, False),
        ("indices", layer.indices, True),
        ("values", codes, True),
        ("bias", layer.bias, False),
    )
    return [_Field(name, DTYPES[dtype], each) for name, dtype, each in held if isinstance(dtype, str)]
