"""Portions made into tasks of steps, with what workers receive and send between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.cut import Cut
from lamella.manifest import Manifest
from lamella.plan import LayerPart, Link, Range, Step, Task
from lamella.strategies.portions import Portion, even_ranges

# Between steps a worker looks whether its run still goes on, and says how far it is.
LAYERS_PER_STEP = 8

# What passes to or from a worker at a layer that it is an input of.
_Links = Mapping[tuple[int, int], Sequence[Link]]


def build(
    manifest: Manifest, cut: Cut | None, portions: Sequence[Portion], micro_batches: int = 1
) -> list[Task]:
    """A task for each portion; its worker's number is the portion's.

    Before a layer, a worker receives what it lacks of the layer before, from those that own it for the same
    samples. Micro-batches are consecutive samples of each portion.

    Parameters
    ----------
    cut
        The one whose parts the portions name.
    """
    receive: defaultdict[tuple[int, int], list[Link]] = defaultdict(list)
    send: defaultdict[tuple[int, int], list[Link]] = defaultdict(list)
    owners = {
        (layer, portion.part, portion.samples): worker
        for worker, portion in enumerate(portions)
        for layer in range(*portion.layers)
    }
    for worker, portion in enumerate(portions):
        for layer in range(*portion.layers):
            for part, rows in _lacking(manifest, cut, portion, layer):
                owner = owners[layer - 1, part, portion.samples]
                receive[layer, worker].append(Link(owner, rows))
                send[layer, owner].append(Link(worker, rows))
    return [
        Task(
            worker,
            portion.samples,
            _features(cut, portion),
            tuple(_steps(manifest, cut, worker, portion, micro_batches, receive, send)),
            _output(manifest, cut, portion),
        )
        for worker, portion in enumerate(portions)
    ]


def _lacking(
    manifest: Manifest, cut: Cut | None, portion: Portion, layer: int
) -> Sequence[tuple[int | None, NDArray[np.int64]]]:
    """Rows of the layer before that a portion does not own, by the part that does; features are not sent."""
    if layer == 0:
        return []
    if portion.part is not None:
        assert cut is not None
        # A cut says what comes from others, not which of a worker's own rows it needs.
        assert portion.layers[0] == 0
        return cut.halo.get((layer, portion.part), [])
    if layer == portion.layers[0]:
        return [(None, np.arange(manifest.layers[layer].columns))]
    return []


def _features(cut: Cut | None, portion: Portion) -> NDArray[np.int64] | None:
    if portion.layers[0]:
        return np.zeros(0, np.int64)
    if portion.part is None:
        return None
    assert cut is not None
    needed = [rows for _, rows in cut.halo.get((0, portion.part), [])]
    return needed[0] if needed else np.zeros(0, np.int64)


def _output(manifest: Manifest, cut: Cut | None, portion: Portion) -> Range:
    last = len(manifest.layers) - 1
    return _layer_part(manifest, cut, portion, last).rows if portion.layers[1] > last else (0, 0)


def _layer_part(manifest: Manifest, cut: Cut | None, portion: Portion, k: int) -> LayerPart:
    if portion.part is None:
        layer = manifest.layers[k]
        return LayerPart(k, (0, layer.rows), (0, layer.nnz), layer.sha256)
    assert cut is not None
    return LayerPart(k, cut.rows(k, portion.part), cut.entries(k, portion.part), cut.digest(k, portion.part))


def _steps(
    manifest: Manifest,
    cut: Cut | None,
    worker: int,
    portion: Portion,
    micro_batches: int,
    receive: _Links,
    send: _Links,
) -> Iterator[Step]:
    """Layers that need nothing from others go together.

    A worker of a pipeline takes one micro-batch after the other through its block, since the next worker
    waits for its end. All others go layer by layer, and so need few layers' weights at a time: of those that
    send in between, one micro-batch is computed while the other's rows are on their way.
    """
    start, stop = portion.samples
    samples = [(start + a, start + b) for a, b in even_ranges(stop - start, micro_batches)]
    groups = list(_together(worker, portion, receive, send))
    in_pipeline = portion.part is None and portion.layers != (0, len(manifest.layers))
    if in_pipeline:
        order = [(group, each) for each in samples for group in groups]
    else:
        order = [(group, each) for group in groups for each in samples]
    parts = {k: _layer_part(manifest, cut, portion, k) for k in range(*portion.layers)}
    for (first, after), each in order:
        yield Step(
            tuple(parts[k] for k in range(first, after)),
            each,
            tuple(receive.get((first, worker), ())),
            tuple(send.get((after, worker), ())),
        )


def _together(worker: int, portion: Portion, receive: _Links, send: _Links) -> Iterator[Range]:
    """A portion's layers by step."""
    first, stop = portion.layers
    for k in range(first + 1, stop):
        if (k, worker) in receive or (k, worker) in send or k - first == LAYERS_PER_STEP:
            yield first, k
            first = k
    yield first, stop
