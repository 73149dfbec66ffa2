"""Keeping rows where their inputs are, from layer to layer, for every number of workers at once.

A partitioner's order says which rows belong together. Cut into parts, they can still be put in any order:
here each goes where most of its inputs are, the parts of the layer before being placed already. Part w is
then worker w's in every layer, and what a worker reads of consecutive layers lies side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from model_prep.partition.cutting import needed_columns, part_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

# Eight parts are placed as suits eight workers best; within each, halves, their halves, and so on.
PLACED_PARTS = (8, 16, 32, 64)


class Aligner:
    """Places the parts of one layer after the other."""

    def __init__(self) -> None:
        self._places: NDArray[np.int64] | None = None

    def place(self, starts: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the next layer in their new order.

        Parameters
        ----------
        starts, columns
            Its rows in the partitioner's order; columns are stored rows of the layer before.
        """
        finest = PLACED_PARTS[-1]
        rows: NDArray[np.int64] = np.arange(len(starts) - 1)
        if self._places is not None and len(rows) >= PLACED_PARTS[0]:
            bounds = part_bounds(starts, finest)
            parts = _placed(starts, columns, bounds, self._places)
            rows = np.concatenate([rows[bounds[part] : bounds[part + 1]] for part in parts])
        new_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(np.diff(starts)[rows])])
        new_bounds = part_bounds(new_starts, finest)
        self._places = np.repeat(np.arange(finest), np.diff(new_bounds))
        return rows

    def leave(self, starts: NDArray[np.int64], band: int) -> None:
        """The next layer's rows stay in their order: of a dense one, each reads every column."""
        bounds = part_bounds(starts, PLACED_PARTS[-1], band)
        self._places = np.repeat(np.arange(PLACED_PARTS[-1]), np.diff(bounds))


def _placed(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    bounds: NDArray[np.int64],
    places: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The part for each of the finest places."""
    finest = PLACED_PARTS[-1]
    chosen: NDArray[np.int64] = np.zeros(1, np.int64)
    for count in PLACED_PARTS:
        needed = needed_columns(starts, columns, bounds[:: finest // count], len(places))
        owned = places * count // finest
        shared = np.array([np.bincount(owned[wanted], minlength=count) for wanted in needed])
        chosen = _within(chosen, shared)
    return chosen


def _within(chosen: NDArray[np.int64], shared: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place the children of parts that are placed, each in its parent's place.

    Parameters
    ----------
    chosen : (parents,)
        The part in each place.
    shared : (children, children)
        Inputs of each child that lie in each place.
    """
    each = len(shared) // len(chosen)
    children: Sequence[NDArray[np.int64]] = [
        part * each + best_places(shared[part * each : (part + 1) * each, place * each : (place + 1) * each])
        for place, part in enumerate(chosen.tolist())
    ]
    return np.concatenate(children)


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
