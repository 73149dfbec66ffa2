"""The rows of a model's layers in the order in which they are stored, and where each cut cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from model_prep.encode import Rows, stored_rows
from model_prep.partition.alignment import place
from model_prep.partition.bounds import Runs, cheapest_bounds, part_bounds, row_keys

if TYPE_CHECKING:
    from model_prep.partition import Partitioner
    from model_prep.source import Weight

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class StoredOrder:
    """One layer's rows as they are stored.

    Attributes
    ----------
    order
        The source's row at each place.
    rows
        Those rows; columns are stored rows of the layer before.
    bounds
        By number of workers: where each one's part begins.
    """

    order: NDArray[np.int64]
    rows: Rows
    bounds: dict[int, NDArray[np.int64]]


class RowsInOrder:
    """Takes one layer after the other: a layer's columns are rows of the one before, in its stored order.

    Parameters
    ----------
    partitioner
        Who orders them.
    cuts
        Numbers of workers to cut for.
    named
        Those of them that the order is made for; none: for the usual ones.
    """

    def __init__(self, partitioner: Partitioner, cuts: Sequence[int], named: Sequence[int] = ()) -> None:
        self._partitioner = partitioner
        self._levels = partitioner.levels(named)
        self._cuts = sorted({*cuts, *self._levels})
        self._positions: NDArray[np.int64] | None = None
        self._before: dict[int, NDArray[np.int64]] | None = None
        self._layers = 0

    def of_dense(
        self, starts: NDArray[np.int64], band: int
    ) -> tuple[NDArray[np.int64] | None, dict[int, NDArray[np.int64]]]:
        """The next layer, a dense one, whose rows are stored in the source's order.

        Returns
        -------
        (columns,)
            Stored row of the layer before for each of its rows in the source; None where they are the same.
        bounds
            As in `StoredOrder`.
        """
        positions = self._positions
        self._layers += 1
        self._positions = None
        self._before = {p: part_bounds(starts, p, band) for p in self._cuts}
        same = positions is None or bool((positions == np.arange(len(positions))).all())
        return None if same else positions, self._before

    def of(self, weight: Weight) -> StoredOrder:
        """The next layer."""
        width = weight.shape[1]
        order, blocks = self._partitioner.arrange(weight, self._layers, self._levels)
        rows = stored_rows(weight, order, self._positions)
        keys = row_keys(weight.indptr, weight.indices, width) if self._partitioner.movable_bounds else None
        if self._before is not None and self._levels and len(order) >= self._levels[0]:
            if blocks is None and keys is not None:
                runs = Runs.of(rows.starts, rows.columns, width, keys[order])
                blocks = cheapest_bounds(runs, self._levels[-1])
            assert blocks is not None
            placed = place(rows.starts, rows.columns, blocks, self._levels, self._before)
            order = _moved(order, blocks, placed)
            rows = _moved_rows(rows, blocks, placed)
            blocks = np.concatenate([[0], np.cumsum(np.diff(blocks)[placed])])
        if keys is not None:
            bounds = self._cheapest(Runs.of(rows.starts, rows.columns, width, keys[order]), blocks)
        else:
            bounds = {p: part_bounds(rows.starts, p) for p in self._cuts}
            if blocks is not None:
                bounds[self._levels[-1]] = blocks
        self._layers += 1
        self._positions = np.argsort(order)
        self._before = bounds
        return StoredOrder(order, rows, bounds)

    def _cheapest(self, runs: Runs, blocks: NDArray[np.int64] | None) -> dict[int, NDArray[np.int64]]:
        """Where each cut cuts the rows: parts of the last level perhaps where they were placed as blocks."""
        before = self._before or {}
        return {
            p: cheapest_bounds(runs, p, before.get(p), blocks if p == self._levels[-1] else None)
            for p in self._cuts
        }


def _moved(values: NDArray[Scalar], bounds: NDArray[np.int64], placed: Sequence[int]) -> NDArray[Scalar]:
    """The blocks between bounds in another order."""
    return np.concatenate([values[bounds[block] : bounds[block + 1]] for block in placed])


def _moved_rows(rows: Rows, blocks: NDArray[np.int64], placed: Sequence[int]) -> Rows:
    lengths = _moved(np.diff(rows.starts), blocks, placed)
    entries = rows.starts[blocks]
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]),
        _moved(rows.columns, entries, placed),
        _moved(rows.values, entries, placed),
    )
