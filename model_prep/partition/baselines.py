"""Partitioners to compare with: rows as they come, and rows at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model_prep.source import Weight


def blocks_order(weight: Weight, layer: int) -> NDArray[np.int64]:  # noqa: ARG001 - a Partitioner's signature
    """The source's own order: contiguous blocks of rows."""
    return np.arange(weight.shape[0])


def random_order(weight: Weight, layer: int) -> NDArray[np.int64]:
    """A seeded shuffle, another one in every layer."""
    return np.random.default_rng([layer, weight.shape[0]]).permutation(weight.shape[0])
