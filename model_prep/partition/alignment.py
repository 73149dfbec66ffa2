"""Keeping rows where their inputs are, from layer to layer.

A partitioner's order says which rows belong together. Cut into parts, they can still be put in any order:
here each goes where most of its inputs are, the parts of the layer before being placed already. Part w is
then worker w's in every layer, and what a worker reads of consecutive layers lies side by side.

One order serves every number of workers, but best those it is made for: its levels. Parts of the first level
are placed as suits that number of workers; within each, the parts of the next, and so on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

DEFAULT_LEVELS = (8, 16, 32, 64)
# An assignment of n parts takes n^2 memory, and n^3 time at worst.
MAX_PLACED = 1024
# Columns looked at, times blocks.
MAX_CELLS = 2**26


def levels_for(named: Sequence[int]) -> tuple[int, ...]:
    """The numbers of workers to make an order for: those that are named, or the usual ones.

    Parts of the largest named are split on as far as the usual ones allow: that costs the named nothing.
    """
    levels = sorted({p for p in named if p <= MAX_PLACED})
    if not levels:
        return DEFAULT_LEVELS
    finest = levels[-1]
    return (*levels, *(p for p in DEFAULT_LEVELS if p > finest and p % finest == 0))


def place(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    blocks: NDArray[np.int64],
    levels: Sequence[int],
    before: Mapping[int, NDArray[np.int64]],
) -> list[int]:
    """Which block comes at each place.

    Parameters
    ----------
    starts, columns
        The layer's rows in the partitioner's order; columns are stored rows of the layer before.
    blocks : (n + 1,)
        Bounds of the parts of the last level.
    levels
        Ascending numbers of workers.
    before
        Bounds of each level's parts of the layer before.
    """
    count = len(blocks) - 1
    needed = _Needed.by(starts, columns, blocks, int(before[levels[0]][-1]))
    placed = [_Unit((0, count), (0, count))]
    for level in levels:
        firsts = (np.arange(level + 1) * count + level // 2) // level
        placed = _placed_within(placed, firsts.tolist(), needed, before[level])
    return [block for unit in placed for block in range(*unit.blocks)]


@dataclass(frozen=True)
class _Needed:
    """Which columns each block reads; of very wide layers, those of every so many columns.

    Attributes
    ----------
    reads : (blocks, columns looked at)
    step
        One column of so many is looked at.
    """

    reads: NDArray[np.bool_]
    step: int

    @classmethod
    def by(
        cls, starts: NDArray[np.int64], columns: NDArray[np.int64], blocks: NDArray[np.int64], width: int
    ) -> _Needed:
        count = len(blocks) - 1
        step = -(-count * width // MAX_CELLS)
        block = np.repeat(np.arange(count), np.diff(starts[blocks]))
        if step > 1:
            seen = columns % step == 0
            block, columns = block[seen], columns[seen] // step
        reads = np.zeros((count, -(-width // step)), bool)
        reads[block, columns] = True
        return cls(reads, step)

    def shared(self, pieces: Sequence[tuple[int, int]], owned: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many columns each piece, some blocks in a row, reads of each place.

        All pieces together are all blocks.
        """
        order = np.argsort([first for first, _ in pieces])
        firsts = np.array(pieces)[order, 0]
        together = np.logical_or.reduceat(self.reads, firsts, axis=0)
        bounds = -(-owned // self.step)
        # Of an empty place reduceat gives what comes next.
        starts = np.minimum(bounds[:-1], together.shape[1] - 1)
        found = np.empty((len(pieces), len(starts)), np.int64)
        found[order] = np.add.reduceat(together, starts, axis=1, dtype=np.int64) * (np.diff(bounds) > 0)
        return found


@dataclass(frozen=True)
class _Unit:
    """Blocks that stay together, and the span of places, in blocks, where they were put."""

    blocks: tuple[int, int]
    places: tuple[int, int]


def _placed_within(
    placed: Sequence[_Unit], cuts: Sequence[int], needed: _Needed, owned: NDArray[np.int64]
) -> list[_Unit]:
    """Split units at the first blocks of a level's parts, and place what each consists of in its span."""
    pieces = [_split(unit.blocks, cuts) for unit in placed]
    shared = needed.shared([piece for own in pieces for piece in own], owned)
    found = []
    at = 0
    for unit, own in zip(placed, pieces, strict=True):
        spans = _split(unit.places, cuts)
        # As many places as pieces: the unit that was there before may be split otherwise.
        spans = (spans + [spans[-1]] * len(own))[: len(own)]
        parts = [bisect_right(cuts, first) - 1 for first, _ in spans]
        chosen = best_places(shared[at : at + len(own), parts])
        found += [_Unit(own[piece], span) for piece, span in zip(chosen, spans, strict=True)]
        at += len(own)
    return found


def _split(span: tuple[int, int], cuts: Sequence[int]) -> list[tuple[int, int]]:
    first, last = span
    inside = cuts[bisect_right(cuts, first) : bisect_left(cuts, last)]
    return list(pairwise([first, *inside, last]))


def best_places(shared: NDArray[np.int64]) -> list[int]:
    """Put parts where they share most.

    Parameters
    ----------
    shared : (parts, places)
        Needed rows of each part that are in each place.

    Returns
    -------
    (places,) the part in each
    """
    if len(shared) == 1:
        return [0]
    if len(shared) == 2:
        swapped = shared[0, 1] + shared[1, 0] > shared[0, 0] + shared[1, 1]
        return [1, 0] if swapped else [0, 1]
    part, place = linear_sum_assignment(shared, maximize=True)
    found: list[int] = part[np.argsort(place)].tolist()
    return found
