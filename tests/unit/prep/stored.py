"""Reads a prepared model by what its manifest says, sharing no code with the writer or the workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.files import Directory
from lamella.manifest import DTYPES, Cut, Dense, Layer, Manifest, Table, Tensor, read_cut, read_manifest
from lamella.numbers import as_float32
from model_prep.source import Weight


@dataclass(frozen=True)
class DecodedLayer:
    """A layer in the source's order of rows and columns; entries as they are stored."""

    starts: NDArray[np.int64]
    stored_columns: NDArray[np.int64]
    source_columns: NDArray[np.int64]
    weight: Weight
    bias: NDArray[np.float32]
    order: NDArray[np.int64]


@dataclass(frozen=True)
class PreparedModel:
    """A prepared model in a directory."""

    folder: Path

    @property
    def manifest(self) -> Manifest:
        return read_manifest(Directory(self.folder))

    def cut(self, workers: int) -> Cut:
        return read_cut(Directory(self.folder), self.manifest, workers)

    def bytes_of(self, tensor: Tensor, start: int, stop: int) -> bytes:
        first, last = tensor.span(start, stop)
        return (self.folder / tensor.file).read_bytes()[first:last]

    def array(self, tensor: Tensor) -> NDArray[np.generic]:
        return np.frombuffer(self.bytes_of(tensor, 0, tensor.length), DTYPES[tensor.dtype])

    def layers(self) -> list[DecodedLayer]:
        decoded: list[DecodedLayer] = []
        for layer in self.manifest.layers:
            before = decoded[-1].order if decoded else np.arange(layer.columns)
            decoded.append(self._decoded(layer, before))
        return decoded

    def _decoded(self, layer: Layer, before: NDArray[np.int64]) -> DecodedLayer:
        if layer.dense:
            return self._decoded_dense(layer, layer.dense, before)
        assert layer.indices is not None
        if isinstance(layer.row_nnz, int):
            starts: NDArray[np.int64] = np.arange(layer.rows + 1) * layer.row_nnz
        else:
            starts = self.array(layer.row_nnz).astype(np.int64)
        if isinstance(layer.values, float):
            values: NDArray[np.float32] = np.full(layer.nnz, layer.values, np.float32)
        elif isinstance(layer.values, Table):
            values = np.array(layer.values.values, np.float32)[self.array(layer.values.codes).astype(int)]
        else:
            values = self.array(layer.values).astype(np.float32)
        stored = self.array(layer.indices).astype(np.int64)
        order = np.arange(layer.rows) if layer.order is None else self.array(layer.order).astype(np.int64)
        bias = np.empty(layer.rows, np.float32)
        bias[order] = layer.bias if isinstance(layer.bias, float) else self.array(layer.bias)
        rows = np.repeat(order, np.diff(starts))
        weight = sparse.csr_array((values, (rows, before[stored])), shape=(layer.rows, layer.columns))
        return DecodedLayer(starts, stored, before[stored], weight, bias, order)

    def _decoded_dense(self, layer: Layer, dense: Dense, before: NDArray[np.int64]) -> DecodedLayer:
        assert isinstance(layer.values, Tensor)
        values = as_float32(self.array(layer.values))
        weight = np.empty((layer.rows, layer.columns), np.float32)
        for top in range(0, layer.rows, dense.tile):
            height = min(dense.tile, layer.rows - top)
            tile = values[top * layer.columns : (top + height) * layer.columns]
            weight[top : top + height] = tile.reshape(layer.columns, height).T
        columns = np.arange(layer.columns)
        stored = columns if dense.positions is None else self.array(dense.positions).astype(np.int64)
        # Columns are in the source's order.
        assert np.array_equal(before[stored], columns)
        everywhere = np.indices(weight.shape).reshape(2, -1)
        bias = np.empty(layer.rows, np.float32)
        bias[:] = layer.bias if isinstance(layer.bias, float) else self.array(layer.bias)
        return DecodedLayer(
            np.arange(layer.rows + 1) * layer.columns,
            np.tile(stored, layer.rows),
            np.tile(columns, layer.rows),
            sparse.csr_array((weight.reshape(-1), tuple(everywhere)), shape=weight.shape),
            bias,
            np.arange(layer.rows),
        )

    def digest(self, layer: Layer, rows: tuple[int, int], entries: tuple[int, int]) -> str:
        """sha256 of a part of a layer, as the manifest describes it."""
        state = hashlib.sha256()
        if layer.dense and layer.dense.positions:
            state.update(self.bytes_of(layer.dense.positions, 0, layer.columns))
        if isinstance(layer.row_nnz, Tensor):
            state.update(self.bytes_of(layer.row_nnz, rows[0], rows[1] + 1))
        for tensor in layer.entry_tensors():
            state.update(self.bytes_of(tensor, *entries))
        if isinstance(layer.bias, Tensor):
            state.update(self.bytes_of(layer.bias, *rows))
        return state.hexdigest()


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two float32 arrays are the same, zeros' signs included."""
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and a.tobytes() == b.tobytes()
