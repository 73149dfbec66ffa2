"""Activations as bytes: lossless, only what is alive, and decoded within stated bounds.

Layout, little-endian: a header; which samples are live (none if all are; else a bitmap, or their numbers);
which cells are not zero (none if all are; else a bitmap); the values that are not zero, as one constant, a
table with one-byte codes, or as they are. All after the header is deflated where that makes it shorter.
"""

from __future__ import annotations

import struct
import zlib
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.errors import MessageError
from lamella.plan import Range

_Scalar = TypeVar("_Scalar", bound=np.generic)

_HEADER = struct.Struct("<2sBBIIIII")  # magic, version, flags, samples, live, rows, nonzero cells, body bytes
_MAGIC, _VERSION = b"LA", 1
_DEFLATED, _LIVE_LISTED, _CELLS_ALL = 1, 2, 4
_CONSTANT, _TABLE = 8, 16
_LEVEL = 1  # zlib's higher levels gain 2% here and take four times as long


def encode(block: Activations, samples: Range) -> bytes:
    """Encode a block.

    Parameters
    ----------
    samples
        What it stands for, ``[start, stop)``; every live sample lies in it.
    """
    block = block.without_dead()
    count, live = samples[1] - samples[0], block.live - samples[0]
    rows, n = block.values.shape
    flags, pieces = 0, []
    if n < count:
        listed = live.astype(_index_type(count)).tobytes()
        bitmap = np.packbits(np.bincount(live, minlength=count).astype(bool)).tobytes()
        flags |= _LIVE_LISTED if len(listed) <= len(bitmap) else 0
        pieces.append(min(listed, bitmap, key=len))
    cells = block.values != 0
    nonzero = int(np.count_nonzero(cells))
    if nonzero == rows * n:
        flags |= _CELLS_ALL
    else:
        pieces.append(np.packbits(cells).tobytes())
    kind, values = _encode_values(block.values[cells])
    pieces.append(values)
    body = b"".join(pieces)
    deflated = zlib.compress(body, _LEVEL)
    flags |= kind | (_DEFLATED if len(deflated) < len(body) else 0)
    header = _HEADER.pack(_MAGIC, _VERSION, flags, count, n, rows, nonzero, len(body))
    return header + min(body, deflated, key=len)


def decode(data: bytes, rows: int, samples: Range) -> Activations:
    """Decode what `encode` made of ``rows`` rows and the same samples.

    Raises
    ------
    MessageError
        If the bytes are anything else. No more memory is taken than such a block can need.
    """
    if len(data) < _HEADER.size:
        raise MessageError(f"activations cut short: {len(data)} bytes")
    magic, version, flags, count, n, had_rows, nonzero, size = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise MessageError("these bytes are no activations")
    if had_rows != rows or count != samples[1] - samples[0] or n > count or nonzero > rows * n:
        raise MessageError(f"activations of {had_rows} rows x {count} samples came instead of "
                           f"{rows} x {samples[1] - samples[0]}")  # fmt: skip
    most = count * 4 + rows * n // 8 + 1 + max(4 * nonzero, 1024 + nonzero) + 8
    if size > most:
        raise MessageError(f"activations claim {size} bytes where {most} are enough")
    body = _inflate(data[_HEADER.size :], size) if flags & _DEFLATED else data[_HEADER.size :]
    reader = _Reader(body, size)
    live = _read_live(reader, flags, count, n)
    values = np.zeros((rows, n), np.float32)
    if flags & _CELLS_ALL:
        if nonzero != rows * n:
            raise MessageError("activations contradict their own count of cells")
        cells = np.ones((rows, n), bool)
    else:
        bits = np.unpackbits(reader.take(np.dtype(np.uint8), (rows * n + 7) // 8), count=rows * n)
        cells = bits.view(bool).reshape(rows, n)
        if np.count_nonzero(cells) != nonzero:
            raise MessageError("activations contradict their own count of cells")
    values[cells] = _read_values(reader, flags, nonzero)
    reader.end()
    return Activations(live + samples[0], values)


def _index_type(count: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2") if count <= 1 << 16 else np.dtype("<u4")


def _encode_values(values: NDArray[np.float32]) -> tuple[int, bytes]:
    # Many different values in a few already: no table, and no sort of all of them to find out.
    if len(np.unique(values[:: max(1, len(values) // 2048)])) <= 256:
        table, codes = np.unique(values.view(np.uint32), return_inverse=True)
        if len(table) == 1:
            return _CONSTANT, table.astype("<u4").tobytes()
        if 0 < len(table) <= 256:
            return _TABLE, bytes([len(table) - 1]) + table.astype("<u4").tobytes() + codes.astype(
                np.uint8
            ).tobytes()
    return 0, values.astype("<f4").tobytes()


def _inflate(data: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise MessageError(f"activations don't inflate: {error}") from error
    if len(body) != size or not stream.eof or stream.unused_data:
        raise MessageError("activations don't inflate to the size they state")
    return body


class _Reader:
    def __init__(self, body: bytes, size: int) -> None:
        if len(body) != size:
            raise MessageError(f"activations cut short: {len(body)} of {size} bytes")
        self._body, self._at = body, 0

    def take(self, dtype: np.dtype[_Scalar], count: int) -> NDArray[_Scalar]:
        if self._at + count * dtype.itemsize > len(self._body):
            raise MessageError("activations end before their values do")
        taken = np.frombuffer(self._body, dtype, count, self._at)
        self._at += count * dtype.itemsize
        return taken

    def end(self) -> None:
        if self._at != len(self._body):
            raise MessageError("activations go on after their end")


def _read_live(reader: _Reader, flags: int, count: int, n: int) -> NDArray[np.int64]:
    if n == count:
        return np.arange(count)
    if flags & _LIVE_LISTED:
        live = reader.take(_index_type(count), n).astype(np.int64)
        if n and (live[-1] >= count or (np.diff(live) <= 0).any()):
            raise MessageError("activations name samples out of range or order")
        return live
    bits = np.unpackbits(reader.take(np.dtype(np.uint8), (count + 7) // 8), count=count)
    live = np.flatnonzero(bits)
    if len(live) != n:
        raise MessageError("activations contradict their own count of samples")
    return live


def _read_values(reader: _Reader, flags: int, nonzero: int) -> NDArray[np.float32]:
    bits = np.dtype("<u4")
    if flags & _CONSTANT:
        return np.broadcast_to(reader.take(bits, 1).view("<f4"), nonzero).astype(np.float32)
    if flags & _TABLE:
        length = int(reader.take(np.dtype(np.uint8), 1)[0]) + 1
        table = reader.take(bits, length).view("<f4")
        codes = reader.take(np.dtype(np.uint8), nonzero)
        if nonzero and int(codes.max()) >= length:
            raise MessageError("activations hold a code beyond their table")
        return table.astype(np.float32)[codes.astype(np.intp)]
    return reader.take(np.dtype("<f4"), nonzero).astype(np.float32)
