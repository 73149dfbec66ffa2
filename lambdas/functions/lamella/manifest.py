"""What ``lamella prep`` wrote: the manifest of a prepared model, and its files of tensors.

Row numbers are positions in the *stored* order of a layer (the partitioner's), everywhere but in a
layer's ``order``, which maps them to the rows of the source. Columns are rows of the layer before;
those of the first layer are features, in the source's order. Within a row, entries are stored by ascending
column *of the source*, so that a row's sum, taken in stored order, is the same whatever the partitioner.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from lamella.activation_names import Activation
from lamella.errors import InputError, ModelError
from lamella.files import Files, checked_path, read_bounded
from lamella.numbers import BFLOAT16
from lamella.tensors import loaded

FLOAT32_MAX = float(np.finfo(np.float32).max)
FORMAT = "lamella-model"
VERSION = 3
MANIFEST = "manifest.json"

# Of a layer. A function holds a few arrays of a number for each of them, whatever the model's files hold.
MOST_ROWS = 2**24
# Of manifest.json, and of layers, cuts or files in it. Read, it takes up to forty times as much memory.
MOST_MANIFEST_BYTES = 16 << 20
MOST_PARTS = 1 << 14
# Of the tiles' table, or a cut: read, it takes up to twelve times as much memory.
MOST_TABLE_BYTES = 128 << 20

Count = Annotated[int, Field(ge=0, lt=2**48)]
Size = Annotated[int, Field(ge=1, le=MOST_ROWS)]
Number = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Unsigned = Literal["U8", "U16", "U32"]
Float = Literal["F16", "BF16", "F32"]
DType = Unsigned | Float
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code).newbyteorder("<")
    for name, code in {"U8": "u1", "U16": "u2", "U32": "u4", "F16": "f2", "F32": "f4"}.items()
} | {"BF16": BFLOAT16}
DENSE_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """Where the bytes of a one-dimensional array are."""

    file: str
    offset: Count
    dtype: Unsigned
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

    values: Annotated[tuple[Number, ...], Field(min_length=1, max_length=256)]


@dataclass(frozen=True)
class Dense:
    """How a layer is stored whose zeros are stored too.

    Its weights lie band after band of rows, and in a band column after column, in the source's order of
    columns: as the kernel multiplies them.

    Attributes
    ----------
    band
        Rows of a band; the layer's last may have fewer. Tiles are whole bands.
    positions
        Stored row of the layer before that each column multiplies; None where they are the same.
    positions_sha256
        Of the bytes of those.
    """

    band: Annotated[int, Field(ge=1, le=64)]
    positions: Tensor | None
    positions_sha256: Digest | None


@dataclass(frozen=True)
class Layer:
    """One layer: ``x' = clip(activation(W x + bias), lo, hi)``.

    Attributes
    ----------
    rows, columns, nnz
        Outputs, inputs and stored weights.
    row_nnz
        Weights of every row, if they are as many in each; else the type in which each row's are stored.
    indices
        Type in which the column of each entry is stored; None in a dense layer, which has every column.
    values
        Weight of each entry: the type in which they are stored (float32, or float16 where exact), a table
        that codes of a byte are stored for, or one constant. Of a dense layer float32, float16 or bfloat16.
    bias
        The type (float32) in which one per row is stored, or one constant.
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
    file
        Where its tiles are (`lamella.tiles`): each some of its rows, their numbers of weights, indices,
        values or codes, and biases, those that are stored, one after the other.
    dense
        None for a sparse layer.
    sha256
        Of all of its tiles, one after the other.
    """

    rows: Size
    columns: Size
    nnz: Count
    row_nnz: Count | Unsigned
    indices: Unsigned | None
    values: Number | Table | Float
    bias: Number | Literal["F32"]
    bias_on: Literal["all", "nonzero"]
    activation: Activation
    slope: Number
    lo: Number | None
    hi: Number | None
    zeros_to_zeros: bool
    order: Tensor | None
    file: str
    dense: Dense | None
    sha256: Digest

    @property
    def band(self) -> int:
        """Rows that can't be stored apart."""
        return self.dense.band if self.dense else 1

    @property
    def entry_types(self) -> list[np.dtype[np.generic]]:
        """Of what is stored for each entry: its index, and its value or code."""
        values = "U8" if isinstance(self.values, Table) else self.values
        return [DTYPES[name] for name in (self.indices, values) if isinstance(name, str)]

    @property
    def entry_bytes(self) -> int:
        """What is stored for each entry."""
        return sum(dtype.itemsize for dtype in self.entry_types)

    @property
    def row_bytes(self) -> int:
        """What is stored for each row, beside its entries."""
        return sum(DTYPES[name].itemsize for name in (self.row_nnz, self.bias) if isinstance(name, str))


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
    tiles
        File of the tiles' places.
    cuts
        File of the cut for each number of workers.
    files
        Every file the model consists of, by path.
    """

    format: Literal["lamella-model"]
    version: Literal[3]
    source: str
    partitioner: str
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    tiles: str
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
    if len(data) > MOST_MANIFEST_BYTES:
        raise ModelError(
            f"{where} has more than {MOST_MANIFEST_BYTES >> 20} MiB: make the model again with 'lamella prep'"
        )
    try:
        # Unlike the standard library's, this parser refuses what is nested without end.
        head = from_json(data)
    except ValueError as error:
        raise ModelError(f"{where} is not JSON: make the model again with 'lamella prep'") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ModelError(f"{where} is not the manifest of a prepared model: make one with 'lamella prep'")
    if head.get("version") != VERSION:
        raise ModelError(
            f"{where} has format version {str(head.get('version'))[:20]}, this Lamella reads {VERSION}: "
            "prep again"
        )
    # Each that is wrong would become an error of its own.
    for name in ("layers", "cuts", "files"):
        given = head.get(name)
        if isinstance(given, list | dict) and len(given) > MOST_PARTS:
            raise ModelError(
                f"{where} has {len(given):,} {name}, and {MOST_PARTS:,} can be: make the model with fewer"
            )
    try:
        manifest = _MANIFEST.validate_python(head)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])[:200]
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
        data = files.read(MANIFEST, 0, MOST_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{files.location()} is not a prepared model (no {MANIFEST}): make one with 'lamella prep'"
        ) from error
    return parse_manifest(data, files.location(MANIFEST))


def _check(manifest: Manifest, where: str) -> None:
    def refuse(what: str) -> None:
        raise ModelError(f"{where}: {what}: make the model again with 'lamella prep'")

    for path in [*manifest.files, *manifest.cuts.values(), manifest.tiles]:
        try:
            checked_path(path)
        except InputError as error:
            raise ModelError(f"{where}: {error}") from error
    for path in [*manifest.cuts.values(), manifest.tiles, *(layer.file for layer in manifest.layers)]:
        if path not in manifest.files:
            refuse(f"{path} is not among its files")
    width = manifest.features
    for k, layer in enumerate(manifest.layers):
        if layer.columns != width:
            refuse(f"layer {k} has {layer.columns} columns after {width} rows")
        width = layer.rows
        positions = layer.dense.positions if layer.dense else None
        for name, tensor, length in (
            ("order", layer.order, layer.rows),
            ("positions", positions, layer.columns),
        ):
            if tensor is None:
                continue
            if (
                tensor.file not in manifest.files
                or tensor.span(0, tensor.length)[1] > manifest.files[tensor.file].bytes
            ):
                refuse(f"{name} of layer {k} lies outside its files")
            if tensor.length != length:
                refuse(f"{name} of layer {k} has {tensor.length} elements")
        if isinstance(layer.row_nnz, int) and layer.row_nnz * layer.rows != layer.nnz:
            refuse(f"layer {k} has {layer.nnz} weights in {layer.rows} rows of {layer.row_nnz}")
        if layer.nnz > layer.rows * layer.columns:
            refuse(f"layer {k} has {layer.nnz} weights for {layer.rows} rows x {layer.columns} columns")
        if layer.rows * layer.row_bytes + layer.nnz * layer.entry_bytes > manifest.files[layer.file].bytes:
            refuse(f"layer {k} is larger than its file {layer.file}")
        if layer.lo is not None and layer.hi is not None and layer.lo > layer.hi:
            refuse(f"layer {k} is clipped to {layer.lo} at least and {layer.hi} at most")
        if layer.dense is None:
            fits = layer.indices is not None and layer.values != "BF16"
        else:
            fits = layer.indices is None and layer.row_nnz == layer.columns and layer.values in DENSE_DTYPES
        if not fits:
            refuse(f"layer {k} is neither sparse nor dense")
        if layer.activation == "softmax" and k + 1 < len(manifest.layers):
            refuse(f"layer {k} has softmax, which only the last one can")


def read_tensors(
    files: Files, manifest: Manifest, path: str, names: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """A file of the model that holds these tensors, once its hash is found right.

    Raises
    ------
    ModelError
        If it is missing, or another one.
    """
    where = files.location(path)
    if manifest.files[path].bytes > MOST_TABLE_BYTES:
        raise ModelError(
            f"{where} has {manifest.files[path].bytes:,} bytes, more than the {MOST_TABLE_BYTES:,} that a "
            "function can read of it: ask for fewer workers, for which it is smaller"
        )
    try:
        data = read_bounded(files, path, MOST_TABLE_BYTES)
    except FileNotFoundError as error:
        raise ModelError(f"{where} is missing: copy or prepare the model again") from error
    except InputError as error:
        raise ModelError(f"{error}: copy or prepare the model again") from error
    if hashlib.sha256(data).hexdigest() != manifest.files[path].sha256:
        raise ModelError(f"{where} is not the file that was prepared (sha256 differs): copy the model again")
    try:
        tensors = loaded(data)
    except ValueError as error:
        raise ModelError(f"{where} can't be read: {error}: prepare the model again") from error
    if set(tensors) != set(names):
        held = ", ".join(sorted(tensors)[:10])
        raise ModelError(f"{where} holds {held}, not {', '.join(names)}: prepare the model again")
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "u" or not tensor.ndim:
            raise ModelError(
                f"{where}: {name} is no list of whole numbers ({tensor.dtype}): prepare the model again"
            )
    return tensors
