"""Reads a prepared model by what its manifest says, sharing no code with the writer or the workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import sparse

from lamella.files import Directory
from lamella.manifest import DTYPES, Cut, Layer, Manifest, Table, Tensor, read_cut, read_manifest
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

    def _decoded(self, number: int, layer: Layer, before: NDArray[np.int64]) -> DecodedLayer:
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
