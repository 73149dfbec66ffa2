"""How fast this machine multiplies and encodes, by one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.codec import decode, encode
from lamella.kernel import DenseWeights, Layer, LayerWeights, Processor, forward

NEURONS, ROW_ENTRIES, LAYERS, SAMPLES = 1024, 32, 8, 512
DENSE_NEURONS = 512
ROUNDS = 5
_BAND = 8  # rows, as lamella prep stores dense layers
_NONZERO = 0.5  # of what is encoded: about what is left of a sum by ReLU


@dataclass(frozen=True)
class KernelMeasured:
    """Products a second, by the kind of layer, and what a layer takes besides."""

    sparse_per_s: float
    dense_per_s: float
    layer_s: float


@dataclass(frozen=True)
class CodecMeasured:
    """Bytes of activations a second, and those written for each, of values that are all different."""

    encode_bytes_per_s: float
    decode_bytes_per_s: float
    cell_bytes: float


def measure_kernel() -> KernelMeasured:
    """Layers of the official network's shape, and dense ones; in a second or so."""
    random = np.random.default_rng(0)
    sparse = [_sparse_layer(k, random) for k in range(LAYERS)]
    dense = [_dense_layer(k, random) for k in range(LAYERS)]
    with Processor(1) as processor:
        many, one = _block(NEURONS, SAMPLES, random), _block(NEURONS, 1, random)
        layer_s = _median_s(lambda: forward(sparse, one, (0, 1), processor)) / LAYERS
        sparse_s = _median_s(lambda: forward(sparse, many, (0, SAMPLES), processor))
        wide = _block(DENSE_NEURONS, SAMPLES, random)
        dense_s = _median_s(lambda: forward(dense, wide, (0, SAMPLES), processor))
    return KernelMeasured(
        NEURONS * ROW_ENTRIES * LAYERS * SAMPLES / sparse_s,
        DENSE_NEURONS**2 * LAYERS * SAMPLES / dense_s,
        layer_s,
    )


def measure_codec() -> CodecMeasured:
    """A letter of half a million activations; in a second or so."""
    random = np.random.default_rng(0)
    values = random.random((NEURONS, SAMPLES), np.float32)
    values[random.random(values.shape) > _NONZERO] = 0
    block = Activations(np.arange(SAMPLES), values)
    letter = encode(block, (0, SAMPLES))
    encode_s = _median_s(lambda: encode(block, (0, SAMPLES)))
    decode_s = _median_s(lambda: decode(letter, NEURONS, (0, SAMPLES)))
    return CodecMeasured(values.nbytes / encode_s, values.nbytes / decode_s, len(letter) / values.size)


def _median_s(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began_s)
    return median(taken)


def _block(rows: int, samples: int, random: np.random.Generator) -> Activations:
    return Activations(np.arange(samples), random.random((rows, samples), np.float32))


def _sparse_layer(number: int, random: np.random.Generator) -> Layer:
    columns = np.sort(random.integers(0, NEURONS, (NEURONS, ROW_ENTRIES), np.int32), axis=1)
    return LayerWeights(
        number=number,
        columns=NEURONS,
        starts=(np.arange(NEURONS + 1) * ROW_ENTRIES).astype(np.int32),
        indices=np.ascontiguousarray(columns.reshape(-1)),
        values=_small(NEURONS * ROW_ENTRIES, ROW_ENTRIES, random),
        bias=np.float32(0.1),
        bias_on_nonzero=False,
        activation="relu",
        slope=np.float32(0),
        lo=None,
        hi=None,
        zeros_to_zeros=False,
    )


def _small(count: int, fan_in: int, random: np.random.Generator) -> NDArray[np.float32]:
    return (random.random(count, np.float32) / np.float32(fan_in)).astype(np.float32)


def _dense_layer(number: int, random: np.random.Generator) -> Layer:
    return DenseWeights(
        number=number,
        columns=DENSE_NEURONS,
        rows=DENSE_NEURONS,
        inputs=DENSE_NEURONS,
        values=_small(DENSE_NEURONS**2, DENSE_NEURONS, random),
        band=_BAND,
        positions=None,
        bias=np.float32(0.1),
        bias_on_nonzero=False,
        activation="relu",
        slope=np.float32(0),
        lo=None,
        hi=None,
        zeros_to_zeros=False,
    )
