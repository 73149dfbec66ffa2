"""Who owns which row under the strategy ``rows``: partitioners by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamella.errors import PlanError
from model_prep.partition.baselines import blocks_order, random_order
from model_prep.partition.overlap import overlap_order

if TYPE_CHECKING:
    from model_prep.source import Weight


@dataclass(frozen=True)
class Partitioner:
    """How rows are ordered, and given to workers.

    Attributes
    ----------
    order
        (weights, number of the layer) to an order of its rows; each worker owns a contiguous part of them.
    aligned
        Whether parts are then put where most of their inputs are (`model_prep.partition.alignment`).
    """

    name: str
    order: Callable[[Weight, int], NDArray[np.int64]]
    aligned: bool


PARTITIONERS = {
    partitioner.name: partitioner
    for partitioner in (
        Partitioner("overlap", overlap_order, aligned=True),
        Partitioner("blocks", blocks_order, aligned=False),
        Partitioner("random", random_order, aligned=False),
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
