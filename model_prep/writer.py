"""Writing a prepared model: each layer once, in the partitioner's order, and cuts for numbers of workers."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError, PlanError
from lamella.files import Directory
from lamella.kernel.curves import activate
from lamella.manifest import MANIFEST, Dense, Layer, Manifest, StoredFile, Table, Tensor, read_manifest
from model_prep.dense import DenseWeight, EncodedDense, encode_dense
from model_prep.encode import EncodedLayer, encode, stored_rows
from model_prep.partition import partitioner_named
from model_prep.partition.cutting import BlocksHalo, Cutter
from model_prep.tensor_file import dtype_name, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.manifest import DType
    from model_prep.partition import Partitioner
    from model_prep.source import Source, SourceLayer

DEFAULT_WORKERS = (2, 4, 8, 16, 32, 64)
FILE_BYTES = 64 * 2**20
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CutReport:
    """What one cut costs.

    Attributes
    ----------
    halo_rows
        Rows that workers need of each other, over all layers.
    pairs
        Links between different workers, over all layers.
    largest_share
        Weights of the worker that has most, over the mean.
    saved
        Share of the halo rows of contiguous blocks that this cut does without.
    bytes
        Its file.
    """

    workers: int
    halo_rows: int
    pairs: int
    largest_share: float
    saved: float
    bytes: int


@dataclass(frozen=True)
class PrepReport:
    """What was written.

    Attributes
    ----------
    weights
        Stored weights of all layers.
    bytes
        All files, the manifest included.
    seconds
        Wall-clock time it took.
    """

    source: str
    partitioner: str
    layers: int
    features: int
    outputs: int
    weights: int
    bytes: int
    cuts: tuple[CutReport, ...]
    seconds: float


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
        Numbers of workers to make cuts for, beside 2, 4, 8, ... 64 as far as every layer has as many rows.
    partitioner
        ``overlap``, ``blocks`` or ``random``.
    progress
        Called with (layers done, layers).

    Raises
    ------
    ModelError
        If the source can't be read, or ``out`` holds something else.
    PlanError
        If there is no such partitioner, or a cut that is asked for can't be made.
    """
    began = time.perf_counter()
    chosen = partitioner_named(partitioner)
    asked = _checked_workers(workers or ())
    with _replacing(out) as folder:
        writer = _ModelWriter(
            folder, chosen, [_Cutting.of(p, chosen) for p in sorted({*DEFAULT_WORKERS, *asked})]
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
    def of(cls, workers: int, partitioner: Partitioner) -> _Cutting:
        return cls(Cutter(workers, partitioner.aligned), BlocksHalo(workers))


@dataclass
class _ModelWriter:
    folder: Path
    partitioner: Partitioner
    cuttings: list[_Cutting]
    layers: list[Layer] = field(default_factory=list)
    files: dict[str, StoredFile] = field(default_factory=dict)
    positions: NDArray[np.int64] | None = None
    waiting: list[tuple[SourceLayer, EncodedLayer | EncodedDense]] = field(default_factory=list)
    waiting_bytes: int = 0

    def add(self, layer: SourceLayer) -> None:
        """Encode and cut one layer, and write the file that it fills."""
        if isinstance(layer.weight, DenseWeight):
            dense = encode_dense(layer, self.positions)
            for cutting in self.cuttings:
                cutting.cutter.add(dense.starts, None, layer.inputs, dense.digest, dense.tile)
                cutting.blocks.add(dense.starts, None, layer.inputs, dense.tile)
            self.positions = None
            self._keep(layer, dense)
            return
        weight = layer.weight
        order = self.partitioner.order(weight, len(self.layers) + len(self.waiting))
        rows = stored_rows(weight, order, self.positions)
        encoded = encode(layer, rows, order)
        starts, columns = weight.indptr.astype(np.int64), weight.indices.astype(np.int64)
        for cutting in self.cuttings:
            cutting.cutter.add(rows.starts, rows.columns, layer.inputs, encoded.digest)
            cutting.blocks.add(starts, columns, layer.inputs)
        self.positions = None if encoded.order is None else np.argsort(order)
        self._keep(layer, encoded)

    def _keep(self, layer: SourceLayer, encoded: EncodedLayer | EncodedDense) -> None:
        size = sum(array.nbytes for array in encoded.arrays().values())
        if self.waiting and self.waiting_bytes + size > FILE_BYTES:
            self._write_waiting()
        self.waiting.append((layer, encoded))
        self.waiting_bytes += size

    def _write_waiting(self) -> None:
        path = f"weights-{sum(file.startswith('weights-') for file in self.files):05}.safetensors"
        first = len(self.layers)
        # Workers read no order: with those last, layers that follow each other are one range of bytes.
        arrays = {
            f"layers.{first + i}.{name}": array
            for orders in (False, True)
            for i, (_, encoded) in enumerate(self.waiting)
            for name, array in encoded.arrays().items()
            if (name == "order") is orders
        }
        written = write_tensors(self.folder / path, arrays)
        self.files[path] = written.stored
        for layer, encoded in self.waiting:
            prefix = f"layers.{len(self.layers)}."
            tensors = {
                name: _tensor(path, written.offsets[prefix + name], array)
                for name, array in encoded.arrays().items()
            }
            self.layers.append(_described(layer, encoded, tensors))
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
        manifest = Manifest(
            "lamella-model",
            2,
            description,
            self.partitioner.name,
            tuple(self.layers),
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
            cutter.workers, cutter.halo_rows, cutter.pairs, cutter.largest_share, saved, stored.bytes
        )


def _tensor(path: str, offset: int, array: NDArray[Any]) -> Tensor:
    return Tensor(path, offset, cast("DType", dtype_name(array)), len(array))


def _described(layer: SourceLayer, encoded: EncodedLayer | EncodedDense, tensors: dict[str, Tensor]) -> Layer:
    values: float | Table | Tensor
    dense = row_nnz = None
    if isinstance(encoded, EncodedDense):
        dense, row_nnz = Dense(encoded.tile, tensors.get("positions")), encoded.columns
        values = tensors["values"]
    elif encoded.table is not None:
        values = Table(tensors["values"], encoded.table)
    elif isinstance(encoded.values, float):
        values = encoded.values
    else:
        values = tensors["values"]
    if isinstance(encoded, EncodedLayer) and isinstance(encoded.row_nnz, int):
        row_nnz = encoded.row_nnz
    return Layer(
        rows=encoded.rows,
        columns=encoded.columns,
        nnz=encoded.nnz,
        row_nnz=tensors["row_nnz"] if row_nnz is None else row_nnz,
        indices=tensors.get("indices"),
        values=values,
        bias=encoded.bias if isinstance(encoded.bias, float) else tensors["bias"],
        bias_on=layer.bias_on,
        activation=layer.activation,
        slope=layer.slope,
        lo=layer.lo,
        hi=layer.hi,
        zeros_to_zeros=maps_zeros_to_zeros(layer),
        order=tensors.get("order"),
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


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` once it is complete."""
    out = out.expanduser().resolve()
    _check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
        fresh.mkdir()
    except OSError as error:
        raise ModelError(f"can't write to {out}: {error.strerror}") from error
    old = fresh.with_name(fresh.name + ".old")
    try:
        yield fresh
        _check_replaceable(out)
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"can't write to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ModelError(f"{out} is a file: choose a folder for the model")
    held = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not held:
        return
    if MANIFEST not in held:
        raise ModelError(f"{out} is not empty and not a prepared model: choose another folder")
    try:
        known = {MANIFEST, *read_manifest(Directory(out)).files}
    except ModelError as error:
        raise ModelError(f"{out} is not empty and not a prepared model: choose another folder") from error
    if held - known:
        raise ModelError(
            f"{out} holds {min(held - known)}, which is no part of the prepared model there: "
            "move it, or choose another folder"
        )
