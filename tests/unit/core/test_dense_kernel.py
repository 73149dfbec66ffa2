"""Dense layers in the kernel against a plain loop, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.errors import NonFiniteActivation
from lamella.kernel import DenseWeights, Processor, forward, waves
from lamella.kernel.blocks import GROUP
from lamella.kernel.choice import available, choose_kernel
from lamella.kernel.curves import NUMBERS, activate
from lamella.kernel.fused import fused
from lamella.numbers import as_bfloat16, as_float32
from model_prep.dense import banded

KERNELS = available()


def stored(weight: NDArray[np.float32], kind: str) -> NDArray[np.generic]:
    with np.errstate(over="ignore", under="ignore"):
        if kind == "float16":
            return weight.astype(np.float16)
    return as_bfloat16(weight) if kind == "bfloat16" else weight


def dense_layer(weight: NDArray[np.generic], band: int = 8, **fields: object) -> DenseWeights:
    given: dict[str, object] = {
        "number": 0,
        "columns": weight.shape[1],
        "positions": None,
        "bias": np.float32(0),
        "bias_on_nonzero": False,
        "activation": "identity",
        "lo": None,
        "hi": None,
        "zeros_to_zeros": False,
    } | fields
    return DenseWeights(
        rows=weight.shape[0],
        inputs=weight.shape[1],
        values=banded(weight, band),
        band=band,
        **given,  # type: ignore[arg-type]
    )


def plain(layer: DenseWeights, weight: NDArray[np.generic], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs x samples: a row's products added in the order of its columns, each sum rounded once."""
    sums: NDArray[np.float32] = np.zeros((layer.rows, x.shape[1]), np.float32)
    single = as_float32(weight)
    for k in range(layer.inputs):
        sums = fused(single[:, [k]], x[k if layer.positions is None else layer.positions[k]], sums)
    bias = layer.bias[:, None] if isinstance(layer.bias, np.ndarray) else layer.bias
    sums = np.where(sums != 0, sums + bias, sums) if layer.bias_on_nonzero else sums + bias
    y = activate(layer.activation, layer.slope, sums)
    y = y if layer.lo is None else np.maximum(y, layer.lo)
    y = y if layer.hi is None else np.minimum(y, layer.hi)
    return y + np.float32(0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[DenseWeights, NDArray[np.generic], NDArray[np.float32]]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, inputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    scale = np.float32(draw(st.sampled_from([1, 1, 1e-3, 1e-21])))
    weight = stored(random.standard_normal((rows, inputs)).astype(np.float32) * scale, draw(KINDS))
    spare = draw(st.integers(0, 5))
    layer = dense_layer(
        weight,
        draw(st.sampled_from([1, 8])),
        columns=inputs + spare,
        positions=random.permutation(inputs + spare)[:inputs].astype(np.int32)
        if draw(st.booleans())
        else None,
        bias=random.standard_normal(rows).astype(np.float32) if draw(st.booleans()) else np.float32(0.25),
        bias_on_nonzero=draw(st.booleans()),
        activation=draw(st.sampled_from(list(NUMBERS))),
        slope=np.float32(draw(st.sampled_from([0.01, -0.5]))),
        lo=draw(st.sampled_from([None, np.float32(-1)])),
        hi=draw(st.sampled_from([None, np.float32(1.5)])),
    )
    samples = draw(st.one_of(st.integers(1, 10), st.integers(11, 150)))
    x = random.standard_normal((inputs + spare, samples)).astype(np.float32) * scale
    x[random.random(x.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0
    return layer, weight, x


KINDS = st.sampled_from(["float32", "float16", "bfloat16"])


def run(layers: list[DenseWeights], x: NDArray[np.float32], processor: Processor) -> NDArray[np.float32]:
    """Outputs x samples, zeros where a sample is dead."""
    y = forward(layers, Activations(np.arange(x.shape[1]), x), (0, x.shape[1]), processor)
    dense = np.zeros((layers[-1].rows, x.shape[1]), np.float32)
    dense[:, y.live] = y.values
    return dense


@settings(deadline=None)
@given(
    cases(),
    st.sampled_from(KERNELS),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([GROUP, 256]),
    st.sampled_from([0, 1 << 62]),
)
def test_equal_to_a_plain_loop_whatever_the_kernel_threads_and_blocks(
    case: tuple[DenseWeights, NDArray[np.generic], NDArray[np.float32]],
    kernel: str,
    threads: int,
    block: int,
    split: int,
) -> None:
    layer, weight, x = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "WIDE", block)
        patch.setattr(waves, "DENSE_SPLIT_WORK", split)
        with Processor(threads, choose_kernel(kernel)) as processor:
            got = run([layer], x, processor)
    assert got.tobytes() == plain(layer, weight, x).tobytes()


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 300])
def test_every_width_of_a_large_layer(kind: str, samples: int) -> None:
    random = np.random.default_rng(samples)
    weight = stored(random.standard_normal((150, 700)).astype(np.float32), kind)
    layer = dense_layer(weight, positions=random.permutation(700).astype(np.int32))
    x = random.standard_normal((700, samples)).astype(np.float32)
    expected = plain(layer, weight, x).tobytes()
    for kernel in KERNELS:
        if kernel != "numpy":
            for threads in (1, 2):
                with Processor(threads, choose_kernel(kernel)) as processor:
                    assert run([layer], x, processor).tobytes() == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_few_samples_of_very_many_inputs(kernel: str) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((16, 33_000)).astype(np.float16)
    x = random.standard_normal((33_000, 2)).astype(np.float32)
    layer = dense_layer(weight)
    with Processor(1, choose_kernel(kernel)) as processor:
        assert run([layer], x, processor).tobytes() == plain(layer, weight, x).tobytes()


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_float16_numbers_are_taken_exactly(kernel: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    weight = halves[np.isfinite(halves)].reshape(-1, 1)
    with Processor(1, choose_kernel(kernel)) as processor:
        got = run([dense_layer(weight)], np.ones((1, 1), np.float32), processor)
    assert got[:, 0].tobytes() == (weight[:, 0].astype(np.float32) + np.float32(0)).tobytes()


@pytest.mark.parametrize("kernel", KERNELS)
def test_parts_of_a_layer_are_its_rows(kernel: str) -> None:
    random = np.random.default_rng(2)
    weight = random.standard_normal((45, 30)).astype(np.float32)
    x = random.standard_normal((30, 12)).astype(np.float32)
    with Processor(1, choose_kernel(kernel)) as processor:
        whole = run([dense_layer(weight)], x, processor)
        parts = [run([dense_layer(weight[a:b])], x, processor) for a, b in ((0, 8), (8, 40), (40, 45))]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("samples", [1, 20])
def test_overflow_names_the_layer(kernel: str, samples: int) -> None:
    fine = dense_layer(np.eye(9, dtype=np.float32))
    big = replace(dense_layer(np.full((9, 9), 3e38, np.float32)), number=17)
    with (
        Processor(1, choose_kernel(kernel)) as processor,
        pytest.raises(NonFiniteActivation, match="layer 17 "),
    ):
        run([fine, big, fine], np.ones((9, samples), np.float32), processor)


@pytest.mark.parametrize("kernel", KERNELS)
def test_dead_samples_are_dropped_where_zeros_stay_zeros(kernel: str) -> None:
    layer = dense_layer(np.eye(20, dtype=np.float32), activation="tanh", zeros_to_zeros=True)
    x = np.zeros((20, 40), np.float32)
    x[3, 7] = x[4, 30] = 1
    with Processor(1, choose_kernel(kernel)) as processor:
        live = np.flatnonzero(x.any(axis=0))
        y = forward([layer], Activations(live, np.ascontiguousarray(x[:, live])), (0, 40), processor)
        everyone = forward(
            [replace(layer, activation="sigmoid", zeros_to_zeros=False)], y, (0, 40), processor
        )
    assert y.live.tolist() == [7, 30]
    assert everyone.values.shape == (20, 40)
    assert everyone.values[0, 0] == 0.5
