"""Cutting a model for P workers, layer by layer: parts, their owners, and who sends which rows to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_prep.encode import narrow

if TYPE_CHECKING:
    from collections.abc import Callable


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


def needed_columns(
    starts: NDArray[np.int64], columns: NDArray[np.int64] | None, bounds: NDArray[np.int64], width: int
) -> list[NDArray[Any]]:
    """The columns, ascending, that each part of the rows reads; in the narrowest type.

    Where ``columns`` is None every row reads every column.
    """
    needed = []
    if columns is None:
        everything = narrow(np.arange(width), width - 1)
        return [everything if last > first else everything[:0] for first, last in pairwise(bounds)]
    for first, last in zip(starts[bounds[:-1]], starts[bounds[1:]], strict=True):
        read = np.zeros(width, bool)
        read[columns[first:last]] = True
        needed.append(narrow(np.flatnonzero(read), width - 1))
    return needed


@dataclass
class Cutter:
    """Builds the cut for one number of workers while the layers pass by.

    Attributes
    ----------
    workers
        P.
    halo_rows
        Rows sent so far between different workers.
    pairs
        Links so far between different workers.
    """

    workers: int
    halo_rows: int = 0
    pairs: int = 0
    _row_bounds: list[NDArray[np.int64]] = field(default_factory=list)
    _entry_bounds: list[NDArray[np.int64]] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    _links: list[NDArray[np.int64]] = field(default_factory=list)
    _link_lengths: list[NDArray[np.int64]] = field(default_factory=list)
    _link_rows: list[NDArray[Any]] = field(default_factory=list)

    def add(
        self,
        starts: NDArray[np.int64],
        columns: NDArray[np.int64] | None,
        width: int,
        digest: Callable[[int, int], bytes],
        band: int = 1,
    ) -> None:
        """Cut the next layer.

        Parameters
        ----------
        starts, columns
            Its rows in stored order; columns are stored rows of the layer before, and None of a
            dense layer.
        width
            How many columns there are.
        digest
            Gives the sha256 of the rows ``[start, stop)``.
        band
            Rows that must stay together.
        """
        layer = len(self._row_bounds)
        bounds = part_bounds(starts, self.workers, band)
        needed = needed_columns(starts, columns, bounds, width)
        if layer:
            self._connect(layer, needed)
        else:
            self._keep_links([(0, worker, worker) for worker in range(self.workers)], needed)
        self._row_bounds.append(bounds)
        self._entry_bounds.append(starts[bounds])
        self._digests.extend(digest(int(a), int(b)) for a, b in pairwise(bounds))

    def _connect(self, layer: int, needed: list[NDArray[Any]]) -> None:
        # Needs ascend and parts are contiguous: where each part before begins in each part's needs.
        splits = [np.searchsorted(rows, self._row_bounds[-1]).tolist() for rows in needed]
        links, sent = [], []
        for receiver, (rows, begins) in enumerate(zip(needed, splits, strict=True)):
            for sender, (first, last) in enumerate(pairwise(begins)):
                if sender != receiver and first < last:
                    links.append((layer, receiver, sender))
                    sent.append(rows[first:last])
        self._keep_links(links, sent)
        self.pairs += len(links)
        self.halo_rows += sum(len(rows) for rows in sent)

    def _keep_links(self, links: list[tuple[int, int, int]], rows: list[NDArray[Any]]) -> None:
        """A layer's, as three arrays: there are thousands, and a Python object takes more than most hold."""
        self._links.append(np.array(links, np.int64).reshape(-1, 3))
        self._link_lengths.append(np.array([len(numbers) for numbers in rows], np.int64))
        self._link_rows.extend([np.concatenate(rows)] if rows else [])

    @property
    def largest_share(self) -> float:
        """Weights of the worker that has most, over the mean."""
        load = np.diff(np.array(self._entry_bounds), axis=1).sum(axis=0)
        return float(load.max() / load.mean()) if load.any() else 1.0

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays of `lamella.cut.Cut`, in the narrowest types."""
        row_bounds, entry_bounds = np.array(self._row_bounds), np.array(self._entry_bounds)
        layers = len(row_bounds)
        links = np.concatenate(self._links)
        lengths = np.concatenate(self._link_lengths)
        rows = np.concatenate(self._link_rows)
        digests = np.frombuffer(b"".join(self._digests), np.uint8).reshape(layers, self.workers, 32)
        return {
            "row_bounds": narrow(row_bounds, int(row_bounds.max())),
            "entry_bounds": narrow(entry_bounds, int(entry_bounds.max())),
            "digests": digests,
            "links": narrow(links, int(links.max())),
            "link_lengths": narrow(lengths, int(lengths.max(initial=0))),
            "link_rows": narrow(rows, int(rows.max(initial=0))),
        }


@dataclass
class BlocksHalo:
    """Counts the halo that contiguous blocks of the source's rows would have, to compare with."""

    workers: int
    rows: int = 0
    _bounds: NDArray[np.int64] | None = None

    def add(
        self, starts: NDArray[np.int64], columns: NDArray[np.int64] | None, width: int, band: int = 1
    ) -> None:
        """Count the next layer, its rows and columns in the source's order."""
        bounds = part_bounds(starts, self.workers, band)
        if self._bounds is not None:
            for part, rows in enumerate(needed_columns(starts, columns, bounds, width)):
                first, last = np.searchsorted(rows, self._bounds[part : part + 2])
                self.rows += len(rows) - int(last - first)
        self._bounds = bounds
