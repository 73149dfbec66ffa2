"""A block of activations as bytes, and back.

What is written, each part only where it says something: the shape; which samples are live, as a change
against a base; which rows are alike, for each different row is written once; which cells of those rows are
not zero; and the values of these cells. Rows are written sample by sample: what a sample has in one row
resembles what it has in the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.codec.live import Base, Bits, packed, read_live, write_live
from lamella.codec.sections import UNSIGNED, Reader, Writer, narrowest
from lamella.codec.values import Words, read_values, write_values
from lamella.errors import MessageError
from lamella.plan import Range

_MAGIC = b"LA2"
# How rows are alike: not at all, all of them, those that follow each other, or in any order.
_DIFFERENT, _ALIKE, _RUNS, _MAPPED = range(4)
_ROWS = 3
_ZEROS = 4  # some cells are zero
_PROBED_SAMPLES = 16


def encode(block: Activations, samples: Range, base: Base | None = None) -> bytes:
    """Encode a block; the same block and base always give the same bytes.

    Parameters
    ----------
    block
        Dead samples are left out. Dead are those whose bits are all zero: -0 is not.
    samples
        What it stands for, ``[start, stop)``; every live sample lies in it.
    base
        What the samples are a change against; whoever decodes must have it.
    """
    block = block.without_dead()
    count = samples[1] - samples[0]
    return encode_living(block, packed(block.live - samples[0], count), samples, base)


def encode_living(block: Activations, bits: Bits, samples: Range, base: Base | None) -> bytes:
    """As `encode`, of a block that has no dead samples, and the bits that say which are live."""
    count = samples[1] - samples[0]
    rows, n = block.values.shape
    words = block.values.view(np.uint32)
    writer = Writer()
    writer.bytes(_MAGIC)
    writer.number(rows)
    writer.number(count)
    write_live(writer, bits, block.live - samples[0], count, base)
    if not rows or not n:
        return writer.to_bytes()
    which = _which_rows(words)
    different = words if which is None else words[_firsts(which)]
    by_sample = np.ascontiguousarray(different.T).reshape(-1)
    nonzero = int(np.count_nonzero(by_sample))
    rows_alike = _rows_alike(which, len(different))
    writer.number(rows_alike | (_ZEROS if nonzero < len(by_sample) else 0))
    if which is not None:
        _write_rows(writer, rows_alike, which, len(different))
    if nonzero < len(by_sample):
        cells = by_sample != 0
        writer.section(np.packbits(cells))
        by_sample = by_sample[np.flatnonzero(cells)]
    write_values(writer, by_sample)
    return writer.to_bytes()


def decode(data: bytes, rows: int, samples: Range, base: Base | None = None) -> Activations:
    """Decode what `encode` made of ``rows`` rows and the same samples.

    No more memory is taken than 24 bytes for each row of each sample, 24 for each sample, and 1 MiB.

    Raises
    ------
    MessageError
        If the bytes are anything else, or a change against another base.
    """
    count = samples[1] - samples[0]
    reader = Reader(data)
    if reader.bytes(len(_MAGIC)) != _MAGIC:
        raise MessageError("these bytes are no activations")
    shape = reader.number(), reader.number()
    if shape != (rows, count):
        raise MessageError(
            f"activations of {shape[0]} rows x {shape[1]} samples came instead of {rows} x {count}"
        )
    live = read_live(reader, count, base)
    values = _read_block(reader, rows, len(live)) if rows and len(live) else np.zeros((rows, len(live)), "u4")
    reader.end()
    return Activations(live + samples[0], values.view(np.float32))


def _read_block(reader: Reader, rows: int, n: int) -> Words:
    flags = reader.number()
    if flags > _ROWS | _ZEROS:
        raise MessageError("activations hold rows of no known kind")
    which, different = _read_rows(reader, flags & _ROWS, rows)
    size = different * n
    if flags & _ZEROS:
        cells = np.unpackbits(reader.section(UNSIGNED[0], (size + 7) // 8), count=size).view(bool)
        places = np.flatnonzero(cells)
        by_sample = np.zeros(size, np.uint32)
        by_sample[places] = read_values(reader, len(places))
    else:
        by_sample = read_values(reader, size)
    by_row = by_sample.reshape(n, different).T
    return np.ascontiguousarray(by_row) if which is None else np.take(by_row, which, axis=0)


def _which_rows(words: Words) -> NDArray[np.int64] | None:
    """For each row which of the different rows it is, in the order of their first; None if no two are alike."""
    n = words.shape[1]
    # Rows that differ in a few samples differ.
    probe = np.ascontiguousarray(words[:, :: max(1, n // _PROBED_SAMPLES)])
    if len({row.tobytes() for row in probe}) == len(words):
        return None
    found: dict[bytes, int] = {}
    which = np.array([found.setdefault(row.tobytes(), len(found)) for row in words])
    return None if len(found) == len(words) else which


def _firsts(which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of the different rows is first."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(which), prepend=-1))


def _rows_alike(which: NDArray[np.int64] | None, different: int) -> int:
    if which is None:
        return _DIFFERENT
    if different == 1:
        return _ALIKE
    return _RUNS if (np.diff(which) >= 0).all() else _MAPPED


def _write_rows(writer: Writer, kind: int, which: NDArray[np.int64], different: int) -> None:
    if kind == _RUNS:
        writer.section(np.packbits(np.diff(which) != 0))
    elif kind == _MAPPED:
        writer.number(different)
        writer.section(which.astype(UNSIGNED[narrowest(different - 1)]))


def _read_rows(reader: Reader, kind: int, rows: int) -> tuple[NDArray[np.int64] | None, int]:
    """For each row which of the different ones it is, and how many these are."""
    if kind == _DIFFERENT:
        return None, rows
    which = np.zeros(rows, np.int64)
    if kind == _ALIKE:
        return which, 1
    if kind == _RUNS:
        np.cumsum(np.unpackbits(reader.section(UNSIGNED[0], (rows + 6) // 8), count=rows - 1), out=which[1:])
        return which, int(which[-1]) + 1
    different = reader.number()
    if not 0 < different <= rows:
        raise MessageError(f"activations claim {different} different rows of {rows}")
    which[:] = reader.section(UNSIGNED[narrowest(different - 1)], rows)
    if which.max() >= different:
        raise MessageError("activations name a row that there is not")
    return which, different
