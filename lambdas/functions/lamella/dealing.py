"""Which of the input's samples each worker was dealt: a run numbers its samples by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from lamella.errors import RunError
from lamella.plan import Range
from lamella.tensors import loaded


@dataclass(frozen=True)
class Dealing:
    """The input's sample at each position.

    Attributes
    ----------
    numbers : (samples,) uint32
        Ascending within each worker's positions. None where positions are the input's own order.
    """

    numbers: NDArray[np.uint32] | None = None

    def to_bytes(self) -> bytes:
        """A safetensors file, which `parse_dealing` reads; only where there are numbers."""
        assert self.numbers is not None
        return save_tensors({"numbers": self.numbers})

    def sample(self, position: int) -> int:
        """The one at a position."""
        return position if self.numbers is None else int(self.numbers[position])

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those at some positions."""
        return positions if self.numbers is None else self.numbers[positions].astype(np.int64)

    def positions(self, dealt: Range, samples: Range) -> Range:
        """Where in a worker's positions ``dealt`` the input's samples ``[start, stop)`` are."""
        start, stop = dealt
        if self.numbers is None:
            first = min(max(samples[0], start), stop)
            return first, max(min(samples[1], stop), first)
        first, last = np.searchsorted(self.numbers[start:stop], samples)
        return start + int(first), start + int(last)


def parse_dealing(data: bytes, samples: int, dealt: Sequence[Range], where: str) -> Dealing:
    """Read the tensor ``numbers`` of a safetensors file.

    Parameters
    ----------
    samples
        Of the run.
    dealt
        Each worker's positions.

    Raises
    ------
    RunError
        If it isn't each of the run's samples once, ascending for every worker.
    """
    try:
        numbers = loaded(data)["numbers"]
    except (KeyError, ValueError) as error:
        raise RunError(f"{where} is no dealing of samples: {error}") from error
    if numbers.dtype != np.uint32 or numbers.shape != (samples,):
        raise RunError(f"{where} does not deal the run's {samples:,} samples")
    seen = np.zeros(samples, bool)
    seen[numbers[numbers < samples]] = True
    own = [numbers[slice(*positions)] for positions in set(dealt)]
    ascending = all(bool((each[1:] > each[:-1]).all()) for each in own)
    if not seen.all() or not ascending:
        raise RunError(f"{where} does not deal each of the run's {samples:,} samples once, in order")
    return Dealing(numbers)
