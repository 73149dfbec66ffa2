"""The bits of float32 numbers as a constant, a table and codes, or byte by byte, whichever is shortest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamella.codec.sections import UNSIGNED, Reader, Writer
from lamella.errors import MessageError

Words = NDArray[np.uint32]

_WORD = np.dtype("<u4")
_RAW, _CONSTANT, _TABLE = range(3)
_LONGEST_TABLE = 1 << 16
_ENTRY_BYTES = 3  # of a table, about: ascending, so what is stored are small differences
_SAMPLE = 2048
_NEARLY_ALL = 0.9  # of a sample's numbers being different, a table is not worth sorting for


def write_values(writer: Writer, values: Words) -> None:
    """Write some numbers; how many is not written."""
    if not len(values):
        return
    if (values == values[0]).all():
        writer.number(_CONSTANT)
        writer.section(values[:1])
        return
    table = _table(values)
    if table is None:
        writer.number(_RAW)
        _write_planes(writer, values)
        return
    codes = np.searchsorted(table, values)
    writer.number(_TABLE)
    writer.number(len(table))
    writer.section(_planes(np.diff(table, prepend=np.uint32(0))))
    _write_planes(writer, codes.astype(_code_type(len(table))))


def read_values(reader: Reader, count: int) -> Words:
    """Read what `write_values` wrote of so many numbers.

    Raises
    ------
    MessageError
        If it is something else.
    """
    if not count:
        return np.zeros(0, np.uint32)
    kind = reader.number()
    if kind == _RAW:
        return _read_planes(reader, _WORD, count)
    if kind == _CONSTANT:
        return np.broadcast_to(reader.section(_WORD, 1), count)
    if kind != _TABLE:
        raise MessageError("activations hold values of no known kind")
    length = reader.number()
    if not 0 < length <= min(count, _LONGEST_TABLE):
        raise MessageError(f"activations claim a table of {length} for {count} values")
    differences = _merged([*reader.section(UNSIGNED[0], 4 * length).reshape(4, length)], _WORD)
    table = np.cumsum(differences, dtype=np.uint32)
    codes = _read_planes(reader, _code_type(length), count)
    if int(codes.max()) >= length:
        raise MessageError("activations hold a code beyond their table")
    return table[codes]


def _table(values: Words) -> Words | None:
    """The different numbers, ascending, if codes for them are shorter than the numbers."""
    sample = values[:: max(1, len(values) // _SAMPLE)]
    table = np.unique(sample)
    if len(table) > max(256, _NEARLY_ALL * len(sample)):
        return None
    if len(sample) < len(values):
        table = np.unique(values)
    if len(table) > _LONGEST_TABLE:
        return None
    coded = _ENTRY_BYTES * len(table) + _code_type(len(table)).itemsize * len(values)
    return table if coded < _WORD.itemsize * len(values) else None


def _code_type(length: int) -> np.dtype[np.unsignedinteger]:
    return UNSIGNED[0] if length <= 1 << 8 else UNSIGNED[1]


def _planes(numbers: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """The first bytes of all numbers, then the second ones, and so on."""
    planes = np.empty((numbers.itemsize, len(numbers)), np.uint8)
    for i, plane in enumerate(planes):
        np.right_shift(numbers, 8 * i, out=plane, casting="unsafe", dtype=numbers.dtype)
    return planes


def _write_planes(writer: Writer, numbers: NDArray[np.unsignedinteger]) -> None:
    """Each plane on its own: exponents deflate well, the ends of mantissas not at all."""
    for plane in _planes(numbers):
        writer.section(plane)


def _read_planes(reader: Reader, dtype: np.dtype[np.unsignedinteger], count: int) -> Words:
    return _merged([reader.section(UNSIGNED[0], count) for _ in range(dtype.itemsize)], dtype)


def _merged(planes: list[NDArray[np.uint8]], dtype: np.dtype[np.unsignedinteger]) -> Words:
    numbers = np.empty((len(planes[0]), dtype.itemsize), np.uint8)
    for i, plane in enumerate(planes):
        numbers[:, i] = plane
    return numbers.view(dtype)[:, 0]
