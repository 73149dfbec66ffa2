"""The cells of a block: which are not zero, and the bits of these, whichever way is shortest.

They are a constant, a table and a code for each, or written byte by byte: the first bytes of all, then the
second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lamella.codec.sections import UNSIGNED, Reader, Writer
from lamella.errors import MessageError

Words = NDArray[np.uint32]

_WORD = np.dtype("<u4")
_RAW, _CONSTANT, _TABLE = range(3)
_KIND = 3
_ZEROS = 4  # some are zero
_LONGEST_TABLE = 1 << 16
_ENTRY_BYTES = 3  # of a table, about: ascending, so what is stored are small differences
_SAMPLE = 2048
_NEARLY_ALL = 0.9  # of a sample's numbers being different, a table is not worth sorting for
_AT_ONCE = 1 << 19  # cells; what numpy makes of them on the way is several times as large


def write_cells(writer: Writer, cells: Words) -> None:
    """Write some cells, at least one; how many is not written."""
    zeros = len(cells) - int(np.count_nonzero(cells))
    is_nonzero = cells != 0 if zeros else None
    values = cells if is_nonzero is None else _chosen(cells, is_nonzero, len(cells) - zeros)
    runs = 1 + int(np.count_nonzero(values[1:] != values[:-1]))
    is_constant = len(values) > 0 and runs == 1
    table = None if is_constant else _table(values, runs)
    kind = _CONSTANT if is_constant else _RAW if table is None else _TABLE
    writer.number(kind | (_ZEROS if zeros else 0))
    if is_nonzero is not None:
        writer.section(np.packbits(is_nonzero))
    if is_constant:
        writer.section(values[:1])
    elif table is None:
        _write_planes(writer, values)
    else:
        writer.number(len(table))
        writer.section(_planes(np.diff(table, prepend=np.uint32(0))))
        _write_planes(writer, _codes(values, table))


def read_cells(reader: Reader, count: int) -> Words:
    """Read what `write_cells` wrote of so many.

    Raises
    ------
    MessageError
        If it is something else.
    """
    kind = reader.number()
    if not kind & _ZEROS:
        return _read_values(reader, kind, count)
    is_nonzero = np.unpackbits(reader.section(UNSIGNED[0], (count + 7) // 8), count=count).view(bool)
    values = _read_values(reader, kind & ~_ZEROS, int(np.count_nonzero(is_nonzero)))
    cells = np.zeros(count, np.uint32)
    taken = 0
    for start, stop in _parts(count):
        places = is_nonzero[start:stop].nonzero()[0]
        cells[start:stop][places] = values[taken : taken + len(places)]
        taken += len(places)
    return cells


def _read_values(reader: Reader, kind: int, count: int) -> Words:
    if not count:
        return np.zeros(0, np.uint32)
    if kind == _RAW:
        return _read_planes(reader, _WORD, count)
    if kind == _CONSTANT:
        return np.full(count, reader.section(_WORD, 1)[0], np.uint32)
    if kind != _TABLE:
        raise MessageError("activations hold values of no known kind")
    length = reader.number()
    if not 0 < length <= min(count, _LONGEST_TABLE):
        raise MessageError(f"activations claim a table of {length} for {count} values")
    differences = _merged(reader.section(UNSIGNED[0], 4 * length).reshape(4, length), _WORD, length)
    table = np.cumsum(differences, dtype=np.uint32)
    codes = _read_planes(reader, _code_type(length), count)
    if int(codes.max()) >= length:
        raise MessageError("activations hold a code beyond their table")
    return table[codes]


def _chosen(cells: Words, is_chosen: NDArray[np.bool_], count: int) -> Words:
    # Several times as fast as indexing with the mask itself.
    chosen = np.empty(count, cells.dtype)
    taken = 0
    for start, stop in _parts(len(cells)):
        part = cells[start:stop][is_chosen[start:stop].nonzero()[0]]
        chosen[taken : taken + len(part)] = part
        taken += len(part)
    return chosen


def _table(values: Words, runs: int) -> Words | None:
    """The different numbers, ascending, if with codes for them they are shorter than the numbers.

    In either form deflate takes about as much for a run of equal ones as for one.
    """
    sample = values[:: max(1, len(values) // _SAMPLE)]
    table = np.unique(sample)
    if len(table) > max(256, _NEARLY_ALL * len(sample)):
        return None
    if len(sample) < len(values):
        table = np.unique(values)
    if len(table) > _LONGEST_TABLE:
        return None
    coded = _ENTRY_BYTES * len(table) + _code_type(len(table)).itemsize * runs
    return table if coded < _WORD.itemsize * runs else None


def _codes(values: Words, table: Words) -> NDArray[np.unsignedinteger]:
    """Where each value is in the table."""
    codes = np.empty(len(values), _code_type(len(table)))
    for start, stop in _parts(len(values)):
        codes[start:stop] = np.searchsorted(table, values[start:stop])
    return codes


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
    planes = (reader.section(UNSIGNED[0], count) for _ in range(dtype.itemsize))
    return _merged(planes, dtype, count)


def _merged(planes: Iterable[NDArray[np.uint8]], dtype: np.dtype[np.unsignedinteger], count: int) -> Words:
    numbers = np.empty((count, dtype.itemsize), np.uint8)
    for i, plane in enumerate(planes):
        numbers[:, i] = plane
    return numbers.view(dtype)[:, 0]


def _parts(count: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, count, _AT_ONCE), count])
