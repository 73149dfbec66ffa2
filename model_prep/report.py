"""What preparing a model came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CutReport:
    """What one cut costs.

    Attributes
    ----------
    halo_rows
        Rows that workers need of each other, over all layers.
    pairs
        Links between different workers, over all layers.
    largest_share
        Weights of the worker that has most, over the mean.
    balance
        Weights of the largest part of a layer over the mean of its parts, in the worst layer.
    saved
        Share of the halo rows of contiguous blocks that this cut does without.
    bytes
        Its file.
    """

    workers: int
    halo_rows: int
    pairs: int
    largest_share: float
    balance: float
    saved: float
    bytes: int


@dataclass(frozen=True)
class PrepReport:
    """What was written.

    Attributes
    ----------
    weights
        Stored weights of all layers.
    bytes
        All files, the manifest included.
    seconds
        Wall-clock time it took.
    """

    source: str
    partitioner: str
    layers: int
    features: int
    outputs: int
    weights: int
    bytes: int
    cuts: tuple[CutReport, ...]
    seconds: float
