"""Writing a prepared model: each layer once, in the partitioner's order, and cuts for numbers of workers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.errors import PlanError
from lamella.kernel.curves import activate
from lamella.manifest import MANIFEST, Dense, Layer, Manifest, StoredFile, Table, Tensor
from lamella.tiles import TILE_TENSORS
from model_prep.dense import DenseWeight, band_of, encode_dense
from model_prep.encode import EncodedLayer, encode, narrow
from model_prep.partition import partitioner_named
from model_prep.partition.cutting import BlocksHalo, Cutter
from model_prep.partition.rows_in_order import RowsInOrder
from model_prep.replacing import replacing
from model_prep.report import CutReport, PrepReport
from model_prep.tensor_file import dtype_name, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from model_prep.partition import Partitioner
    from model_prep.source import Source, SourceLayer

DEFAULT_WORKERS = (2, 4, 8, 16, 32, 64)
# What one worker of many owns of a file is one range, and all of a file is in memory at a time.
FILE_BYTES = 8 * 2**20
TILES = "tiles.safetensors"
Progress = Callable[[int, int], None]

# Of a layer: where its parts begin, by number of workers.
Bounds = Mapping[int, NDArray[np.int64]]


def write_model(
    source: Source,
    out: Path,
    *,
    workers: Sequence[int] | None = None,
    partitioner: str = "overlap",
    progress: Progress | None = None,
) -> PrepReport:
    """Write a source as a prepared model.

    The model appears whole or not at all, and the same source always gives the same bytes.

    Parameters
    ----------
    out
        Its directory: made, or replaced if it holds a prepared model and nothing else.
    workers
        Numbers of workers to order rows and make cuts for. There are cuts for 2, 4, 8, ... 64 beside, as far
        as every layer has as many rows, of the same order; it is made for those if none is named.
    partitioner
        ``overlap``, ``hypergraph``, ``blocks`` or ``random``.
    progress
        Called with (layers done, layers).

    Raises
    ------
    ModelError
        If the source can't be read, or ``out`` holds something else.
    PlanError
        If there is no such partitioner here, or a cut that is asked for can't be made.
    """
    began = time.perf_counter()
    chosen = partitioner_named(partitioner)
    asked = _checked_workers(workers or ())
    with replacing(out) as folder:
        cuts = sorted({*DEFAULT_WORKERS, *asked})
        in_order = RowsInOrder(chosen, cuts, sorted(asked))
        writer = _ModelWriter(
            folder, chosen, [_Cutting.of(p) for p in cuts], in_order, max(asked, default=None)
        )
        for k, layer in enumerate(source):
            writer.add(layer)
            if progress is not None:
                progress(k + 1, source.layers)
        return writer.finish(source.description, asked, began)


def _checked_workers(workers: Sequence[int]) -> set[int]:
    for p in workers:
        if p < 2:
            raise PlanError(f"can't cut a model for {p} workers: ask for 2 or more (one worker needs no cut)")
    return set(workers)


@dataclass
class _Cutting:
    """The cut for one number of workers in the making, and what to compare it with."""

    cutter: Cutter
    blocks: BlocksHalo

    @classmethod
    def of(cls, workers: int) -> _Cutting:
        return cls(Cutter(workers), BlocksHalo(workers))


@dataclass
class _TileTable:
    """The tensors of `lamella.tiles` in the making."""

    counts: list[int] = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    entries: list[NDArray[np.int64]] = field(default_factory=list)
    offsets: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, layer: EncodedLayer, offsets: NDArray[np.int64]) -> None:
        self.counts.append(len(layer.tiles))
        self.rows.append(np.diff(layer.bounds))
        self.entries.append(np.diff(layer.entry_bounds))
        self.offsets.append(offsets)

    def tensors(self) -> dict[str, NDArray[Any]]:
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        arrays = (starts, *(np.concatenate(found) for found in (self.rows, self.entries, self.offsets)))
        return {
            name: narrow(array, int(array.max())) for name, array in zip(TILE_TENSORS, arrays, strict=True)
        }


@dataclass
class _ModelWriter:
    folder: Path
    partitioner: Partitioner
    cuttings: list[_Cutting]
    rows_in_order: RowsInOrder
    favoured: int | None
    layers: list[Layer] = field(default_factory=list)
    files: dict[str, StoredFile] = field(default_factory=dict)
    tiles: _TileTable = field(default_factory=_TileTable)
    waiting: list[tuple[SourceLayer, EncodedLayer, Bounds]] = field(default_factory=list)
    waiting_bytes: int = 0

    def add(self, layer: SourceLayer) -> None:
        """Encode and cut one layer, and write the file that it fills."""
        if isinstance(layer.weight, DenseWeight):
            self._keep(layer, *self._dense(layer))
            return
        weight = layer.weight
        stored = self.rows_in_order.of(weight)
        rows = stored.rows
        encoded = encode(layer, rows, stored.order, self._tile_bounds(stored.bounds))
        starts, columns = weight.indptr.astype(np.int64), weight.indices.astype(np.int64)
        for cutting in self.cuttings:
            bounds = stored.bounds[cutting.cutter.workers]
            cutting.cutter.add(rows.starts, rows.columns, layer.inputs, bounds, encoded.digest)
            cutting.blocks.add(starts, columns, layer.inputs)
        self._keep(layer, encoded, stored.bounds)

    def _dense(self, layer: SourceLayer) -> tuple[EncodedLayer, Bounds]:
        """Encode and cut a dense layer: every row reads every column."""
        starts, band = np.arange(layer.outputs + 1) * layer.inputs, band_of(layer.outputs)
        positions, parts = self.rows_in_order.of_dense(starts, band)
        encoded = encode_dense(layer, positions, self._tile_bounds(parts))
        for cutting in self.cuttings:
            bounds = parts[cutting.cutter.workers]
            cutting.cutter.add(starts, None, layer.inputs, bounds, encoded.digest)
            cutting.blocks.add(starts, None, layer.inputs, band)
        return encoded, parts

    def _tile_bounds(self, bounds: Bounds) -> NDArray[np.int64]:
        """Where tiles begin: at the bounds of every cut."""
        found: NDArray[np.int64] = np.unique(
            np.concatenate([bounds[cutting.cutter.workers] for cutting in self.cuttings])
        )
        return found

    def _keep(self, layer: SourceLayer, encoded: EncodedLayer, bounds: Bounds) -> None:
        size = sum(map(len, encoded.tiles))
        if self.waiting and self.waiting_bytes + size > FILE_BYTES:
            self._write_waiting()
        self.waiting.append((layer, encoded, bounds))
        self.waiting_bytes += size

    def _write_waiting(self) -> None:
        path = f"weights-{sum(file.startswith('weights-') for file in self.files):05}.safetensors"
        first = len(self.layers)
        encodings = [encoded for _, encoded, _ in self.waiting]
        body, offsets = side_by_side(encodings, [bounds for _, _, bounds in self.waiting], self.favoured)
        arrays = {"tiles": body} | {
            f"layers.{first + i}.{name}": array
            for i, encoded in enumerate(encodings)
            for name, array in (("order", encoded.order), ("positions", encoded.positions))
            if array is not None
        }
        written = write_tensors(self.folder / path, arrays)
        self.files[path] = written.stored
        for (layer, encoded, _), places in zip(self.waiting, offsets, strict=True):
            self.tiles.add(encoded, places + written.offsets["tiles"])
            named = {"order": encoded.order, "positions": encoded.positions}
            prefix = f"layers.{len(self.layers)}."
            tensors = {
                name: _tensor(path, written.offsets[prefix + name], array)
                for name, array in named.items()
                if array is not None
            }
            self.layers.append(_described(layer, encoded, path, tensors))
        self.waiting, self.waiting_bytes = [], 0

    def finish(self, description: str, asked: set[int], began: float) -> PrepReport:
        """Write the rest: the cuts and the manifest."""
        if self.waiting:
            self._write_waiting()
        fewest, most = min(layer.rows for layer in self.layers), max(layer.rows for layer in self.layers)
        too_many = sorted(p for p in asked if p > most)
        if too_many:
            raise PlanError(
                f"can't cut {description} for {too_many[0]} workers: its widest layer has {most} rows"
            )
        cuts: dict[int, str] = {}
        reports = []
        for cutting in self.cuttings:
            cutter = cutting.cutter
            if cutter.workers in asked or cutter.workers <= fewest:
                cuts[cutter.workers], report = self._write_cut(cutting)
                reports.append(report)
        self.files[TILES] = write_tensors(self.folder / TILES, self.tiles.tensors()).stored
        manifest = Manifest(
            "lamella-model",
            3,
            description,
            self.partitioner.name,
            tuple(self.layers),
            TILES,
            cuts,
            dict(sorted(self.files.items())),
        )
        text = manifest.to_json()
        (self.folder / MANIFEST).write_bytes(text)
        return PrepReport(
            source=description,
            partitioner=self.partitioner.name,
            layers=len(self.layers),
            features=manifest.features,
            outputs=manifest.outputs,
            weights=manifest.nnz,
            bytes=len(text) + sum(file.bytes for file in self.files.values()),
            cuts=tuple(reports),
            seconds=time.perf_counter() - began,
        )

    def _write_cut(self, cutting: _Cutting) -> tuple[str, CutReport]:
        cutter = cutting.cutter
        path = f"cuts/{cutter.workers}.safetensors"
        (self.folder / path).parent.mkdir(exist_ok=True)
        stored = write_tensors(self.folder / path, cutter.tensors()).stored
        self.files[path] = stored
        blocks = cutting.blocks.rows
        saved = 1 - cutter.halo_rows / blocks if blocks else 0.0
        return path, CutReport(
            workers=cutter.workers,
            halo_rows=cutter.halo_rows,
            pairs=cutter.pairs,
            largest_share=cutter.largest_share,
            balance=cutter.balance,
            saved=saved,
            bytes=stored.bytes,
        )


def side_by_side(
    layers: Sequence[EncodedLayer], cuts: Sequence[Bounds], favoured: int | None
) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """The tiles of some layers as a file holds them, and where each layer's are.

    What is the same worker's under every cut comes together, the tiles of all layers: what a worker has of
    these layers is then one range of bytes. Where cuts for different numbers of workers disagree, it is so of
    the favoured one, and of others it is some ranges.

    Parameters
    ----------
    cuts
        Of each layer, the bounds of its parts by number of workers.
    """
    places = []
    for k, (layer, bounds) in enumerate(zip(layers, cuts, strict=True)):
        begins = layer.bounds[:-1]
        # Whatever the cut, it is more for a later part than for an earlier one.
        share = sum(
            (np.searchsorted(parts, begins, side="right") - 1) / workers for workers, parts in bounds.items()
        )
        first = 0 if favoured is None else np.searchsorted(bounds[favoured], begins, side="right")
        keys = (np.broadcast_to(key, len(begins)).tolist() for key in (first, share))
        places += [(*key, k, i) for i, key in enumerate(zip(*keys, strict=True))]
    offsets: list[NDArray[np.int64]] = [np.zeros(len(layer.tiles), np.int64) for layer in layers]
    pieces = []
    size = 0
    for _, _, k, i in sorted(places):
        pieces.append(layers[k].tiles[i])
        offsets[k][i] = size
        size += len(pieces[-1])
    return np.frombuffer(b"".join(pieces), np.uint8), offsets


def _tensor(path: str, offset: int, array: NDArray[Any]) -> Tensor:
    return Tensor(path, offset, dtype_name(array), len(array))


def _described(layer: SourceLayer, encoded: EncodedLayer, path: str, tensors: dict[str, Tensor]) -> Layer:
    def stored(value: float | NDArray[Any]) -> Any:
        return dtype_name(value) if isinstance(value, np.ndarray) else value

    row_nnz = encoded.row_nnz
    dense = None
    if encoded.indices is None:
        positions = encoded.positions
        digest = None if positions is None else hashlib.sha256(positions.data).hexdigest()
        dense = Dense(encoded.band, tensors.get("positions"), digest)
    return Layer(
        rows=encoded.rows,
        columns=encoded.columns,
        nnz=encoded.nnz,
        row_nnz=row_nnz if isinstance(row_nnz, int) else dtype_name(row_nnz),
        indices=None if encoded.indices is None else dtype_name(encoded.indices),
        values=stored(encoded.values) if encoded.table is None else Table(encoded.table),
        bias=stored(encoded.bias),
        bias_on=layer.bias_on,
        activation=layer.activation,
        slope=layer.slope,
        lo=layer.lo,
        hi=layer.hi,
        zeros_to_zeros=maps_zeros_to_zeros(layer),
        order=tensors.get("order"),
        file=path,
        dense=dense,
        sha256=encoded.digest(0, encoded.rows).hex(),
    )


def maps_zeros_to_zeros(layer: SourceLayer) -> bool:
    """Whether a sample that is zero in every column is zero in every row (before softmax, Collect's)."""
    y = np.zeros(1, np.float32) if layer.bias_on == "nonzero" else np.atleast_1d(np.float32(layer.bias))
    if layer.activation != "softmax":
        y = activate(layer.activation, np.float32(layer.slope), y)
    if layer.lo is not None:
        y = np.maximum(y, layer.lo)
    if layer.hi is not None:
        y = np.minimum(y, layer.hi)
    return not y.any()
