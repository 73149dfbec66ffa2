"""A batch of samples in memory, by feature, and the checks that every format shares."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.errors import BatchError
from lamella.inputs.sparse import SparseRows, from_entries, ordered, repeated
from lamella.plan import Range

MAX_SAMPLES = 2**24
MAX_BYTES = 2**31
MOST = "2 GiB"
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Batch:
    """Samples of one run.

    Attributes
    ----------
    matrix
        Features x samples, float32, each row's samples ascending, no zeros stored, all finite.
    first
        The number that the file's own counting gives to the first sample (and feature): 1 for Graph
        Challenge, 0 for all others.
    ids
        What the file calls each sample, where it has a column for it.
    """

    matrix: SparseRows
    first: int
    ids: tuple[str, ...] | None = None

    @property
    def features(self) -> int:
        return self.matrix.shape[0]

    @property
    def samples(self) -> int:
        return self.matrix.shape[1]

    def nonzero(self) -> NDArray[np.int64]:
        """How many features of each sample are not zero."""
        return self.matrix.column_counts()

    def reorder(self, numbers: NDArray[np.unsignedinteger]) -> None:
        """Put the samples into another order, in place: an input may fill a function's memory.

        ``ids`` stay in the file's order.

        Parameters
        ----------
        numbers : (samples,)
            Which sample comes to each position; each of them once.
        """
        positions = np.empty(self.samples, np.int32)
        positions[numbers] = np.arange(self.samples, dtype=np.int32)
        self.matrix.renumber_columns(positions)

    def block(self, rows: NDArray[np.int64] | None, samples: Range) -> Activations:
        """The part of the batch that some features and some samples make, without what is zero in all of it.

        Parameters
        ----------
        rows
            Features, in the order wanted; None for all.
        samples
            ``[start, stop)``, from 0.
        """
        start, stop = samples
        part = self.matrix.between(start, stop, rows)
        seen = np.zeros(stop - start, bool)
        seen[part.columns - start] = True
        column = np.cumsum(seen) - 1
        values = np.zeros((part.shape[0], int(seen.sum())), np.float32)
        values[part.rows, column[part.columns - start]] = part.values
        return Activations(np.flatnonzero(seen) + start, values)


def entry_block(
    samples: NDArray[np.integer],
    features: NDArray[np.integer],
    values: NDArray[np.generic],
    width: int,
    first: int,
    name: str,
) -> SparseRows:
    """Some entries of a batch of ``width`` features, for `join`.

    Parameters
    ----------
    samples, features, values
        Of each entry; indices count from 0.
    first
        As of `Batch`.

    Raises
    ------
    BatchError
        If two entries are the same sample and feature, or a value isn't a finite float32.
    """
    data = _float32(values)
    wrong = np.flatnonzero(~np.isfinite(data))
    if len(wrong):
        at = wrong[0]
        raise _not_finite(values[at], int(samples[at]) + first, int(features[at]) + first, name)
    block = from_entries(features, samples, data, (width, int(samples.max(initial=-1)) + 1))
    if repeated(block):
        raise _repeated(*_first_repeated(samples, features, width), first, name)
    return block


def dense_blocks(values: NDArray[np.generic], name: str) -> list[SparseRows]:
    """All of a samples x features array, for `join`.

    Raises
    ------
    BatchError
        If a value isn't a finite float32.
    """
    step = max(1, _BLOCK_VALUES // values.shape[1])
    return [dense_block(values[start : start + step], start, name) for start in range(0, len(values), step)]


def dense_block(values: NDArray[np.generic], start: int, name: str) -> SparseRows:
    """Some of it: samples from ``start`` on.

    Raises
    ------
    BatchError
        If a value isn't a finite float32.
    """
    data = _float32(values)
    if not np.isfinite(data).all():
        sample, feature = np.argwhere(~np.isfinite(data))[0].tolist()
        raise _not_finite(values[sample, feature], start + sample, feature, name)
    features, samples = np.nonzero(data.T)
    shape = (data.shape[1], start + len(data))
    return from_entries(features, samples + start, data[samples, features], shape)


def join(blocks: list[SparseRows], samples: int, first: int, name: str) -> Batch:
    """A batch of ``samples`` samples from blocks of its entries, which are taken from the list.

    Only the blocks that are left and the result are held at any time: inputs may fill a function's memory.

    Raises
    ------
    BatchError
        If two entries are the same sample and feature.
    """
    width = blocks[0].shape[0]
    starts = np.zeros(width + 1, np.int64)
    for block in blocks:
        starts += block.starts
    count = int(starts[-1])
    numbers, data = np.empty(count, np.int32), np.empty(count, np.float32)
    filled = starts[:-1].copy()
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        held = np.diff(block.starts)
        places = np.repeat(filled - block.starts[:-1], held) + np.arange(block.nnz)
        numbers[places] = block.columns
        data[places] = block.values
        filled += held
    matrix = ordered(SparseRows((width, samples), starts, numbers, data))
    if again := repeated(matrix):
        feature, sample = again
        raise _repeated(sample, feature, first, name)
    return Batch(matrix.chosen(matrix.values != 0), first)


def _float32(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rounded to the nearest float32; what is too large becomes infinity."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _not_finite(value: object, sample: int, feature: int, name: str) -> BatchError:
    number = float(str(value))
    what = "is too large for float32" if np.isfinite(number) else "is not a finite number"
    return BatchError(
        f"{name}: sample {sample:,}, feature {feature:,}: {number:g} {what}: clean or scale the input"
    )


def _repeated(sample: int, feature: int, first: int, name: str) -> BatchError:
    return BatchError(
        f"{name} names sample {sample + first:,}, feature {feature + first:,} more than once: keep one"
    )


def check_shape(shape: tuple[int, ...], features: int, samples: int | None, name: str) -> tuple[int, int]:
    """The shape of a samples x features array, if it fits the model.

    Raises
    ------
    BatchError
        If it doesn't.
    """
    if len(shape) != 2:
        raise BatchError(f"{name} has {len(shape)} dimensions: give samples x features")
    count, width = shape
    if width != features:
        hint = ": transpose it" if count == features else ": give samples x features for this model"
        raise BatchError(f"{name} has {width:,} features a sample, the model takes {features:,}{hint}")
    check_count(count, samples, name)
    return count, width


def check_count(count: int, samples: int | None, name: str) -> None:
    """Refuse a number of samples that is none, too many, or not the one asked for.

    Raises
    ------
    BatchError
        If it is.
    """
    if count < 1:
        raise BatchError(f"{name} holds no samples: give at least one")
    if count > MAX_SAMPLES:
        raise BatchError(f"{name} holds {count:,} samples: split it, a run takes {MAX_SAMPLES:,}")
    if samples is not None and count != samples:
        raise BatchError(f"{name} holds {count:,} samples, the run was told {samples:,}: leave 'samples' out")


def reason(error: BaseException) -> str:
    """What a library said, short enough for the middle of one line."""
    lines = str(error).splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], 80, placeholder="...") or type(error).__name__


def _first_repeated(
    samples: NDArray[np.integer], features: NDArray[np.integer], width: int
) -> tuple[int, int]:
    places = samples.astype(np.int64) * width + features
    order = np.argsort(places, kind="stable")
    again = order[1:][np.diff(places[order]) == 0]
    sample, feature = divmod(int(places[again.min()]), width)
    return sample, feature
