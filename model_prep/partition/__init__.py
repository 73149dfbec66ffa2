"""Who owns which row under the strategy ``rows``: partitioners by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamella.errors import PlanError
from model_prep.partition.alignment import levels_for
from model_prep.partition.baselines import blocks_order, random_order
from model_prep.partition.hypergraph import hypergraph_parts
from model_prep.partition.overlap import overlap_order

if TYPE_CHECKING:
    from model_prep.source import Weight


# What a run has unless it asks for another number.
USUAL_WORKERS = 8


@dataclass(frozen=True)
class Partitioner:
    """How rows are ordered, and given to workers.

    Attributes
    ----------
    order
        (weights, number of the layer) to an order of its rows; each worker owns a contiguous part of them.
    parts
        Instead, (weights, workers) to the part of each row, for one number of workers.
    aligned
        Whether parts are put where most of their inputs are (`model_prep.partition.alignment`), and
        cut where that costs least (`model_prep.partition.bounds`) unless they are given.
    """

    name: str
    order: Callable[[Weight, int], NDArray[np.int64]] | None = None
    parts: Callable[[Weight, int], NDArray[np.int64]] | None = None
    aligned: bool = False

    def levels(self, named: Sequence[int]) -> tuple[int, ...]:
        """The numbers of workers that an order is made for; () if for none in particular.

        Raises
        ------
        PlanError
            If it can't be made for so many.
        """
        if not self.aligned:
            return ()
        if self.parts is None:
            return levels_for(named)
        if len(set(named)) > 1:
            raise PlanError(f"{self.name} partitions for one number of workers: give --workers once")
        return (named[0] if named else USUAL_WORKERS,)

    @property
    def movable_bounds(self) -> bool:
        """Whether parts may be cut where that costs least."""
        return self.aligned and self.parts is None

    def arrange(
        self, weight: Weight, layer: int, levels: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """An order of a layer's rows; and, where parts are given for the last level, their bounds."""
        if self.order is not None:
            return self.order(weight, layer), None
        assert self.parts is not None
        part = self.parts(weight, levels[-1])
        sizes = np.bincount(part, minlength=levels[-1])
        return np.argsort(part, kind="stable"), np.concatenate([[0], np.cumsum(sizes)])


PARTITIONERS = {
    partitioner.name: partitioner
    for partitioner in (
        Partitioner("overlap", order=overlap_order, aligned=True),
        Partitioner("hypergraph", parts=hypergraph_parts, aligned=True),
        Partitioner("blocks", order=blocks_order),
        Partitioner("random", order=random_order),
    )
}


def partitioner_named(name: str) -> Partitioner:
    """A partitioner by its name.

    Raises
    ------
    PlanError
        If there is none; suggests the nearest.
    """
    if name not in PARTITIONERS:
        near = difflib.get_close_matches(name, PARTITIONERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PlanError(f"unknown partitioner {name!r}: {hint}choose one of {', '.join(PARTITIONERS)}")
    return PARTITIONERS[name]
