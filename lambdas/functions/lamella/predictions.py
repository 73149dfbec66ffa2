"""From workers' parts to what a run leaves for its user, a few samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.dealing import Dealing
from lamella.errors import ModelError
from lamella.files import Files
from lamella.kernel.curves import softmax
from lamella.manifest import DTYPES, Layer
from lamella.part_stream import PartStream
from lamella.parts import BLOCK_BYTES
from lamella.plan import Range
from lamella.records import Share
from lamella.tensors import head

CSV_HEADER = b"sample,argmax,score,nonzero\n"


@dataclass(frozen=True)
class SampleBlock:
    """Some samples, whole.

    Attributes
    ----------
    samples
        The input's, ``[start, stop)``.
    live : (samples,) bool
        False for those that no worker has: they are zero.
    values : (samples, outputs) float32
        Outputs in the source's order.
    """

    samples: Range
    live: NDArray[np.bool_]
    values: NDArray[np.float32]


def source_rows(model: Files, last: Layer) -> NDArray[np.int64]:
    """The source's row of each stored row of the last layer.

    Raises
    ------
    ModelError
        If they are not each of the layer's rows once.
    """
    if last.order is None:
        return np.arange(last.rows)
    start, stop = last.order.span(0, last.order.length)
    data = model.read(last.order.file, start, stop)
    seen = np.zeros(last.rows, bool)
    if len(data) == stop - start:
        order = np.frombuffer(data, DTYPES[last.order.dtype]).astype(np.int64)
        seen[order[order < last.rows]] = True
    if not seen.all():
        raise ModelError(
            f"{model.location(last.order.file)} does not name each output once: make the model again with "
            "'lamella prep'"
        )
    return order


def step_samples(outputs: int) -> int:
    """Samples that are merged at a time: as many as are `BLOCK_BYTES`, and at least one."""
    return max(1, BLOCK_BYTES // (4 * outputs))


def sample_blocks(
    parts: PartStream,
    shares: Sequence[Share],
    dealing: Dealing,
    samples: int,
    order: NDArray[np.int64],
    *,
    softmaxed: bool,
) -> Iterator[SampleBlock]:
    """The whole output, a few samples at a time.

    Parameters
    ----------
    order
        Of the last layer's rows, as `source_rows`.
    softmaxed
        Whether the last layer ends with softmax, which only whole samples can be put through.
    """
    length = step_samples(len(order))
    for start in range(0, samples, length):
        stop = min(start + length, samples)
        values: NDArray[np.float32] = np.zeros((stop - start, len(order)), np.float32)
        live = np.zeros(stop - start, bool)
        for worker, piece in parts.pieces((start, stop)):
            rows = dealing.samples(piece.live) - start
            live[rows] = True
            values[np.ix_(rows, order[slice(*shares[worker].rows)])] = piece.values.T
        if softmaxed:
            # It leaves no sample all zero.
            live[:] = True
            values = np.ascontiguousarray(softmax(np.ascontiguousarray(values.T)).T)
        yield SampleBlock((start, stop), live, values)


def prediction_lines(block: SampleBlock, first_sample: int) -> bytes:
    """A line of predictions.csv for each sample.

    Its number (the batch's first is ``first_sample``), the output with the largest activation (the first of
    equals, from 0), that activation (after softmax, a probability), and how many outputs are not zero.
    """
    count = len(block.values)
    argmax = np.zeros(count, np.int64)
    score = np.zeros(count, np.float32)
    nonzero = np.zeros(count, np.int64)
    values = block.values if block.live.all() else block.values[block.live]
    if len(values):
        best = values.argmax(axis=1)
        argmax[block.live] = best
        score[block.live] = values[np.arange(len(values)), best]
        nonzero[block.live] = np.count_nonzero(values, axis=1)
    numbers = range(first_sample + block.samples[0], first_sample + block.samples[1])
    columns = (numbers, argmax.tolist(), score.astype(str).tolist(), nonzero.tolist())
    return "".join(
        f"{number},{best},{value},{some}\n" for number, best, value, some in zip(*columns, strict=True)
    ).encode()


def categories(block: SampleBlock) -> int:
    """How many samples have an activation that is not zero."""
    return int(np.count_nonzero(block.values[block.live].any(axis=1)))


def activations_head(samples: int, outputs: int) -> bytes:
    """What stands before the numbers: tensor ``activations``, float32, samples x outputs."""
    return head([("activations", "F32", (samples, outputs))])
