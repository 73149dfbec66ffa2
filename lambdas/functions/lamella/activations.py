"""Activations of some rows of a layer, for those samples that are alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.plan import Range


@dataclass(frozen=True)
class Activations:
    """A block of activations; samples that are not ``live`` are zero in all of its rows.

    Attributes
    ----------
    live : (n,) int64
        Sample numbers, ascending.
    values : (rows, n) float32
        C-contiguous.
    """

    live: NDArray[np.int64]
    values: NDArray[np.float32]

    def select(self, samples: Range) -> Activations:
        """The samples ``[start, stop)`` of it."""
        a, b = np.searchsorted(self.live, samples)
        if a == 0 and b == len(self.live):
            return self
        return Activations(self.live[a:b], np.ascontiguousarray(self.values[:, a:b]))

    def without_dead(self) -> Activations:
        """The same without samples whose bits are zero in every row: -0 is kept."""
        alive = np.bitwise_or.reduce(self.values.view(np.uint32), axis=0) != 0
        if alive.all():
            return self
        return Activations(self.live[alive], np.ascontiguousarray(self.values[:, alive]))

    def with_all(self, samples: Range) -> Activations:
        """The same with every sample of ``[start, stop)`` in it, dead ones too."""
        everyone = np.arange(*samples)
        return self if len(everyone) == len(self.live) else stack([self], everyone)


def stack(blocks: Sequence[Activations], live: NDArray[np.int64] | None = None) -> Activations:
    """Put the rows of several blocks below each other.

    Parameters
    ----------
    live
        Samples of the result, ascending; the union of the blocks' by default.
    """
    if live is None:
        live = blocks[0].live
        for block in blocks[1:]:
            if not np.array_equal(block.live, live):
                live = np.union1d(live, block.live)
    rows = sum(len(block.values) for block in blocks)
    values = np.zeros((rows, len(live)), np.float32)
    row = 0
    for block in blocks:
        part = values[row : row + len(block.values)]
        if len(block.live) == len(live):
            part[:] = block.values
        else:
            part[:, np.searchsorted(live, block.live)] = block.values
        row += len(block.values)
    return Activations(live, values)
