"""A worker's own weights: where they are stored, and what they are once read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from lamella.kernel import LayerWeights
from lamella.manifest import DTYPES, Layer, Table, Tensor
from lamella.plan import LayerPart


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


@dataclass(frozen=True)
class Piece:
    """Bytes ``[start, stop)`` of a file."""

    file: str
    start: int
    stop: int


def pieces(layer: Layer, part: LayerPart) -> Iterator[Piece]:
    """Where the bytes of a part are, in the order of its hash."""
    for tensor, first, last in _stored_arrays(layer, part):
        yield Piece(tensor.file, *tensor.span(first, last))


def decoded(layer: Layer, part: LayerPart, data: memoryview, where: str) -> StoredPart:
    """A part from its bytes.

    Parameters
    ----------
    data
        Its `pieces`, one after the other.
    where
        The model's place, for messages.

    Raises
    ------
    ModelError
        If they are not what the part's cut says.
    """
    arrays: list[NDArray[np.generic]] = []
    offset = 0
    for tensor, first, last in _stored_arrays(layer, part):
        arrays.append(np.frombuffer(data, DTYPES[tensor.dtype], last - first, offset))
        offset += arrays[-1].nbytes
    in_order = iter(arrays)
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
    if isinstance(layer.row_nnz, Tensor):
        starts = next(in_order).astype(np.int64) - part.entries[0]
        if starts[0] != 0 or starts[-1] != nnz or (np.diff(starts) < 0).any():
            raise ModelError(f"layer {part.layer} of {where} contradicts its cut: prepare the model again")
    else:
        starts = np.arange(rows + 1) * layer.row_nnz
    indices = next(in_order)
    values: NDArray[np.float32]
    if isinstance(layer.values, float):
        values = np.full(nnz, layer.values, np.float32)
    elif isinstance(layer.values, Table):
        values = np.array(layer.values.values, np.float32)[next(in_order).astype(np.intp)]
    else:
        values = next(in_order).astype(np.float32)
    bias: np.float32 | NDArray[np.float32]
    bias = np.float32(layer.bias) if isinstance(layer.bias, float) else next(in_order).astype(np.float32)
    return StoredPart(part.layer, starts, indices.view(indices.dtype.newbyteorder("=")), values, bias)


def _stored_arrays(layer: Layer, part: LayerPart) -> Iterator[tuple[Tensor, int, int]]:
    """The arrays of a layer that are stored, and which elements of each are the part's."""
    if isinstance(layer.row_nnz, Tensor):
        yield layer.row_nnz, part.rows[0], part.rows[1] + 1
    for tensor in layer.entry_tensors():
        yield tensor, *part.entries
    if isinstance(layer.bias, Tensor):
        yield layer.bias, *part.rows
