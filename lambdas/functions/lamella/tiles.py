"""Where the weights of some rows of a layer are: tiles.

Each layer is cut into tiles at the bounds of all of its model's cuts, so that any part of any cut is a run of
whole tiles. A file holds a few layers: the first tiles of all of them, then the second tiles, and so on. What
a worker owns of consecutive layers is then one range of bytes; where cuts for different numbers of workers
disagree, for one of them, and a few ranges for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.errors import ModelError
from lamella.files import Files
from lamella.manifest import MOST_ROWS, Manifest, read_tensors
from lamella.plan import LayerPart

TILE_TENSORS = ("starts", "rows", "entries", "offsets")


@dataclass(frozen=True)
class Tiles:
    """Tiles of a part, in order.

    Attributes
    ----------
    rows, entries
        In each.
    begins, ends
        Their bytes in the layer's file.
    """

    rows: list[int]
    entries: list[int]
    begins: list[int]
    ends: list[int]


@dataclass(frozen=True)
class TileMap:
    """All tiles of a model.

    Attributes
    ----------
    starts : (layers + 1,)
        Layer k has the tiles ``starts[k]`` to ``starts[k + 1]``.
    row_bounds, entry_bounds : (tiles + 1,)
        Sums of the rows, and entries, of the tiles before, of all layers.
    begins, ends : (tiles,)
        Bytes of each in the file of its layer.
    """

    starts: NDArray[np.int64]
    row_bounds: NDArray[np.int64]
    entry_bounds: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def of(self, part: LayerPart, where: str) -> Tiles:
        """The tiles that make up a part.

        Raises
        ------
        ModelError
            If none do.
        """
        first, last = self.starts[part.layer : part.layer + 2]
        rows = self.row_bounds[first : last + 1] - self.row_bounds[first]
        entries = self.entry_bounds[first : last + 1] - self.entry_bounds[first]
        a, b = np.searchsorted(rows, part.rows).tolist()
        inside = b < len(rows)
        if not inside or (rows[a], rows[b], entries[a], entries[b]) != (*part.rows, *part.entries):
            raise ModelError(
                f"rows {part.rows[0]} to {part.rows[1]} of layer {part.layer} of {where} are not whole "
                "tiles: prepare the model again"
            )
        tiles = slice(first + a, first + b)
        return Tiles(
            np.diff(rows[a : b + 1]).tolist(),
            np.diff(entries[a : b + 1]).tolist(),
            self.begins[tiles].tolist(),
            self.ends[tiles].tolist(),
        )


def _within(values: NDArray[np.int64], most: int) -> bool:
    return bool(((values >= 0) & (values <= most)).all())


def read_tiles(files: Files, manifest: Manifest) -> TileMap:
    """The tiles of a prepared model.

    Raises
    ------
    ModelError
        If they can't be read, or contradict the manifest.
    """
    tensors = read_tensors(files, manifest, manifest.tiles, TILE_TENSORS)
    starts, rows, entries, offsets = (tensors[name].astype(np.int64) for name in TILE_TENSORS)
    layers = manifest.layers
    count = len(rows)
    sound = (
        starts.shape == (len(layers) + 1,)
        and rows.shape == entries.shape == offsets.shape == (count,)
        and (starts[0], starts[-1]) == (0, count)
        and bool(((starts >= 0) & (starts <= count)).all() and (np.diff(starts) > 0).all())
        # So that no sum of them is too large for int64: a table has less than 2**28.
        and _within(rows, MOST_ROWS)
        and _within(entries, 2**35)
        and _within(offsets, 2**48)
        and bool((rows > 0).all())
        and bool((np.add.reduceat(rows, starts[:-1]) == [layer.rows for layer in layers]).all())
        and bool((np.add.reduceat(entries, starts[:-1]) == [layer.nnz for layer in layers]).all())
    )
    if sound:
        per_layer = np.diff(starts)
        row_bytes, entry_bytes, limits = (
            np.repeat(values, per_layer)
            for values in (
                [layer.row_bytes for layer in layers],
                [layer.entry_bytes for layer in layers],
                [manifest.files[layer.file].bytes for layer in layers],
            )
        )
        ends = offsets + rows * row_bytes + entries * entry_bytes
        sound = bool((ends <= limits).all())
    if not sound:
        where = files.location(manifest.tiles)
        raise ModelError(f"{where} does not fit its manifest: make the model again with 'lamella prep'")
    return TileMap(
        starts,
        np.concatenate([[0], np.cumsum(rows)]),
        np.concatenate([[0], np.cumsum(entries)]),
        offsets,
        ends,
    )
