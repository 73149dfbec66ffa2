"""A worker's own weights: read by range, ahead of the computation, and checked against their hashes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from lamella.files import Files
from lamella.kernel import LayerWeights
from lamella.manifest import DTYPES, Layer, Manifest, Table, Tensor
from lamella.plan import LayerPart

READERS = 8
READ_BYTES = 8 << 20  # one ranged GET; larger ones gain nothing at some 75 MB/s a function
WINDOW_BYTES = 128 << 20  # read or being read, and not yet computed


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
            relu=layer.activation == "relu",
            lo=None if layer.lo is None else np.float32(layer.lo),
            hi=None if layer.hi is None else np.float32(layer.hi),
            zeros_to_zeros=layer.zeros_to_zeros,
        )


@dataclass
class _Read:
    """One ranged read; spans of several tensors and layers may lie in it."""

    file: str
    start: int
    stop: int
    spans: int = 1
    data: Future[bytes] | None = None


@dataclass(frozen=True)
class _Span:
    read: _Read
    start: int
    stop: int
    dtype: np.dtype[np.generic]

    def array(self) -> tuple[memoryview, NDArray[np.generic]]:
        assert self.read.data is not None
        data = memoryview(self.read.data.result())[self.start - self.read.start : self.stop - self.read.start]
        if len(data) != self.stop - self.start:
            raise ModelError(
                f"{self.read.file} ends before byte {self.stop}: copy or prepare the model again"
            )
        return data, np.frombuffer(data, self.dtype)


def read_parts(files: Files, manifest: Manifest, parts: Sequence[LayerPart]) -> Iterator[StoredPart]:
    """Read parts of layers, in their order, several reads ahead.

    Raises
    ------
    ModelError
        If a file is missing or short, or a part's bytes are not those that its hash was taken of.
    """
    reads: list[_Read] = []
    spans = [_spans(manifest.layers[part.layer], part, reads) for part in parts]
    waiting, inside = deque(reads), 0
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="weights")
    try:
        for part, needed in zip(parts, spans, strict=True):
            missing = sum(span.read.data is None for span in needed)
            while waiting and (missing or inside < WINDOW_BYTES):
                read = waiting.popleft()
                read.data = pool.submit(files.read, read.file, read.start, read.stop)
                inside += read.stop - read.start
                missing = sum(span.read.data is None for span in needed)
            try:
                yield _stored(files, manifest.layers[part.layer], part, needed)
            except FileNotFoundError as error:
                raise ModelError(f"{error}: copy or prepare the model again") from error
            for span in needed:
                span.read.spans -= 1
                if not span.read.spans:
                    inside -= span.read.stop - span.read.start
                    span.read.data = None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _spans(layer: Layer, part: LayerPart, reads: list[_Read]) -> list[_Span]:
    wanted: list[tuple[Tensor, int, int]] = []
    if isinstance(layer.row_nnz, Tensor):
        wanted.append((layer.row_nnz, part.rows[0], part.rows[1] + 1))
    wanted += [(tensor, *part.entries) for tensor in layer.entry_tensors()]
    if isinstance(layer.bias, Tensor):
        wanted.append((layer.bias, *part.rows))
    found = []
    for tensor, first, last in wanted:
        start, stop = tensor.span(first, last)
        before = reads[-1] if reads else None
        if (
            before
            and before.file == tensor.file
            and before.stop == start
            and stop - before.start <= READ_BYTES
        ):
            before.stop = stop
            before.spans += 1
        else:
            reads.append(_Read(tensor.file, start, stop))
        found.append(_Span(reads[-1], start, stop, DTYPES[tensor.dtype]))
    return found


def _stored(files: Files, layer: Layer, part: LayerPart, spans: list[_Span]) -> StoredPart:
    digest = hashlib.sha256()
    arrays: deque[NDArray[np.generic]] = deque()
    for span in spans:
        data, array = span.array()
        digest.update(data)
        arrays.append(array)
    if digest.hexdigest() != part.sha256:
        raise ModelError(
            f"layer {part.layer}, rows {part.rows[0]} to {part.rows[1]}, of {files.location()} are not the "
            "bytes that were prepared (sha256 differs): copy or prepare the model again"
        )
    rows, nnz = part.rows[1] - part.rows[0], part.entries[1] - part.entries[0]
    if isinstance(layer.row_nnz, Tensor):
        starts = arrays.popleft().astype(np.int64) - part.entries[0]
        if starts[0] != 0 or starts[-1] != nnz or (np.diff(starts) < 0).any():
            raise ModelError(
                f"layer {part.layer} of {files.location()} contradicts its cut: prepare the model again"
            )
    else:
        starts = np.arange(rows + 1) * layer.row_nnz
    indices = arrays.popleft()
    values: NDArray[np.float32]
    if isinstance(layer.values, float):
        values = np.full(nnz, layer.values, np.float32)
    elif isinstance(layer.values, Table):
        values = np.array(layer.values.values, np.float32)[arrays.popleft().astype(np.intp)]
    else:
        values = arrays.popleft().astype(np.float32)
    bias: np.float32 | NDArray[np.float32]
    bias = np.float32(layer.bias) if isinstance(layer.bias, float) else arrays.popleft().astype(np.float32)
    return StoredPart(part.layer, starts, indices.view(indices.dtype.newbyteorder("=")), values, bias)
