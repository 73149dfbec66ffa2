"""Keeping rows where their inputs are, from layer to layer.

A partitioner's order says which rows belong together. Cut into parts, they can still be put in any order:
here each goes where most of its inputs are, the parts of the layer before being placed already. Part w is
then worker w's in every layer, and what a worker reads of consecutive layers lies side by side.

One order serves every number of workers, but best those it is made for: its levels. Parts of the first level
are placed as suits that number of workers; within each, the parts of the next, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from model_prep.partition.cutting import needed_columns

DEFAULT_LEVELS = (8, 16, 32, 64)
# An assignment of n parts takes n^2 memory, and n^3 time at worst.
MAX_PLACED = 1024


def levels_for(named: Sequence[int]) -> tuple[int, ...]:
    """The numbers of workers to make an order for: those that are named, and what fits in between without harm.

    Parts of the largest are halved on, as far as the default goes: that costs the named ones nothing.
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
    placed = [_Unit((0, count), (0, count))]
    for level in levels:
        firsts = (np.arange(level + 1) * count + level // 2) // level
        placed = _placed_within(placed, firsts, starts, columns, blocks, before[level])
    return [block for unit in placed for block in range(*unit.blocks)]


class _Unit:
    """Blocks that stay together, and the span of places, in blocks, where they were put."""

    def __init__(self, blocks: tuple[int, int], places: tuple[int, int]) -> None:
        self.blocks = blocks
        self.places = places


def _placed_within(
    placed: list[_Unit],
    firsts: NDArray[np.int64],
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    blocks: NDArray[np.int64],
    owned: NDArray[np.int64],
) -> list[_Unit]:
    """Split units at the first blocks of a level's parts, and place what each consists of in its span."""
    cuts = firsts.tolist()
    pieces = [_split(unit.blocks, cuts) for unit in placed]
    width = int(owned[-1])
    flat = [piece for own in pieces for piece in own]
    needed = [needed_columns(starts, columns, blocks[list(piece)], width)[0] for piece in flat]
    shared = np.array([np.diff(np.searchsorted(rows, owned)) for rows in needed])
    found = []
    at = 0
    for unit, own in zip(placed, pieces, strict=True):
        spans = _split(unit.places, cuts)
        # As many places as pieces: spans of other units may be split otherwise.
        spans = (spans + [spans[-1]] * len(own))[: len(own)]
        parts = [int(np.searchsorted(firsts, first, side="right")) - 1 for first, _ in spans]
        chosen = best_places(shared[at : at + len(own)][:, parts])
        found += [_Unit(own[piece], span) for piece, span in zip(chosen.tolist(), spans, strict=True)]
        at += len(own)
    return found


def _split(span: tuple[int, int], cuts: Sequence[int]) -> list[tuple[int, int]]:
    first, last = span
    return list(pairwise([first, *(cut for cut in cuts if first < cut < last), last]))


def best_places(shared: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put parts where they share most.

    Parameters
    ----------
    shared : (parts, places)
        Needed rows of each part that are in each place.

    Returns
    -------
    (places,) the part in each
    """
    part, place = linear_sum_assignment(shared, maximize=True)
    found = np.empty(len(place), np.int64)
    found[place] = part
    return found
