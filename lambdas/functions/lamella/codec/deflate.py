"""Deflate as far as it is worth its time, and inflate no further than is expected."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import MessageError

Bytes = NDArray[np.uint8]

_LEAST_BYTES = 32  # fewer are hardly ever shorter deflated
_TRIAL_BYTES = 1024
_FLAT_FROM_BYTES = 256  # whether fewer are, chance decides
_TRIED_FROM_BYTES = 4 * _TRIAL_BYTES
_RAW_DEFLATE = -15  # zlib's frame would be six bytes more, and messages have their own checksum


@dataclass(frozen=True)
class _Method:
    """A way to deflate.

    Attributes
    ----------
    must_gain
        Of its input, by how much it must beat what is faster: about what makes a second spent on deflating
        worth 8 MB, as the methods take 7, 7 and 30 ms a MB. A worker's share of the network is not faster by
        much, and what a channel bills for 8 MB is more than what Lambda does for the second.
    """

    level: int
    strategy: int
    must_gain: float


_RUNS = _Method(1, zlib.Z_RLE, 1 / 16)
_HUFFMAN = _Method(1, zlib.Z_HUFFMAN_ONLY, 0)
_MATCHES = _Method(6, zlib.Z_DEFAULT_STRATEGY, 1 / 5)


def deflate(data: Bytes) -> bytes | None:
    """The bytes deflated, or None where that is not worth it.

    The same bytes give the same answer: what is worth it is measured in bytes, on a part of them.
    """
    size = len(data)
    if size < _LEAST_BYTES:
        return None
    middle = max(0, (size - _TRIAL_BYTES) // 2)
    sample = data[middle : middle + _TRIAL_BYTES]
    if _is_flat(sample):
        return None
    method = _RUNS if size < _TRIED_FROM_BYTES else _worthwhile(sample)
    if method is None:
        return None
    deflated = _compress(data, method)
    return deflated if len(deflated) < size else None


def inflate(data: memoryview, size: int) -> bytes:
    """Inflate to exactly ``size`` bytes.

    Raises
    ------
    MessageError
        If it is anything else; not more than one byte over is inflated to find out.
    """
    stream = zlib.decompressobj(_RAW_DEFLATE)
    try:
        body = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise MessageError(f"activations don't inflate: {error}") from error
    if len(body) != size or not stream.eof or stream.unused_data:
        raise MessageError(f"activations don't inflate to the {size} bytes that they are")
    return body


def _is_flat(sample: Bytes) -> bool:
    """Whether all bytes are about as frequent: such bytes hardly repeat in longer pieces either.

    Two of them are equal about once in 256 times. Less than 1.2 in 256, their collision entropy, and so
    their entropy, is above 7.7 bits, and no code gains a thirtieth.
    """
    size = len(sample)
    frequencies = np.bincount(sample, minlength=256)
    equal_pairs = int(frequencies @ frequencies) - size
    return size >= _FLAT_FROM_BYTES and 256 * equal_pairs < 1.2 * size * (size - 1)


def _worthwhile(sample: Bytes) -> _Method | None:
    best, shortest = None, len(sample)
    for method in (_RUNS, _HUFFMAN, _MATCHES):
        length = len(_compress(sample, method))
        if length < shortest - method.must_gain * len(sample):
            best, shortest = method, length
    return best


def _compress(data: Bytes, method: _Method) -> bytes:
    stream = zlib.compressobj(method.level, zlib.DEFLATED, _RAW_DEFLATE, zlib.DEF_MEM_LEVEL, method.strategy)
    return stream.compress(data.data) + stream.flush()
