"""Waves: blocks of samples go through several layers while they are in cache; survivors are packed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.kernel.blocks import (
    GROUP,
    Block,
    Piece,
    aligned,
    deal,
    even_widths,
    pack,
    padded,
    without,
)
from lamella.kernel.interface import BoundLayers, Layer
from lamella.kernel.layers import DenseWeights
from lamella.kernel.processor import Caches, Processor
from lamella.plan import Range

NARROWEST = 2 * GROUP  # narrower blocks leave the processor waiting for sums
WIDE = 256  # wider ones gain nothing
FIRST_WAVE = 4  # layers
ROW_SPLIT_WORK = 1 << 24  # products of a layer from which on sharing its rows pays for the threads' meeting

DENSE_SPLIT_WORK = 1 << 23  # the same of a dense layer

_Job = tuple[list[Piece], NDArray[np.float32]]


def forward(
    layers: Sequence[Layer],
    x: Activations,
    samples: Range,
    processor: Processor | None = None,
    observe: Callable[[int, int], None] | None = None,
) -> Activations:
    """Take activations through consecutive layers.

    Parameters
    ----------
    x
        Input of the first layer: (``layers[0].columns``, live samples).
    samples
        The samples that ``x`` stands for, dead ones included: ``[start, stop)``.
    processor
        By default, one thread of this one.
    observe
        Called now and then with how many more layers are done, and the samples that are still live.

    Returns
    -------
    Activations
        Output of the last layer, without dead samples.

    Raises
    ------
    NonFiniteActivation
        If a layer gives NaN or infinity; names the layer.
    """
    processor = processor or Processor()
    for (zeros_to_zeros, _), group in groupby(layers, _kind):
        if not zeros_to_zeros:
            x = x.with_all(samples)
        x = _through(list(group), x, processor, observe or _nobody, drop=zeros_to_zeros)
    return x.without_dead()


def _kind(layer: Layer) -> tuple[bool, bool]:
    """Layers that go through the kernel together: whether they drop dead samples, and are dense."""
    return layer.zeros_to_zeros, isinstance(layer, DenseWeights)


class _Room:
    """Memory for what waves leave: for one while the one before is read, then for the one after the next."""

    def __init__(self) -> None:
        self._next, self._last = np.empty(0, np.float32), np.empty(0, np.float32)

    def slots(self, rows: int, widths: Sequence[int]) -> list[NDArray[np.float32]]:
        """One for each block of these widths."""
        bounds = np.cumsum([0, *(rows * padded(width) for width in widths)]).tolist()
        if self._next.size < bounds[-1]:
            self._next = aligned(1, bounds[-1]).reshape(-1)
        room, self._next, self._last = self._next, self._last, self._next
        return [room[start:stop] for start, stop in pairwise(bounds)]


def _nobody(_layers: int, _live: int) -> None: ...


def _through(
    layers: list[Layer],
    x: Activations,
    processor: Processor,
    observe: Callable[[int, int], None],
    *,
    drop: bool,
) -> Activations:
    """Consecutive layers that all drop dead samples, or all keep them."""
    bound = processor.kernel.bind(layers)
    width = WIDE  # of dense layers: the more samples, the less often their weights are read
    if not isinstance(layers[0], DenseWeights):
        width = block_width(max(max(layer.rows, layer.columns) for layer in layers), processor.caches)
    blocks = [Block(x.live, x.values)] if len(x.live) else []
    room = _Room()
    done, length = 0, FIRST_WAVE if drop else len(layers)
    while done < len(layers) and blocks:
        samples = sum(block.width for block in blocks)
        if _rows_are_shared(layers[done], samples, processor):
            pieces = deal(blocks, [samples])[0]
            block = _by_rows(bound, done, layers[done], pieces, processor, drop=drop)
            blocks, done = [block] if block.width else [], done + 1
            observe(1, block.width)
            continue
        stop = wave_stop(layers, done, length, processor.caches)
        widths = even_widths(samples, width, processor.threads)
        jobs = list(zip(deal(blocks, widths), room.slots(layers[stop - 1].rows, widths), strict=True))

        def wave(job: _Job, first: int = done, stop: int = stop) -> Block:
            return bound.through(*job, first, stop, drop=drop)

        blocks = [block for block in processor.share(wave, jobs) if block.width]
        left = sum(block.width for block in blocks)
        observe(stop - done, left)
        length = _next_length(length, sum(widths), left)
        done = stop
    if done < len(layers):
        observe(len(layers) - done, 0)
    del room
    return _joined(blocks, layers[-1].rows, processor)


def block_width(rows: int, caches: Caches) -> int:
    """How many samples to take at a time: a layer's input and output then fill the L2 cache."""
    fitting = caches.l2_bytes // (2 * 4 * rows)
    return min(WIDE, max(NARROWEST, fitting // GROUP * GROUP))


def wave_stop(layers: Sequence[Layer], first: int, length: int, caches: Caches) -> int:
    """Where a wave of at most ``length`` layers ends: its weights, read for each block, stay in cache."""
    size = stop = 0
    for stop in range(first, min(first + length, len(layers))):
        size += layers[stop].bytes
        if size > caches.last_bytes // 2 and stop > first:
            return stop
    return stop + 1


def _next_length(length: int, before: int, after: int) -> int:
    """Layers of the next wave: fewer while many samples die, since those left are packed after it."""
    if after < before // 2:
        return max(1, length // 2)
    return length if after < before * 7 // 8 else 2 * length


def _rows_are_shared(layer: Layer, samples: int, processor: Processor) -> bool:
    """Whether threads share a layer's rows: its samples are too few to be shared, or its weights many."""
    if processor.threads == 1:
        return False
    if isinstance(layer, DenseWeights):
        # Reading a weight takes as long as some four products with it.
        return samples <= WIDE and layer.nnz * (samples + 4) >= DENSE_SPLIT_WORK
    groups = padded(samples) // GROUP
    few = groups < 4 * processor.threads and samples <= WIDE
    return few and layer.nnz * groups * GROUP >= ROW_SPLIT_WORK


def _by_rows(
    bound: BoundLayers,
    number: int,
    layer: Layer,
    pieces: Sequence[Piece],
    processor: Processor,
    *,
    drop: bool,
) -> Block:
    """One layer of one block, its entries shared evenly."""
    block = pack(pieces)
    out = aligned(layer.rows, block.stride)
    bounds = layer.row_shares(processor.threads)
    alive = np.logical_or.reduce(
        processor.share(lambda rows: bound.rows(number, block, out, *rows), list(pairwise(bounds)))
    )
    done = Block(block.live, out)
    return without(done, alive) if drop and not alive.all() else done


def _joined(blocks: Sequence[Block], rows: int, processor: Processor) -> Activations:
    if not blocks:
        return Activations(np.zeros(0, np.int64), np.zeros((rows, 0), np.float32))
    stops = np.cumsum([block.width for block in blocks]).tolist()
    values = np.empty((rows, stops[-1]), np.float32)

    def copy(k: int) -> None:
        values[:, stops[k] - blocks[k].width : stops[k]] = blocks[k].values[:, : blocks[k].width]

    processor.share(copy, range(len(blocks)))
    return Activations(np.concatenate([block.live for block in blocks]), values)
