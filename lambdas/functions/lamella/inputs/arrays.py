"""Samples in array files: ``.npy``, scipy's sparse ``.npz``, ``.safetensors``. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lamella.errors import BatchError
from lamella.inputs.batch import (
    MAX_BYTES,
    MOST,
    Batch,
    check_shape,
    dense_blocks,
    entry_block,
    join,
    reason,
)
from lamella.tensors import loaded

_NUMBERS = "biuf"
# numpy reads a header as a Python literal: a damaged one breaks, a hostile one overflows, that parser.
_BAD_HEADER = (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)
_Header = tuple[tuple[int, ...], bool, np.dtype[np.generic]]
_read_magic: Callable[[io.BytesIO], tuple[int, int]] = npy.read_magic
_HEADERS: dict[tuple[int, int], Callable[[io.BytesIO], _Header]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
_NUMPY_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_TENSOR_NAMES = ("samples", "inputs")


def read_npy(data: bytes, name: str, features: int, samples: int | None) -> Batch:
    """Samples x features, of any real type.

    Raises
    ------
    BatchError
        If it isn't that, or doesn't fit the model.
    """
    values = _parse_npy(data, name)
    check_shape(values.shape, features, samples, name)
    return join(dense_blocks(values, name), len(values), 0, name)


def read_safetensors(data: bytes, name: str, features: int, samples: int | None) -> Batch:
    """The file's only tensor, or the one named ``samples`` or ``inputs``.

    Raises
    ------
    BatchError
        If there is no such tensor of numbers, or it doesn't fit the model.
    """
    try:
        tensors = loaded(data)
    except ValueError as error:
        raise BatchError(
            f"{name} can't be read as safetensors ({reason(error)}): save it again as F32"
        ) from error
    chosen = [key for key in _TENSOR_NAMES if key in tensors] or list(tensors)
    if len(chosen) != 1:
        names = ", ".join(key[:40] for key in sorted(tensors)[:5]) or "none"
        raise BatchError(f"{name} holds {len(tensors)} tensors ({names}): name the one to use 'samples'")
    values = tensors[chosen[0]]
    if values.dtype.kind not in _NUMBERS:
        raise BatchError(f"{name}: tensor {chosen[0]!r} is of type {values.dtype}: save it as F32")
    check_shape(values.shape, features, samples, name)
    return join(dense_blocks(values, name), len(values), 0, name)


def read_sparse_npz(data: bytes, name: str, features: int, samples: int | None) -> Batch:
    """What ``scipy.sparse.save_npz`` wrote of a CSR, CSC or COO array, samples x features.

    Raises
    ------
    BatchError
        If it isn't that, contradicts itself, or doesn't fit the model.
    """
    parts = _npz_members(data, name)
    try:
        layout = parts["format"].item()
        shape = tuple(int(size) for size in parts["shape"])
        layout = layout.decode() if isinstance(layout, bytes) else layout
        values = parts["data"]
        indices = ("row", "col") if layout == "coo" else ("indices", "indptr")
        first, second = (parts[key] for key in indices)
    except (KeyError, ValueError, TypeError) as error:
        raise BatchError(
            f"{name} holds no sparse array: write it with scipy.sparse.save_npz, as CSR, CSC or COO"
        ) from error
    count, width = check_shape(shape, features, samples, name)
    if values.dtype.kind not in _NUMBERS:
        raise BatchError(f"{name} holds values of type {values.dtype}: save it as float32")
    if any(part.dtype.kind not in "iu" or part.ndim != 1 for part in (first, second)) or values.ndim != 1:
        raise _contradiction(name)
    if layout not in {"csr", "csc", "coo"}:
        raise BatchError(f"{name} is a sparse array of format {layout!r}: convert it with .tocsr() first")
    minor = first.astype(np.int64)
    if layout == "coo":
        rows, columns = minor, second.astype(np.int64)
    else:
        major = _majors(second.astype(np.int64), count if layout == "csr" else width, len(minor), name)
        minor, values = minor[: len(major)], values[: len(major)]
        rows, columns = (major, minor) if layout == "csr" else (minor, major)
    inside = (rows >= 0) & (rows < count) & (columns >= 0) & (columns < width)
    if not len(rows) == len(columns) == len(values) or not inside.all():
        raise _contradiction(name)
    return join([entry_block(rows, columns, values, width, 0, name)], count, 0, name)


def _majors(starts: NDArray[np.int64], size: int, entries: int, name: str) -> NDArray[np.int64]:
    """Row of each entry of a CSR array, or column of a CSC one; what follows its last start is no entry."""
    if len(starts) != size + 1 or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > entries:
        raise _contradiction(name)
    return np.repeat(np.arange(size), np.diff(starts))


def _contradiction(name: str) -> BatchError:
    return BatchError(
        f"{name} contradicts itself (indices outside its shape, or uneven arrays): save it again"
    )


def _npz_members(data: bytes, name: str) -> dict[str, NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise BatchError(f"{name} unpacks to more than {MOST}: split it into several runs")
            if any(member.compress_type not in _NUMPY_COMPRESSIONS for member in members):
                raise BatchError(f"{name} was not written by numpy or scipy: use scipy.sparse.save_npz")
            return {
                member.filename.removesuffix(".npy"): _parse_npy(_unpacked(archive, member), name)
                for member in members
            }
    # zipfile raises EOFError for a short member, RuntimeError for an encrypted one.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BatchError(f"{name} is not a sound .npz file ({reason(error)}): save it again") from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes: not one more is unpacked than it says that it has, which `ZipFile.read` would."""
    with archive.open(member) as stream:
        return stream.read(member.file_size)


def _parse_npy(data: bytes, name: str) -> NDArray[np.generic]:
    """An array of numbers or text, viewed where it lies; its header is held against what is really there."""
    stream = io.BytesIO(data)
    try:
        shape, column_major, dtype = _HEADERS[_read_magic(stream)](stream)
    except _BAD_HEADER as error:
        raise BatchError(
            f"{name} can't be read as .npy ({reason(error)}): write it with numpy.save"
        ) from error
    if dtype.kind not in _NUMBERS + "SU":
        raise BatchError(f"{name} holds values of type {dtype}: save it as float32")
    start, count = stream.tell(), math.prod(shape)
    if min(shape, default=0) < 0 or len(data) - start < count * dtype.itemsize:
        raise BatchError(f"{name} ends before its last value: copy it again, whole")
    try:
        flat = np.frombuffer(data, dtype, count, start)
        return flat.reshape(shape, order="F" if column_major else "C")
    except (ValueError, OverflowError) as error:  # letters of no width, dimensions without number or end
        raise BatchError(f"{name} holds no array ({reason(error)}): write it with numpy.save") from error
