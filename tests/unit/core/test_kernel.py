"""The kernel against a plain loop, bit for bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.errors import NonFiniteActivation
from lamella.kernel import LayerWeights, forward, waves


def layer_of(weight: NDArray[np.float32], number: int = 0, **settings: object) -> LayerWeights:
    rows, columns = np.nonzero(weight)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(weight)))])
    given: dict[str, object] = {
        "bias": np.float32(0),
        "bias_on_nonzero": False,
        "relu": True,
        "lo": None,
        "hi": None,
        "zeros_to_zeros": True,
    } | settings
    return LayerWeights(
        number=number,
        columns=weight.shape[1],
        starts=starts.astype(np.int32),
        indices=columns.astype(np.int32),
        values=weight[rows, columns],
        **given,  # type: ignore[arg-type]
    )


def plain(layer: LayerWeights, x: NDArray[np.float32]) -> NDArray[np.float32]:
    y = np.zeros((layer.rows, x.shape[1]), np.float32)
    for row in range(layer.rows):
        for sample in range(x.shape[1]):
            total = np.float32(0)
            for entry in range(layer.starts[row], layer.starts[row + 1]):
                total = np.float32(total + np.float32(layer.values[entry] * x[layer.indices[entry], sample]))
            bias = layer.bias[row] if isinstance(layer.bias, np.ndarray) else layer.bias
            if not layer.bias_on_nonzero or total != 0:
                total = np.float32(total + bias)
            total = max(total, np.float32(0)) if layer.relu else total
            total = max(total, layer.lo) if layer.lo is not None else total
            y[row, sample] = min(total, layer.hi) if layer.hi is not None else total
    return y


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[LayerWeights], NDArray[np.float32]]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.lists(st.integers(1, 7), min_size=2, max_size=6))
    layers = []
    for number, (columns, rows) in enumerate(pairwise(widths)):
        weight = random.normal(size=(rows, columns)).astype(np.float32)
        weight[random.random(weight.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0
        sign = draw(st.sampled_from([-1, 0, 1]))
        bias = (
            np.abs(random.normal(size=rows)).astype(np.float32) * np.float32(sign)
            if draw(st.booleans())
            else np.float32(sign * 0.3)
        )
        on_nonzero, relu = draw(st.booleans()), draw(st.booleans())
        layers.append(
            layer_of(
                weight,
                number,
                bias=bias,
                bias_on_nonzero=on_nonzero,
                relu=relu,
                lo=draw(st.sampled_from([None, np.float32(-1)])),
                hi=draw(st.sampled_from([None, np.float32(1.5)])),
                zeros_to_zeros=on_nonzero or not sign or (relu and sign < 0),
            )
        )
    x = random.normal(size=(widths[0], draw(st.integers(1, 9)))).astype(np.float32)
    x[:, random.random(x.shape[1]) < 0.4] = 0
    return layers, x


@given(networks(), st.sampled_from([1, 3, 256]), st.sampled_from([1, 2, 4]))
def test_equal_to_a_plain_loop_whatever_the_blocks_and_waves(
    case: tuple[list[LayerWeights], NDArray[np.float32]], block: int, wave: int
) -> None:
    layers, x = case
    expected = x
    for layer in layers:
        expected = plain(layer, expected)
    live = np.flatnonzero(x.any(axis=0))
    inputs = Activations(live + 100, np.ascontiguousarray(x[:, live]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "BLOCK_SAMPLES", block)
        patch.setattr(waves, "WAVE_LAYERS", wave)
        got = forward(layers, inputs, (100, 100 + x.shape[1]))
    dense = np.zeros_like(expected)
    dense[:, got.live - 100] = got.values
    assert dense.tobytes() == (expected + np.float32(0)).tobytes()


def test_a_sample_that_died_stays_out() -> None:
    weight = np.eye(3, dtype=np.float32)
    x = np.array([[1, 0.1], [1, 0.1], [1, 0.1]], np.float32)
    got = forward([layer_of(weight, bias=np.float32(-0.5))] * 9, Activations(np.array([4, 7]), x), (0, 10))
    assert got.live.tolist() == []
    assert got.values.shape == (3, 0)


def test_overflow_names_the_layer() -> None:
    big = layer_of(np.full((2, 2), 3e38, np.float32), number=17)
    with pytest.raises(NonFiniteActivation, match="layer 17 "):
        forward([big], Activations(np.arange(1), np.ones((2, 1), np.float32)), (0, 1))


def test_nan_is_found_where_relu_could_hide_it() -> None:
    weight = np.array([[3e38, -3e38], [3e38, 3e38]], np.float32)
    infinite = layer_of(weight, number=3, relu=False)
    with pytest.raises(NonFiniteActivation, match="layer 3 "):
        forward([infinite], Activations(np.arange(1), np.full((2, 1), 2, np.float32)), (0, 1))
