"""A batch of samples in memory, by feature, and the checks that every format shares."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from lamella.activations import Activations
from lamella.errors import BatchError
from lamella.plan import Range

MAX_SAMPLES = 2**24
MAX_BYTES = 2**31
MOST = "2 GiB"


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
    """

    matrix: csr_array
    first: int

    @property
    def features(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def samples(self) -> int:
        return int(self.matrix.shape[1])

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
        part = self.matrix if rows is None else self.matrix[rows]
        if (start, stop) != (0, self.samples):
            part = part[:, start:stop]
        seen = np.zeros(stop - start, bool)
        seen[part.indices] = True
        column = np.cumsum(seen) - 1
        values = np.zeros((part.shape[0], int(seen.sum())), np.float32)
        row = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        values[row, column[part.indices]] = part.data
        return Activations(np.flatnonzero(seen) + start, values)


def make_batch(
    samples: NDArray[np.integer],
    features: NDArray[np.integer],
    values: NDArray[np.generic],
    shape: tuple[int, int],
    first: int,
    name: str,
) -> Batch:
    """Gather entries, whose indices count from 0 and are within ``shape`` (samples x features).

    Raises
    ------
    BatchError
        If two entries are the same sample and feature, or a value isn't a finite float32.
    """
    data = to_float32(values)
    wrong = np.flatnonzero(~np.isfinite(data))
    if len(wrong):
        at = wrong[0]
        raise not_finite(values[at], int(samples[at]) + first, int(features[at]) + first, name)
    entries = coo_array((data, (features, samples)), shape=shape[::-1])
    matrix = entries.tocsr()
    if matrix.nnz != len(data):
        sample, feature = _first_repeated(samples, features, shape[1])
        raise BatchError(
            f"{name} names sample {sample + first:,}, feature {feature + first:,} more than once: keep one"
        )
    return Batch(_canonical(matrix), first)


def make_dense_batch(values: NDArray[np.generic], name: str) -> Batch:
    """From a samples x features array.

    Raises
    ------
    BatchError
        If a value isn't a finite float32.
    """
    data = to_float32(values)
    if not np.isfinite(data).all():
        sample, feature = np.argwhere(~np.isfinite(data))[0].tolist()
        raise not_finite(values[sample, feature], sample, feature, name)
    return Batch(_canonical(csr_array(data.T)), 0)


def _canonical(matrix: csr_array) -> csr_array:
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def to_float32(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rounded to the nearest float32; what is too large becomes infinity."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def not_finite(value: object, sample: int, feature: int, name: str) -> BatchError:
    """The error for a value that no activation may have; numbers as the file counts."""
    number = float(str(value))
    what = "is too large for float32" if np.isfinite(number) else "is not a finite number"
    return BatchError(
        f"{name}: sample {sample:,}, feature {feature:,}: {number:g} {what}: clean or scale the input"
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
