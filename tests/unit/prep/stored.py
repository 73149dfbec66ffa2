"""Reads a prepared model by what its manifest says, sharing no code with the writer or the workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import sparse

from lamella.cut import Cut, read_cut
from lamella.files import Directory
from lamella.manifest import DTYPES, Dense, Layer, Manifest, Table, Tensor, read_manifest
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

    def tiles(self, number: int) -> list[tuple[int, int, bytes]]:
        """(rows, entries, bytes) of each tile of a layer."""
        manifest = self.manifest
        layer = manifest.layers[number]
        table = load_file(self.folder / manifest.tiles)
        starts = table["starts"].tolist()
        data = (self.folder / layer.file).read_bytes()
        found = []
        for tile in range(starts[number], starts[number + 1]):
            rows, entries, begin = (int(table[name][tile]) for name in ("rows", "entries", "offsets"))
            size = rows * layer.row_bytes + entries * layer.entry_bytes
            found.append((rows, entries, data[begin : begin + size]))
        return found

    def layers(self) -> list[DecodedLayer]:
        decoded: list[DecodedLayer] = []
        for number, layer in enumerate(self.manifest.layers):
            before = decoded[-1].order if decoded else np.arange(layer.columns)
            decoded.append(self._decoded(number, layer, before))
        return decoded

    def _decoded_dense(
        self, number: int, layer: Layer, dense: Dense, before: NDArray[np.int64]
    ) -> DecodedLayer:
        assert isinstance(layer.values, str)
        kind = DTYPES[layer.values]
        values, biases = [], []
        for rows, entries, data in self.tiles(number):
            values.append(as_float32(np.frombuffer(data, kind, entries)))
            rest = data[entries * kind.itemsize :]
            biases.append(np.frombuffer(rest, "<f4") if rest else np.full(rows, layer.bias, np.float32))
        flat = np.concatenate(values)
        weight = np.empty((layer.rows, layer.columns), np.float32)
        for top in range(0, layer.rows, dense.band):
            height = min(dense.band, layer.rows - top)
            band = flat[top * layer.columns : (top + height) * layer.columns]
            weight[top : top + height] = band.reshape(layer.columns, height).T
        columns = np.arange(layer.columns)
        stored = columns if dense.positions is None else self.array(dense.positions).astype(np.int64)
        # Columns are in the source's order.
        assert np.array_equal(before[stored], columns)
        everywhere = np.indices(weight.shape).reshape(2, -1)
        return DecodedLayer(
            np.arange(layer.rows + 1) * layer.columns,
            np.tile(stored, layer.rows),
            np.tile(columns, layer.rows),
            sparse.csr_array((weight.reshape(-1), tuple(everywhere)), shape=weight.shape),
            np.concatenate(biases).astype(np.float32),
            np.arange(layer.rows),
        )

    def _decoded(self, number: int, layer: Layer, before: NDArray[np.int64]) -> DecodedLayer:
        if layer.dense:
            return self._decoded_dense(number, layer, layer.dense, before)
        arrays: dict[str, list[NDArray[np.generic]]] = {
            "row_nnz": [],
            "indices": [],
            "values": [],
            "bias": [],
        }
        for tile_rows, tile_entries, data in self.tiles(number):
            rest = data
            for name, found in arrays.items():
                kind = getattr(layer, name)
                kind = "U8" if isinstance(kind, Table) else kind
                if isinstance(kind, str):
                    count = tile_rows if name in {"row_nnz", "bias"} else tile_entries
                    found.append(np.frombuffer(rest, DTYPES[kind], count))
                    rest = rest[found[-1].nbytes :]
            assert not rest
        whole = {name: np.concatenate(found) for name, found in arrays.items() if found}
        lengths = whole.get("row_nnz", np.full(layer.rows, layer.row_nnz if "row_nnz" not in whole else 0))
        starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
        if isinstance(layer.values, float):
            values: NDArray[np.float32] = np.full(layer.nnz, layer.values, np.float32)
        elif isinstance(layer.values, Table):
            values = np.array(layer.values.values, np.float32)[whole["values"].astype(int)]
        else:
            values = whole["values"].astype(np.float32)
        stored = whole["indices"].astype(np.int64)
        order = np.arange(layer.rows) if layer.order is None else self.array(layer.order).astype(np.int64)
        bias = np.empty(layer.rows, np.float32)
        bias[order] = layer.bias if isinstance(layer.bias, float) else whole["bias"]
        rows = np.repeat(order, np.diff(starts))
        weight = sparse.csr_array((values, (rows, before[stored])), shape=(layer.rows, layer.columns))
        return DecodedLayer(starts, stored, before[stored], weight, bias, order)

    def digest(self, number: int, rows: tuple[int, int]) -> str:
        """sha256 of a part of a layer, as the manifest describes it."""
        state = hashlib.sha256()
        row = 0
        for tile_rows, _, data in self.tiles(number):
            assert row >= rows[0] or row + tile_rows <= rows[0], "a tile crosses the part's bound"
            if rows[0] <= row < rows[1]:
                assert row + tile_rows <= rows[1], "a tile crosses the part's bound"
                state.update(data)
            row += tile_rows
        return state.hexdigest()


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two float32 arrays are the same, zeros' signs included."""
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and a.tobytes() == b.tobytes()
