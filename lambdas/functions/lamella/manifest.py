"""What ``lamella prep`` wrote: the manifest of a prepared model, and its cuts.

Row numbers are positions in the *stored* order of a layer (the partitioner's), everywhere but in a
layer's ``order``, which maps them to the rows of the source. Columns are rows of the layer before;
those of the first layer are features, in the source's order. Within a row, entries are stored by ascending
column *of the source*, so that a row's sum, taken in stored order, is the same whatever the partitioner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from lamella.activation_names import Activation
from lamella.errors import InputError, ModelError
from lamella.files import Files, checked_path
from lamella.numbers import BFLOAT16

FORMAT = "lamella-model"
VERSION = 2
MANIFEST = "manifest.json"

Count = Annotated[int, Field(ge=0, lt=2**48)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DType = Literal["U8", "U16", "U32", "U64", "F16", "BF16", "F32"]
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code).newbyteorder("<")
    for name, code in {"U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8", "F16": "f2", "F32": "f4"}.items()
} | {"BF16": BFLOAT16}
DENSE_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """Where the bytes of a one-dimensional array are."""

    file: str
    offset: Count
    dtype: DType
    length: Count

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Byte range in ``file`` of the elements ``[start, stop)``."""
        size = DTYPES[self.dtype].itemsize
        return self.offset + start * size, self.offset + stop * size

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.length * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Table:
    """Values given as one-byte codes into a table of at most 256 float32 values."""

    codes: Tensor
    values: tuple[float, ...]


@dataclass(frozen=True)
class Dense:
    """How a layer is stored whose zeros are stored too.

    Its weights are ``Layer.values``: tile after tile of rows, and in a tile column after column, in the
    source's order of columns. So rows of whole tiles are one range of bytes, and a worker multiplies them as
    they lie there.

    Attributes
    ----------
    tile
        Rows of a tile; the last may have fewer.
    positions
        Stored row of the layer before that each column multiplies; None where they are the same.
    """

    tile: Annotated[int, Field(ge=1, le=64)]
    positions: Tensor | None


@dataclass(frozen=True)
class Layer:
    """One layer: ``x' = clip(activation(W x + bias), lo, hi)``.

    Attributes
    ----------
    rows, columns, nnz
        Outputs, inputs and stored weights.
    row_nnz
        Weights of every row, if they are as many in each; else where its ``rows + 1`` starts are.
    indices
        Column of each entry; None in a dense layer.
    values
        Weight of each entry: an array (float32, or float16 where exact), a table, or one constant. In a dense
        layer an array: float32, float16 or bfloat16.
    bias
        One per row (float32), or one constant.
    bias_on
        ``nonzero``: added only where ``W x`` is not zero, as the Graph Challenge has it.
    activation
        ``softmax``: of the last layer only, and taken of whole samples, once their parts are together.
    slope
        Of ``leaky_relu``, below zero.
    zeros_to_zeros
        Whether a sample that is zero in every column is zero in every row (before softmax): only then may it
        be dropped.
    order
        Row of the source at each stored position; None where they are the same.
    sha256
        Of the bytes of ``row_nnz``, ``indices``, ``values`` (or codes) and ``bias``, those that are arrays,
        one after the other. Of a dense layer: of ``positions``, ``values`` and ``bias``.
    dense
        None for a sparse layer.
    """

    rows: Annotated[int, Field(ge=1, lt=2**32)]
    columns: Annotated[int, Field(ge=1, lt=2**32)]
    nnz: Count
    row_nnz: Count | Tensor
    indices: Tensor | None
    values: float | Table | Tensor
    bias: float | Tensor
    bias_on: Literal["all", "nonzero"]
    activation: Activation
    slope: float
    lo: float | None
    hi: float | None
    zeros_to_zeros: bool
    order: Tensor | None
    dense: Dense | None
    sha256: Digest

    @property
    def tile(self) -> int:
        """Rows that can't be stored apart."""
        return self.dense.tile if self.dense else 1

    def entry_tensors(self) -> list[Tensor]:
        """The arrays that hold one element per entry."""
        found = [] if self.indices is None else [self.indices]
        if isinstance(self.values, Tensor):
            return [*found, self.values]
        return [*found, self.values.codes] if isinstance(self.values, Table) else found


@dataclass(frozen=True)
class StoredFile:
    """One file of a prepared model beside the manifest."""

    bytes: Count
    sha256: Digest


@dataclass(frozen=True)
class Manifest:
    """A prepared model.

    Attributes
    ----------
    source
        What ``lamella prep`` read, in its words.
    cuts
        File of the cut for each number of workers.
    files
        Every file the model consists of, by path.
    """

    format: Literal["lamella-model"]
    version: Literal[2]
    source: str
    partitioner: str
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    cuts: dict[Annotated[int, Field(ge=2)], str]
    files: dict[str, StoredFile]

    @property
    def features(self) -> int:
        """Inputs of the first layer."""
        return self.layers[0].columns

    @property
    def outputs(self) -> int:
        """Rows of the last layer."""
        return self.layers[-1].rows

    @property
    def nnz(self) -> int:
        """Weights of all layers."""
        return sum(layer.nnz for layer in self.layers)

    def to_json(self) -> bytes:
        """What goes into ``manifest.json``; the same manifest always gives the same bytes."""
        return _MANIFEST.dump_json(self, indent=1) + b"\n"


_MANIFEST = TypeAdapter(Manifest)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read and check a manifest.

    Raises
    ------
    ModelError
        If it isn't one, is of another version, names files outside its folder, or contradicts itself.
    """
    try:
        head = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{where} is not JSON: make the model again with 'lamella prep'") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ModelError(f"{where} is not the manifest of a prepared model: make one with 'lamella prep'")
    if head.get("version") != VERSION:
        raise ModelError(
            f"{where} has format version {head.get('version')!r}, this Lamella reads {VERSION}: prep again"
        )
    try:
        manifest = _MANIFEST.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{where}: {field}: {first['msg']}: make the model again with 'lamella prep'"
        ) from error
    _check(manifest, where)
    return manifest


def read_manifest(files: Files) -> Manifest:
    """The manifest of a prepared model.

    Raises
    ------
    ModelError
        If there is none, or it can't be read.
    """
    try:
        data = files.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{files.location()} is not a prepared model (no {MANIFEST}): make one with 'lamella prep'"
        ) from error
    return parse_manifest(data, files.location(MANIFEST))


def _check(manifest: Manifest, where: str) -> None:
    def refuse(what: str) -> None:
        raise ModelError(f"{where}: {what}: make the model again with 'lamella prep'")

    for path in [*manifest.files, *manifest.cuts.values()]:
        try:
            checked_path(path)
        except InputError as error:
            raise ModelError(f"{where}: {error}") from error
    for path in manifest.cuts.values():
        if path not in manifest.files:
            refuse(f"cut {path} is not among its files")
    width = manifest.features
    for k, layer in enumerate(manifest.layers):
        if layer.columns != width:
            refuse(f"layer {k} has {layer.columns} columns after {width} rows")
        width = layer.rows
        for name, tensor, length in _tensors(layer):
            if (
                tensor.file not in manifest.files
                or tensor.span(0, tensor.length)[1] > manifest.files[tensor.file].bytes
            ):
                refuse(f"{name} of layer {k} lies outside its files")
            if tensor.length != length:
                refuse(f"{name} of layer {k} has {tensor.length} elements")
        if isinstance(layer.row_nnz, int) and layer.row_nnz * layer.rows != layer.nnz:
            refuse(f"layer {k} has {layer.nnz} weights in {layer.rows} rows of {layer.row_nnz}")
        if layer.dense is None:
            fits = layer.indices is not None
        else:
            values = layer.values
            stored = isinstance(values, Tensor) and values.dtype in DENSE_DTYPES
            fits = layer.indices is None and layer.row_nnz == layer.columns and stored
        if not fits:
            refuse(f"layer {k} is neither sparse nor dense")
        if layer.activation == "softmax" and k + 1 < len(manifest.layers):
            refuse(f"layer {k} has softmax, which only the last one can")


def _tensors(layer: Layer) -> Iterator[tuple[str, Tensor, int]]:
    """A layer's arrays by name, and how many elements each must have."""
    values = layer.values.codes if isinstance(layer.values, Table) else layer.values
    positions = layer.dense.positions if layer.dense else None
    named = (
        ("row_nnz", layer.row_nnz, layer.rows + 1),
        ("indices", layer.indices, layer.nnz),
        ("positions", positions, layer.columns),
        ("values", values, layer.nnz),
        ("bias", layer.bias, layer.rows),
        ("order", layer.order, layer.rows),
    )
    for name, tensor, length in named:
        if isinstance(tensor, Tensor):
            yield name, tensor, length


@dataclass(frozen=True)
class Cut:
    """One partition of a model for P workers under the strategy ``rows``.

    The stored rows of each layer are split into P contiguous parts, and each worker owns one of them.

    Attributes
    ----------
    parts : (layers, P)
        The part of layer k that worker w owns: a permutation for every layer.
    row_bounds : (layers, P + 1)
        Part p of layer k is the rows ``row_bounds[k, p]`` to ``row_bounds[k, p + 1]``.
    entry_bounds : (layers, P + 1)
        The same bounds in entries.
    digests : (layers, P, 32) uint8
        sha256 of the bytes of each part of each layer, taken as `Layer.sha256` is (of ``row_nnz`` the starts
        of its rows and the one after).
    links : (n, 3)
        (layer, receiver, sender), ascending: to compute that layer the receiver needs rows of the layer
        before from the sender, another worker. For the first layer receiver and sender are the same, and the
        rows are features.
    link_starts : (n + 1,)
        Where each link's rows begin in ``link_rows``.
    link_rows
        Row numbers, ascending within a link.
    """

    parts: NDArray[np.int64]
    row_bounds: NDArray[np.int64]
    entry_bounds: NDArray[np.int64]
    digests: NDArray[np.uint8]
    links: NDArray[np.int64]
    link_starts: NDArray[np.int64]
    link_rows: NDArray[np.int64]

    @property
    def workers(self) -> int:
        """P."""
        return self.row_bounds.shape[1] - 1

    def rows(self, layer: int, worker: int) -> tuple[int, int]:
        """Stored rows ``[start, stop)`` of a layer that a worker owns."""
        part = self.parts[layer, worker]
        return int(self.row_bounds[layer, part]), int(self.row_bounds[layer, part + 1])

    def entries(self, layer: int, worker: int) -> tuple[int, int]:
        """Stored entries ``[start, stop)`` of those rows."""
        part = self.parts[layer, worker]
        return int(self.entry_bounds[layer, part]), int(self.entry_bounds[layer, part + 1])

    def digest(self, layer: int, worker: int) -> str:
        """sha256 of the bytes of those rows, in hexadecimal."""
        return bytes(self.digests[layer, self.parts[layer, worker]]).hex()

    @cached_property
    def halo(self) -> dict[tuple[int, int], list[tuple[int, NDArray[np.int64]]]]:
        """By (layer, receiver): the senders and the rows that each sends."""
        found: dict[tuple[int, int], list[tuple[int, NDArray[np.int64]]]] = {}
        for i, (layer, receiver, sender) in enumerate(self.links.tolist()):
            rows = self.link_rows[self.link_starts[i] : self.link_starts[i + 1]]
            found.setdefault((layer, receiver), []).append((sender, rows))
        return found


CUT_TENSORS = ("parts", "row_bounds", "entry_bounds", "digests", "links", "link_starts", "link_rows")


def read_cut(files: Files, manifest: Manifest, workers: int) -> Cut:
    """The cut for ``workers`` parts.

    Raises
    ------
    ModelError
        If the model has none, or it contradicts the manifest.
    """
    path = manifest.cuts.get(workers)
    if path is None:
        have = ", ".join(str(p) for p in sorted(manifest.cuts)) or "none"
        raise ModelError(
            f"{files.location()} has no cut for {workers} workers (it has: {have}): "
            f"run 'lamella prep' with --workers {workers}, or ask for one of those"
        )
    try:
        data = files.read(path)
    except FileNotFoundError as error:
        raise ModelError(f"{files.location(path)} is missing: copy or prepare the model again") from error
    if hashlib.sha256(data).hexdigest() != manifest.files[path].sha256:
        raise ModelError(
            f"{files.location(path)} is not the file that was prepared (sha256 differs): copy the model again"
        )
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{files.location(path)} is not a cut: {error}") from error
    if set(tensors) != set(CUT_TENSORS):
        raise ModelError(f"{files.location(path)} is not a cut: it holds {', '.join(sorted(tensors))}")
    digests = tensors.pop("digests")
    cut = Cut(digests=digests, **{name: tensor.astype(np.int64) for name, tensor in tensors.items()})
    _check_cut(cut, manifest, workers, files.location(path))
    return cut


def _check_cut(cut: Cut, manifest: Manifest, workers: int, where: str) -> None:
    layers = len(manifest.layers)
    rows = np.array([layer.rows for layer in manifest.layers])
    tiles = np.array([layer.tile for layer in manifest.layers])
    width = np.concatenate([[manifest.features], rows[:-1]])
    n = len(cut.links)
    fits = (
        cut.row_bounds.shape == cut.entry_bounds.shape == (layers, workers + 1)
        and cut.digests.shape == (layers, workers, 32)
        and cut.digests.dtype == np.uint8
        and cut.parts.shape == (layers, workers)
        and bool((np.sort(cut.parts, axis=1) == np.arange(workers)).all())
        and cut.links.shape == (n, 3)
        and cut.link_starts.shape == (n + 1,)
        and bool(
            (np.diff(cut.row_bounds, axis=1) >= 0).all() and (np.diff(cut.entry_bounds, axis=1) >= 0).all()
        )
        and bool(((cut.row_bounds % tiles[:, None] == 0) | (cut.row_bounds == rows[:, None])).all())
        and bool((cut.row_bounds[:, 0] == 0).all() and (cut.row_bounds[:, -1] == rows).all())
        and bool((cut.entry_bounds[:, 0] == 0).all())
        and bool((cut.entry_bounds[:, -1] == [layer.nnz for layer in manifest.layers]).all())
        and bool((cut.links >= 0).all() and (cut.links < [layers, workers, workers]).all())
        and bool((np.diff(cut.link_starts) >= 0).all() and cut.link_starts[0] == 0)
        and cut.link_starts[-1] == len(cut.link_rows)
        and bool((cut.link_rows >= 0).all())
        and bool((cut.link_rows < np.repeat(width[cut.links[:, 0]], np.diff(cut.link_starts))).all())
    )
    if not fits:
        raise ModelError(f"{where} does not fit its manifest: make the model again with 'lamella prep'")
