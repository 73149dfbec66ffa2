"""Blocks of samples: what goes through layers at a time, and how its columns are moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# As kernel.c has them: samples that a block's width is a multiple of, and at most.
GROUP = 16
WIDEST = 1024
CACHE_LINE_BYTES = 64


@dataclass(frozen=True)
class Block:
    """Some samples' activations.

    Attributes
    ----------
    live : (n,) int64
        Their numbers, ascending.
    values : (rows, stride) float32
        C-contiguous; ``stride`` is ``n`` rounded up to whole groups, and columns from ``n`` on mean nothing.
    """

    live: NDArray[np.int64]
    values: NDArray[np.float32]

    @property
    def width(self) -> int:
        return len(self.live)

    @property
    def stride(self) -> int:
        return int(self.values.shape[1])


@dataclass(frozen=True)
class Piece:
    """Columns ``[start, stop)`` of a block, or of any array of samples."""

    live: NDArray[np.int64]
    values: NDArray[np.float32]
    start: int
    stop: int


def padded(width: int) -> int:
    """The stride of a block of so many samples."""
    return -(-width // GROUP) * GROUP


def aligned(rows: int, stride: int) -> NDArray[np.float32]:
    """An empty array that begins at a cache line."""
    spare = CACHE_LINE_BYTES // 4
    flat = np.empty(rows * stride + spare, np.float32)
    skip = -flat.ctypes.data % CACHE_LINE_BYTES // 4
    return flat[skip : skip + rows * stride].reshape(rows, stride)


def shaped(buffer: NDArray[np.float32], rows: int, stride: int) -> NDArray[np.float32]:
    """The beginning of a buffer as a block of this shape."""
    return buffer.reshape(-1)[: rows * stride].reshape(rows, stride)


def pack(pieces: Sequence[Piece]) -> Block:
    """One block of the columns of several pieces."""
    width = sum(piece.stop - piece.start for piece in pieces)
    values = aligned(len(pieces[0].values), padded(width))
    return Block(pack_into(values, pieces), values)


def pack_into(values: NDArray[np.float32], pieces: Sequence[Piece]) -> NDArray[np.int64]:
    """Put the columns of several pieces side by side, zeros after them; returns their sample numbers."""
    at = 0
    for piece in pieces:
        stop = at + piece.stop - piece.start
        values[:, at:stop] = piece.values[:, piece.start : piece.stop]
        at = stop
    values[:, at:] = 0
    return np.concatenate([piece.live[piece.start : piece.stop] for piece in pieces])


def without(block: Block, alive: NDArray[np.bool_]) -> Block:
    """The block's samples that are alive."""
    kept = np.flatnonzero(alive)
    return pack([Piece(block.live[kept], block.values[:, kept], 0, len(kept))])


def deal(blocks: Sequence[Block], widths: Sequence[int]) -> list[list[Piece]]:
    """The columns of blocks, in their order, cut anew: pieces that blocks of these widths are packed from."""
    dealt: list[list[Piece]] = []
    left = iter(blocks)
    block, at = next(left), 0
    for width in widths:
        pieces: list[Piece] = []
        while width:
            while at == block.width:
                block, at = next(left), 0
            take = min(width, block.width - at)
            pieces.append(Piece(block.live, block.values, at, at + take))
            at += take
            width -= take
        dealt.append(pieces)
    return dealt


def even_widths(samples: int, widest: int, multiple: int) -> list[int]:
    """Widths of blocks for so many samples: whole groups but the last, alike, none over ``widest``.

    Parameters
    ----------
    multiple
        Their number is one of these, if there are as many groups: threads have equal shares then.
    """
    groups = -(-samples // GROUP)
    count = -(-groups // max(1, widest // GROUP))
    count = min(groups, -(-count // multiple) * multiple)
    bounds = [min(samples, groups * i // count * GROUP) for i in range(count + 1)]
    return [stop - start for start, stop in pairwise(bounds)]
