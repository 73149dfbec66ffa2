"""A cut of a prepared model: which rows of every layer each of so many workers computes, and who sends which.

Row numbers are positions in the stored order of a layer, as `lamella.manifest` explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from lamella.files import Files
from lamella.manifest import MOST_ROWS, Manifest, read_tensors

CUT_TENSORS = ("row_bounds", "entry_bounds", "digests", "links", "link_lengths", "link_rows")


@dataclass(frozen=True)
class Cut:
    """One partition of a model for P workers under the strategy ``rows``.

    The stored rows of each layer are split into P contiguous parts, and worker w owns part w of each.

    Attributes
    ----------
    row_bounds : (layers, P + 1)
        Part w of layer k is the rows ``row_bounds[k, w]`` to ``row_bounds[k, w + 1]``.
    entry_bounds : (layers, P + 1)
        The same bounds in entries.
    digests : (layers, P, 32) uint8
        sha256 of each part of each layer: of its tiles, as `Layer.sha256` is taken.
    links : (n, 3)
        (layer, receiver, sender), ascending: to compute that layer the receiver needs rows of the layer
        before from the sender, another worker. For the first layer receiver and sender are the same, and the
        rows are features.
    link_starts : (n + 1,)
        Where each link's rows begin in ``link_rows``.
    link_rows
        Row numbers, ascending within a link.
    """

    row_bounds: NDArray[np.int64]
    entry_bounds: NDArray[np.int64]
    digests: NDArray[np.uint8]
    links: NDArray[np.int64]
    link_starts: NDArray[np.int64]
    link_rows: NDArray[np.int64]

    @property
    def workers(self) -> int:
        """P."""
        return self.row_bounds.shape[1] - 1

    def rows(self, layer: int, worker: int) -> tuple[int, int]:
        """Stored rows ``[start, stop)`` of a layer that a worker owns."""
        return int(self.row_bounds[layer, worker]), int(self.row_bounds[layer, worker + 1])

    def entries(self, layer: int, worker: int) -> tuple[int, int]:
        """Stored entries ``[start, stop)`` of those rows."""
        return int(self.entry_bounds[layer, worker]), int(self.entry_bounds[layer, worker + 1])

    def digest(self, layer: int, worker: int) -> str:
        """sha256 of the bytes of those rows, in hexadecimal."""
        return bytes(self.digests[layer, worker]).hex()

    @cached_property
    def halo(self) -> dict[tuple[int, int], list[tuple[int, NDArray[np.int64]]]]:
        """By (layer, receiver): the senders and the rows that each sends."""
        found: dict[tuple[int, int], list[tuple[int, NDArray[np.int64]]]] = {}
        for i, (layer, receiver, sender) in enumerate(self.links.tolist()):
            rows = self.link_rows[self.link_starts[i] : self.link_starts[i + 1]]
            found.setdefault((layer, receiver), []).append((sender, rows))
        return found


def read_cut(files: Files, manifest: Manifest, workers: int) -> Cut:
    """The cut for ``workers`` parts.

    Raises
    ------
    ModelError
        If the model has none, or it contradicts the manifest.
    """
    path = manifest.cuts.get(workers)
    if path is None:
        have = ", ".join(str(p) for p in sorted(manifest.cuts)) or "none"
        raise ModelError(
            f"{files.location()} has no cut for {workers} workers (it has: {have}): "
            f"run 'lamella prep' with --workers {workers}, or ask for one of those"
        )
    tensors = read_tensors(files, manifest, path, CUT_TENSORS)
    digests = tensors.pop("digests")
    # Whatever does not fit is refused below; what int64 can't hold has become negative, and doesn't.
    whole = {name: tensor.astype(np.int64) for name, tensor in tensors.items()}
    lengths = whole.pop("link_lengths")
    cut: Cut | None = None
    if lengths.ndim == 1 and bool((lengths >= 0).all() and (lengths <= MOST_ROWS).all()):
        cut = Cut(digests=digests, link_starts=np.concatenate([[0], np.cumsum(lengths)]), **whole)
    if cut is None or not _fits(cut, manifest, workers):
        where = files.location(path)
        raise ModelError(f"{where} does not fit its manifest: make the model again with 'lamella prep'")
    return cut


def _fits(cut: Cut, manifest: Manifest, workers: int) -> bool:
    """Whether a cut is one of the manifest's model: nothing in it leads anywhere else."""
    layers = len(manifest.layers)
    rows = np.array([layer.rows for layer in manifest.layers])
    nnz = np.array([layer.nnz for layer in manifest.layers])
    bands = np.array([layer.band for layer in manifest.layers])
    n = len(cut.links)
    return (
        cut.row_bounds.shape == cut.entry_bounds.shape == (layers, workers + 1)
        and cut.digests.shape == (layers, workers, 32)
        and cut.digests.dtype == np.uint8
        and cut.links.shape == (n, 3)
        and cut.link_starts.shape == (n + 1,)
        and cut.link_rows.ndim == 1
        and cut.link_starts[-1] == len(cut.link_rows)
        and _are_bounds(cut.row_bounds, rows)
        and _are_bounds(cut.entry_bounds, nnz)
        and bool(((cut.row_bounds % bands[:, None] == 0) | (cut.row_bounds == rows[:, None])).all())
        and bool((cut.links >= 0).all() and (cut.links < [layers, workers, workers]).all())
        and _are_links(cut, manifest.features)
    )


def _are_bounds(bounds: NDArray[np.int64], last: NDArray[np.int64]) -> bool:
    """Whether each layer's ascend from 0 to its last. Between these, no difference is too large for int64."""
    within = (bounds >= 0) & (bounds <= last[:, None])
    ascending = np.diff(bounds, axis=1) >= 0 if within.all() else within
    return bool(ascending.all() and (bounds[:, 0] == 0).all() and (bounds[:, -1] == last).all())


def _are_links(cut: Cut, features: int) -> bool:
    """Whether each is there once, and names ascending rows of its sender's."""
    if not len(cut.links):
        return not len(cut.link_rows)
    layer, receiver, sender = cut.links.T
    own = layer == 0
    order = np.lexsort((sender, receiver, layer))
    once = len(np.unique(cut.links, axis=0)) == len(cut.links)
    if not once or (order != np.arange(len(order))).any() or ((receiver == sender) != own).any():
        return False
    before = np.maximum(layer - 1, 0)
    first = np.where(own, 0, cut.row_bounds[before, sender])
    stop = np.where(own, features, cut.row_bounds[before, sender + 1])
    falls = np.flatnonzero(cut.link_rows[1:] <= cut.link_rows[:-1]) + 1
    if not np.isin(falls, cut.link_starts).all():
        return False
    # They ascend, so each link's first and last row tell of all.
    some = np.diff(cut.link_starts) > 0
    lowest, highest = cut.link_rows[cut.link_starts[:-1][some]], cut.link_rows[cut.link_starts[1:][some] - 1]
    return bool((lowest >= first[some]).all() and (highest < stop[some]).all())
