"""The same in numpy alone, for where the compiled kernel can't be loaded: several times slower.

numpy multiplies and adds float32 elements as IEEE 754 says, each operation rounded on its own, on every
processor. So a sum taken entry by entry has the bits of the compiled kernel's. Dense layers, whose sums are
fused, take some two hundred times as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.kernel.blocks import Block, Piece, pack, shaped, without
from lamella.kernel.curves import activate
from lamella.kernel.fused import fused
from lamella.kernel.interface import Layer, not_finite
from lamella.kernel.layers import DenseWeights, LayerWeights
from lamella.numbers import as_float32


class Plain:
    """The kernel in numpy."""

    name = "numpy"

    def bind(self, layers: Sequence[Layer]) -> PlainLayers:
        """The layers as they are."""
        return PlainLayers(layers)


class PlainLayers:
    """Layers, multiplied by numpy."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def through(
        self, pieces: Sequence[Piece], out: NDArray[np.float32], first: int, stop: int, *, drop: bool
    ) -> Block:
        block = pack(pieces)
        for layer in self._layers[first:stop]:
            y = _forward(layer, 0, layer.rows, block.values)
            alive = _alive(layer, y[:, : block.width])
            block = Block(block.live, y)
            if drop and not alive.all():
                block = without(block, alive)
        values = shaped(out, *block.values.shape)
        values[:] = block.values
        return Block(block.live, values)

    def rows(
        self, number: int, block: Block, out: NDArray[np.float32], first: int, stop: int
    ) -> NDArray[np.bool_]:
        layer = self._layers[number]
        out[first:stop] = _forward(layer, first, stop, block.values)
        return _alive(layer, out[first:stop, : block.width])


def _forward(layer: Layer, first: int, stop: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if isinstance(layer, DenseWeights):
            y = _dense_sums(layer, first, stop, x)
        else:
            y = _sums(layer, first, stop, x)
        bias = layer.bias[first:stop, None] if isinstance(layer.bias, np.ndarray) else layer.bias
        if layer.bias_on_nonzero:
            np.add(y, bias, out=y, where=y != 0)
        else:
            y += bias
    y = activate(layer.activation, layer.slope, y)
    if layer.lo is not None:
        np.maximum(y, layer.lo, out=y)
    if layer.hi is not None:
        np.minimum(y, layer.hi, out=y)
    y += np.float32(0)  # no activation is -0
    return y


def _sums(layer: LayerWeights, first: int, stop: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row's products, added in stored order: the first of every row, then the second, and so on."""
    starts, stops = layer.starts[first:stop], layer.starts[first + 1 : stop + 1]
    lengths = stops - starts
    order = np.argsort(-lengths, kind="stable")  # so that rows which have a k-th entry are the first so many
    having = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)), side="left")
    starts = starts[order]
    sums = np.zeros((len(lengths), x.shape[1]), np.float32)
    products = np.empty_like(sums)
    for k, rows in enumerate(having.tolist()):
        entries = starts[:rows] + k
        part = products[:rows]
        np.take(x, layer.indices[entries], axis=0, out=part, mode="clip")
        part *= layer.values[entries, None]
        sums[:rows] += part
    if (order[1:] > order[:-1]).all():
        return sums
    ordered = products
    ordered[order] = sums
    return ordered


def _dense_sums(layer: DenseWeights, first: int, stop: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Column after column."""
    sums: NDArray[np.float32] = np.zeros((stop - first, x.shape[1]), np.float32)
    for k, weights in enumerate(_dense_columns(layer)[:, first:stop]):
        sums = fused(weights[:, None], x[k if layer.positions is None else layer.positions[k]], sums)
    return sums


def _dense_columns(layer: DenseWeights) -> NDArray[np.float32]:
    """The weights, inputs x rows."""
    values, inputs = as_float32(layer.values), layer.inputs
    whole = layer.rows // layer.band * layer.band
    bands = values[: whole * inputs].reshape(-1, inputs, layer.band).transpose(1, 0, 2)
    last = values[whole * inputs :].reshape(inputs, layer.rows - whole)
    return np.concatenate([bands.reshape(inputs, whole), last], axis=1)


def _alive(layer: Layer, y: NDArray[np.float32]) -> NDArray[np.bool_]:
    if not np.isfinite(y).all():
        raise not_finite(layer)
    return np.asarray(y.any(axis=0))
