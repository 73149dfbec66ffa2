"""A worker's own weights: where they are stored, and what they are once read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.activation_names import ActivationName
from lamella.errors import ModelError
from lamella.kernel import DenseWeights, LayerWeights
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
        positions = None if self.positions is None else self.positions.astype(np.int32)
        if position is not None:
            positions = position if positions is None else position[positions]
        if not self.rows:  # then none is multiplied, and none was sent
            positions = None
        if positions is not None and (positions.min() < 0 or positions.max() >= columns):
            raise ModelError(
                f"layer {self.layer} needs rows that its cut doesn't name: prepare the model again"
            )
        return DenseWeights(
            number=self.layer,
            columns=columns,
            rows=self.rows,
            inputs=layer.columns,
            values=self.values,
            tile=layer.tile,
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


def _activation(layer: Layer) -> ActivationName:
    """What workers apply: softmax needs whole samples, which only Collect has."""
    return "identity" if layer.activation == "softmax" else layer.activation


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


def decoded(layer: Layer, part: LayerPart, data: memoryview, where: str) -> AnyPart:
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
    arrays: list[NDArray[Any]] = []
    offset = 0
    for tensor, first, last in _stored_arrays(layer, part):
        arrays.append(np.frombuffer(data, DTYPES[tensor.dtype], last - first, offset))
        offset += arrays[-1].nbytes
    in_order = iter(arrays)
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
    if layer.dense:
        if nnz != rows * layer.columns or (rows and part.rows[0] % layer.tile):
            raise ModelError(f"layer {part.layer} of {where} contradicts its cut: prepare the model again")
        positions = next(in_order) if layer.dense.positions else None
        return DensePart(part.layer, rows, next(in_order), positions, _bias(layer, in_order))
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
    indices = indices.view(indices.dtype.newbyteorder("="))
    return StoredPart(part.layer, starts, indices, values, _bias(layer, in_order))


def _bias(layer: Layer, in_order: Iterator[NDArray[Any]]) -> np.float32 | NDArray[np.float32]:
    return np.float32(layer.bias) if isinstance(layer.bias, float) else next(in_order).astype(np.float32)


def _stored_arrays(layer: Layer, part: LayerPart) -> Iterator[tuple[Tensor, int, int]]:
    """The arrays of a layer that are stored, and which elements of each are the part's."""
    if isinstance(layer.row_nnz, Tensor):
        yield layer.row_nnz, part.rows[0], part.rows[1] + 1
    if layer.dense and layer.dense.positions:
        yield layer.dense.positions, 0, layer.columns
    for tensor in layer.entry_tensors():
        yield tensor, *part.entries
    if isinstance(layer.bias, Tensor):
        yield layer.bias, *part.rows
