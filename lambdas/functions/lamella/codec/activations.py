"""A block of activations as bytes, and back.

What is written, each part only where it says something: the shape; which samples are live, as a change
against a base; which rows are alike, for each different row is written once; which cells of those rows are
not zero; and the values of these cells.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from lamella.activations import Activations
from lamella.codec.cells import Words, read_cells, write_cells
from lamella.codec.live import Base, Bits, Positions, packed, read_live, write_live
from lamella.codec.sections import UNSIGNED, Reader, Writer, narrowest
from lamella.errors import MessageError
from lamella.plan import Range

_MAGIC = b"LA2"
# How rows are alike: not at all, all of them, those that follow each other, or in any order.
_DIFFERENT, _ALIKE, _RUNS, _MAPPED = range(4)
_ROWS = 3
_BY_SAMPLE = 4  # cells go on with the next row of the same sample, not with the next sample of the same row
_CORNER, _CLEARLY = 64, 0.02
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
    writer.raw(_MAGIC)
    writer.number(rows)
    writer.number(count)
    write_live(writer, bits, block.live - samples[0], count, base)
    if not rows or not n:
        return writer.to_bytes()
    firsts, which = _different_rows(words)
    different = len(firsts)
    kept = words if different == rows else words[firsts]
    by_sample = different > 1 and _rows_resemble(kept)
    cells = (np.ascontiguousarray(kept.T) if by_sample else kept).reshape(-1)
    alike = _alike(which, different)
    writer.number(alike | (_BY_SAMPLE if by_sample else 0))
    if alike == _RUNS:
        writer.section(np.packbits(which[1:] != which[:-1]))
    elif alike == _MAPPED:
        writer.number(different)
        writer.section(which.astype(UNSIGNED[narrowest(different - 1)]))
    write_cells(writer, cells)
    return writer.to_bytes()


def decode(data: bytes, rows: int, samples: Range, base: Base | None = None) -> Activations:
    """Decode what `encode` made of ``rows`` rows and the same samples.

    No more memory is taken than 16 bytes for each row of each sample, 64 for each sample, and 16 MiB.

    Raises
    ------
    MessageError
        If the bytes are anything else, or a change against another base.
    """
    count = samples[1] - samples[0]
    reader = Reader(data)
    if reader.raw(len(_MAGIC)) != _MAGIC:
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


def most_encoded_bytes(rows: int, samples: int) -> int:
    """More than `encode` makes of any such block: each cell's bit and value, and each sample's number."""
    return 5 * rows * samples + 8 * samples + 4096


def _read_block(reader: Reader, rows: int, n: int) -> Words:
    flags = reader.number()
    if flags > _ROWS | _BY_SAMPLE:
        raise MessageError("activations hold rows of no known kind")
    which, different = _read_rows(reader, flags & _ROWS, rows)
    cells = read_cells(reader, different * n)
    kept = cells.reshape(n, different).T if flags & _BY_SAMPLE else cells.reshape(different, n)
    return np.ascontiguousarray(kept) if which is None else np.take(kept, which, axis=0)


def _rows_resemble(words: Words) -> bool:
    """Whether a sample's values in two rows that follow each other are alike more often than a row's.

    Taken from the upper halves, sign, exponent and the highest bits, of a corner of the block.
    """
    corner = words[:_CORNER, :_CORNER] >> 16
    between_rows = np.count_nonzero(corner[1:] == corner[:-1]) / max(1, corner[1:].size)
    within_rows = np.count_nonzero(corner[:, 1:] == corner[:, :-1]) / max(1, corner[:, 1:].size)
    return between_rows > within_rows + _CLEARLY


def all_alike(words: Words) -> bool:
    """Whether every row of a block that is not empty has the same bits."""
    return bool((words[:, 0] == words[0, 0]).all() and (words == words[0]).all())


def _different_rows(words: Words) -> tuple[Positions, Positions]:
    """Where each of the different rows is first, and for each row which of these it is."""
    if all_alike(words):
        return np.zeros(1, np.int64), np.zeros(len(words), np.int64)
    # Rows that differ in a few samples differ: only the others are looked at as a whole.
    probe = np.ascontiguousarray(words[:, :: max(1, words.shape[1] // _PROBED_SAMPLES)])
    is_new = np.ones(len(words), bool)
    is_new[1:] = (probe[1:] != probe[:-1]).any(axis=1)
    unsure = (~is_new).nonzero()[0]
    is_new[unsure] = (words[unsure] != words[unsure - 1]).any(axis=1)
    firsts, which = is_new.nonzero()[0], is_new.cumsum() - 1
    often = Counter(row.tobytes() for row in probe[firsts])
    if len(often) == len(firsts):
        return firsts, which
    found: dict[bytes, int] = {}
    really: list[int] = []
    renamed: list[int] = []
    for row in firsts.tolist():
        key = probe[row].tobytes()
        number = found.setdefault(key if often[key] == 1 else words[row].tobytes(), len(found))
        if number == len(really):
            really.append(row)
        renamed.append(number)
    return np.array(really), np.array(renamed)[which]


def _alike(which: Positions, different: int) -> int:
    if different in (1, len(which)):
        return _ALIKE if different == 1 else _DIFFERENT
    return _RUNS if (which[1:] >= which[:-1]).all() else _MAPPED


def _read_rows(reader: Reader, kind: int, rows: int) -> tuple[Positions | None, int]:
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
