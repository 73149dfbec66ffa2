"""Waves on scipy: a block of samples goes through several layers while it is in cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

# scipy's y += A x for a block of columns: it walks a row's entries in stored order, one rounded product and
# one rounded sum at a time, and is several times as fast as the public A @ x, which allocates per call.
from scipy.sparse._sparsetools import csr_matvecs

from lamella.activations import Activations
from lamella.errors import NonFiniteActivation
from lamella.plan import Range

BLOCK_SAMPLES = 256
WAVE_LAYERS = 4


@dataclass(frozen=True)
class LayerWeights:
    """Rows of one layer, ready to be multiplied.

    Attributes
    ----------
    number
        The layer's, for messages.
    columns
        Rows that the input block must have.
    starts : (rows + 1,) int32
    indices : (nnz,) int32
        Row of the input block that each entry multiplies.
    values : (nnz,) float32
    bias
        One float32, or one per row.
    """

    number: int
    columns: int
    starts: NDArray[np.int32]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bias: np.float32 | NDArray[np.float32]
    bias_on_nonzero: bool
    relu: bool
    lo: np.float32 | None
    hi: np.float32 | None
    zeros_to_zeros: bool

    @property
    def rows(self) -> int:
        return len(self.starts) - 1


def forward(layers: Sequence[LayerWeights], x: Activations, samples: Range) -> Activations:
    """Take activations through consecutive layers.

    Parameters
    ----------
    x
        Input of the first layer: (``layers[0].columns``, live samples).
    samples
        The samples that ``x`` stands for, dead ones included: ``[start, stop)``.

    Returns
    -------
    Activations
        Output of the last layer, without dead samples.

    Raises
    ------
    NonFiniteActivation
        If a layer gives NaN or infinity; names the layer.
    """
    for zeros_to_zeros, group in groupby(layers, lambda layer: layer.zeros_to_zeros):
        if not zeros_to_zeros:
            x = x.with_all(samples)
        for wave in _in_turns(list(group), WAVE_LAYERS):
            x = _wave(wave, x, drop=zeros_to_zeros)
    return x.without_dead()


def _in_turns(layers: list[LayerWeights], length: int) -> Iterator[list[LayerWeights]]:
    for start in range(0, len(layers), length):
        yield layers[start : start + length]


def _wave(layers: list[LayerWeights], x: Activations, *, drop: bool) -> Activations:
    blocks = []
    for start in range(0, len(x.live), BLOCK_SAMPLES):
        stop = start + BLOCK_SAMPLES
        live, values = x.live[start:stop], np.ascontiguousarray(x.values[:, start:stop])
        for layer in layers:
            values, alive = _multiply(layer, values)
            if drop and not alive.all():
                live, values = live[alive], np.ascontiguousarray(values[:, alive])
            if not len(live):
                break
        if len(live):
            blocks.append(Activations(live, values))
    if not blocks:
        return Activations(np.zeros(0, np.int64), np.zeros((layers[-1].rows, 0), np.float32))
    live = np.concatenate([block.live for block in blocks])
    return Activations(live, np.concatenate([block.values for block in blocks], axis=1))


def _multiply(layer: LayerWeights, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One layer of one block, and which of its samples are alive after it."""
    y = np.zeros((layer.rows, x.shape[1]), np.float32)
    csr_matvecs(
        layer.rows, layer.columns, x.shape[1], layer.starts, layer.indices, layer.values, x.ravel(), y.ravel()
    )
    bias = layer.bias[:, None] if isinstance(layer.bias, np.ndarray) else layer.bias
    # Where relu follows, a bias <= 0 leaves zeros at zero whether it is added to them or not.
    if layer.bias_on_nonzero and not (layer.relu and np.all(bias <= 0)):
        np.add(y, bias, out=y, where=y != 0)
    elif np.any(bias):
        y += bias
    if layer.relu:
        np.maximum(y, np.float32(0), out=y)
    if layer.lo is not None:
        np.maximum(y, layer.lo, out=y)
    if layer.hi is not None:
        np.minimum(y, layer.hi, out=y)
    if layer.relu and (layer.lo is None or layer.lo >= 0):
        top = y.max(axis=0, initial=0)
        finite, alive = np.isfinite(top).all(), top > 0
    else:
        finite, alive = np.isfinite(y).all(), y.any(axis=0)
    if not finite:
        raise NonFiniteActivation(
            f"layer {layer.number} gives NaN or infinity: check the model's weights and the input's scale"
        )
    return y, alive
