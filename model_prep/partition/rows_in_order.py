"""The rows of a model's layers in the order in which they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_prep.encode import Rows, stored_rows
from model_prep.partition.alignment import Aligner

if TYPE_CHECKING:
    from model_prep.partition import Partitioner
    from model_prep.source import Weight


class RowsInOrder:
    """Takes one layer after the other: a layer's columns are rows of the one before, in its stored order."""

    def __init__(self, partitioner: Partitioner) -> None:
        self._partitioner = partitioner
        self._aligner = Aligner() if partitioner.aligned else None
        self._positions: NDArray[np.int64] | None = None
        self._layers = 0

    def of_dense(self, starts: NDArray[np.int64], band: int) -> NDArray[np.int64] | None:
        """The next layer, a dense one, whose rows are stored in the source's order.

        Returns
        -------
        (columns,)
            Stored row of the layer before for each of its rows in the source; None where they are the same.
        """
        positions = self._positions
        if self._aligner:
            self._aligner.leave(starts, band)
        self._layers += 1
        self._positions = None
        same = positions is None or bool((positions == np.arange(len(positions))).all())
        return None if same else positions

    def of(self, weight: Weight) -> tuple[NDArray[np.int64], Rows]:
        """The next layer: the source's row at each stored place, and the rows."""
        order = self._partitioner.order(weight, self._layers)
        rows = stored_rows(weight, order, self._positions)
        if self._aligner:
            order = order[self._aligner.place(rows.starts, rows.columns)]
            rows = stored_rows(weight, order, self._positions)
        self._layers += 1
        self._positions = np.argsort(order)
        return order, rows
