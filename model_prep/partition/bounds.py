"""Where a layer's rows, in their stored order, are cut into parts: evenly, or where it costs least.

Even parts may cut through rows that read the same columns, and both sides then need all of those. Within the
balance that is allowed there is room to move each bound: the bounds that cost fewest columns, over all parts
together, are found by dynamic programming over a few candidates for each bound. Where even parts cut no equal
rows apart they stay: what could be saved would not be worth the balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The heaviest part over the mean, where whole rows allow it.
BALANCE = 1.05
# Places considered for one bound.
MAX_CANDIDATES = 64
# Entries looked at in one layer: beyond this, those of a sample of the columns.
MAX_ENTRIES = 2_000_000


def part_bounds(starts: NDArray[np.int64], parts: int, band: int = 1) -> NDArray[np.int64]:
    """Split rows into contiguous parts of as equal weight as whole rows, or whole bands of rows, allow.

    Parameters
    ----------
    starts : (rows + 1,)
        Where each row's entries begin; a row without entries counts for little, not for nothing.
    parts
        How many; none is empty if there are as many rows, or bands.

    Returns
    -------
    (parts + 1,) bounds
    """
    rows = len(starts) - 1
    if band > 1:
        firsts = np.append(np.arange(0, rows, band), rows)
        among_bands: NDArray[np.int64] = firsts[part_bounds(starts[firsts], parts)]
        return among_bands
    # Entries weigh so much more that empty rows only break ties.
    load = starts * (rows + 1) + np.arange(rows + 1)
    ideal = load[-1] * (np.arange(1, parts) / parts)
    above = np.searchsorted(load, ideal)
    below = np.maximum(above - 1, 0)
    nearest = np.where(ideal - load[below] < load[above] - ideal, below, above)
    bounds = np.concatenate([[0], nearest, [rows]])
    if rows < parts:
        return np.maximum.accumulate(bounds)
    steps = np.arange(parts + 1)
    bounds = np.maximum.accumulate(np.maximum(bounds, steps) - steps) + steps
    spread: NDArray[np.int64] = np.minimum(bounds, rows - parts + steps)
    return spread


def row_keys(starts: NDArray[Any], columns: NDArray[Any], width: int) -> NDArray[np.uint64]:
    """A number for each row, the same for rows that read the same columns.

    Sums of random 64-bit numbers, one for each column: rows that differ and collide are none of an
    exact result's, only of an order's or a bound's.
    """
    tokens = np.random.default_rng(0).integers(0, 2**64, width, dtype=np.uint64)
    sums = np.zeros(len(columns) + 1, np.uint64)
    np.cumsum(tokens[columns], out=sums[1:])
    keys: NDArray[np.uint64] = sums[starts[1:]] - sums[starts[:-1]]
    return keys


@dataclass(frozen=True)
class Runs:
    """Rows in stored order, those that follow each other and read the same columns taken together.

    Attributes
    ----------
    firsts : (runs + 1,)
        The first row of each; last, the number of rows.
    starts : (rows + 1,)
        Where each row's entries begin: its weight.
    entry_starts, columns
        The columns that each run's rows read, as a matrix of runs.
    width
        How many columns there are.
    """

    firsts: NDArray[np.int64]
    starts: NDArray[np.int64]
    entry_starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    width: int

    @classmethod
    def of(
        cls,
        starts: NDArray[np.int64],
        columns: NDArray[np.int64],
        width: int,
        keys: NDArray[np.uint64] | None = None,
    ) -> Runs:
        """Find the runs; ``keys`` are the rows' (`row_keys`), if known: by whatever names of the columns."""
        rows = len(starts) - 1
        if keys is None:
            keys = row_keys(starts, columns, width)
        firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        begins, lengths = starts[firsts], starts[firsts + 1] - starts[firsts]
        entry_starts = np.concatenate([[0], np.cumsum(lengths)])
        taken = np.arange(entry_starts[-1]) + np.repeat(begins - entry_starts[:-1], lengths)
        return cls(np.append(firsts, rows), starts, entry_starts, columns[taken], width)

    def cut_by(self, bounds: NDArray[np.int64]) -> bool:
        """Whether any of the bounds separates rows that read the same columns."""
        return bool((self.firsts[np.searchsorted(self.firsts, bounds)] != bounds).any())


def cheapest_bounds(
    runs: Runs,
    parts: int,
    owned: NDArray[np.int64] | None = None,
    hints: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The bounds whose parts need fewest columns of others, within the balance.

    Even ones, unless those cut rows apart that read the same columns. No part weighs more than `BALANCE` of
    the mean, or than the heaviest of even parts if whole rows allow no better. Of equally cheap bounds those
    nearest to even ones.

    Parameters
    ----------
    runs
        The rows.
    owned : (parts + 1,)
        The columns that part w has anyway are ``owned[w]`` to ``owned[w + 1]``; None: no part has any.
    hints : (parts + 1,)
        Bounds to consider among others.

    Returns
    -------
    (parts + 1,) bounds
    """
    even = part_bounds(runs.starts, parts)
    rows, weight = len(runs.starts) - 1, int(runs.starts[-1])
    if rows <= parts or not weight or not runs.cut_by(even):
        return even
    limit = _heaviest_allowed(runs.starts, parts, even)
    places = _candidates(runs, parts, even, limit, hints)
    costs = _needed(runs, places, owned)
    # A place may stand several times in its list: an empty part is not allowed, there are rows enough.
    load = runs.starts[places]
    forbidden = (places[1:, None, :] <= places[:-1, :, None]) | (
        load[1:, None, :] - load[:-1, :, None] > limit
    )
    off_even = np.abs(load - runs.starts[even][:, None]) / (weight * (parts + 1.0))
    costs = np.where(forbidden, np.inf, costs + off_even[1:, None, :])
    return _shortest(places, costs, even)


def _heaviest_allowed(starts: NDArray[np.int64], parts: int, even: NDArray[np.int64]) -> float:
    """What the heaviest part may weigh."""
    limit = BALANCE * float(starts[-1]) / parts
    heaviest = float(np.diff(starts[even]).max())
    if heaviest <= limit:
        return limit
    at, rows = 0, len(starts) - 1
    for _ in range(parts):
        at = int(np.searchsorted(starts, starts[at] + limit, side="right")) - 1
    return limit if at >= rows else heaviest


def _candidates(
    runs: Runs, parts: int, even: NDArray[np.int64], limit: float, hints: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Places for each bound, ascending; the last stands repeatedly where there are fewer than for others."""
    starts, rows = runs.starts, len(runs.starts) - 1
    mean = float(starts[-1]) / parts
    steps = np.arange(parts + 1)
    least = np.maximum(starts[-1] - (parts - steps) * limit, steps * mean - mean / 2)
    most = np.minimum(steps * limit, steps * mean + mean / 2)
    low = np.maximum(np.minimum(np.searchsorted(starts, least), even), steps)
    high = np.maximum(np.searchsorted(starts, most, side="right") - 1, even)
    high = np.minimum(high, rows - parts + steps)
    found = []
    for step in range(1, parts):
        first, last = int(low[step]), int(high[step])
        own = [int(even[step])] if hints is None else [int(even[step]), int(hints[step])]
        others: NDArray[np.int64] = np.arange(first, last + 1)
        if len(others) > MAX_CANDIDATES:
            half = MAX_CANDIDATES // 2
            a, b = np.searchsorted(runs.firsts, [first, last + 1])
            others = np.concatenate(
                [_spread(runs.firsts[a:b], half), np.linspace(first, last, half).astype(np.int64)]
            )
        found.append(np.unique(np.concatenate([others, own])))
    longest = max(map(len, found), default=1)
    places = np.zeros((parts + 1, longest), np.int64)
    places[-1] = rows
    for step, choice in enumerate(found, 1):
        places[step] = choice[-1]
        places[step, : len(choice)] = choice
    return places


def _spread(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the values, evenly."""
    if len(values) <= most:
        return values
    chosen: NDArray[np.int64] = values[np.linspace(0, len(values) - 1, most).astype(np.int64)]
    return chosen


def _needed(runs: Runs, places: NDArray[np.int64], owned: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Columns that each part needs of others, for every choice of its two bounds.

    Returns
    -------
    (parts, candidates, candidates): from the one bound to the next
    """
    parts, count = len(places) - 1, places.shape[1]
    run_of, columns, share = _sampled(runs)
    begins, ends = runs.firsts[run_of], runs.firsts[run_of + 1]
    # The end of the run before that read the same column: parts that begin behind it count the column here.
    by_column = np.argsort(columns, kind="stable")
    same = columns[by_column][1:] == columns[by_column][:-1]
    before = np.zeros(len(columns), np.int64)
    before[by_column[1:]] = np.where(same, ends[by_column[:-1]], 0)
    # Entries that concern each part: of runs that lie between its first possible place and its last.
    first = np.searchsorted(ends, places[:-1, 0], side="right")
    last = np.maximum(np.searchsorted(begins, places[1:, -1]), first)
    lengths = last - first
    part = np.repeat(np.arange(parts), lengths)
    entry = np.arange(len(part)) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
    if owned is not None:
        column = columns[entry]
        foreign = (column < owned[part]) | (column >= owned[part + 1])
        part, entry = part[foreign], entry[foreign]
    # Bounds of all parts in one ascending list: those of each in a span of their own.
    span = len(runs.starts) + 1
    keys = (places + np.arange(parts + 1)[:, None] * span).ravel()
    own, following = part * span, (part + 1) * span
    behind = np.searchsorted(keys, own + before[entry]) - part * count
    past = np.searchsorted(keys, own + ends[entry]) - part * count
    reached = np.searchsorted(keys, following + begins[entry], side="right") - (part + 1) * count
    # Counted for begins in [behind, past) and ends from reached on.
    side = count + 1
    cell = part * side * side + reached
    size = parts * side * side
    changes = np.bincount(cell + np.minimum(behind, count) * side, minlength=size)
    changes -= np.bincount(cell + np.minimum(past, count) * side, minlength=size)
    needed = changes.reshape(parts, side, side).cumsum(axis=1).cumsum(axis=2)
    return needed[:, :count, :count] / share


def _sampled(runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """The run and the column of each entry, or of those of some columns, and the share that those are."""
    run_of = np.repeat(np.arange(len(runs.firsts) - 1), np.diff(runs.entry_starts))
    if len(run_of) <= MAX_ENTRIES:
        return run_of, runs.columns, 1.0
    share = MAX_ENTRIES / len(run_of)
    kept = (np.random.default_rng(0).random(runs.width) < share)[runs.columns]
    return run_of[kept], runs.columns[kept], share


def _shortest(
    places: NDArray[np.int64], costs: NDArray[np.float64], even: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The cheapest way through the places; the even bounds if there is none."""
    so_far = np.full(places.shape[1], np.inf)
    so_far[0] = 0.0
    came_from = []
    for cost in costs:
        through = so_far[:, None] + cost
        came_from.append(through.argmin(axis=0))
        so_far = through.min(axis=0)
    if not np.isfinite(so_far[0]):
        return even
    chosen = [0]
    for back in reversed(came_from):
        chosen.append(int(back[chosen[-1]]))
    found: NDArray[np.int64] = places[np.arange(len(places)), chosen[::-1]]
    return found
