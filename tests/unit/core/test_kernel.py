"""The kernel against a plain loop, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.errors import NonFiniteActivation, RunAborted
from lamella.kernel import LayerWeights, Processor, forward, threads_for, waves
from lamella.kernel.blocks import GROUP, even_widths
from lamella.kernel.choice import available, choose_kernel
from lamella.kernel.processor import VCPU_MB, Caches, caches_here

KERNELS = available()


def layer_of(weight: NDArray[np.float32], number: int = 0, **settings: object) -> LayerWeights:
    rows, columns = np.nonzero(weight)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(weight)))])
    given: dict[str, object] = {
        "bias": np.float32(0),
        "bias_on_nonzero": False,
        "activation": "relu",
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
        for entry in range(layer.starts[row], layer.starts[row + 1]):
            y[row] = y[row] + layer.values[entry] * x[layer.indices[entry]]
        bias = layer.bias[row] if isinstance(layer.bias, np.ndarray) else layer.bias
        y[row] = y[row] + bias if not layer.bias_on_nonzero else np.where(y[row] != 0, y[row] + bias, y[row])
    y = np.maximum(y, np.float32(0)) if layer.activation == "relu" else y
    y = y if layer.lo is None else np.maximum(y, layer.lo)
    return y if layer.hi is None else np.minimum(y, layer.hi)


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[LayerWeights], NDArray[np.float32]]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.lists(st.integers(1, 20), min_size=2, max_size=7))
    # Some networks' activations are all subnormal numbers, which a processor can be told to take for zero.
    scale = np.float32(draw(st.sampled_from([1, 1, 1e-42])))
    layers = []
    for number, (columns, rows) in enumerate(pairwise(widths)):
        weight = random.normal(size=(rows, columns)).astype(np.float32)
        weight[random.random(weight.shape) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))] = 0
        weight[random.random(rows) < draw(st.sampled_from([0.0, 0.3]))] = 0
        sign = draw(st.sampled_from([-1, 0, 1]))
        bias = (
            np.abs(random.normal(size=rows)).astype(np.float32) * np.float32(sign) * scale
            if draw(st.booleans())
            else np.float32(sign * 0.3) * scale
        )
        on_nonzero, relu = draw(st.booleans()), draw(st.booleans())
        layers.append(
            layer_of(
                weight,
                number,
                bias=bias,
                bias_on_nonzero=on_nonzero,
                activation="relu" if relu else "identity",
                lo=draw(st.sampled_from([None, np.float32(-1)])),
                hi=draw(st.sampled_from([None, np.float32(1.5)])),
                zeros_to_zeros=on_nonzero or not sign or (relu and sign < 0),
            )
        )
    x = (random.normal(size=(widths[0], draw(st.integers(1, 150)))) * scale).astype(np.float32)
    x[:, random.random(x.shape[1]) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = 0
    return layers, x


def run(
    layers: list[LayerWeights], x: NDArray[np.float32], processor: Processor, layers_a_call: int = 99
) -> NDArray[np.float32]:
    """Outputs x samples, zeros where a sample died."""
    live = np.flatnonzero(x.any(axis=0))
    y = Activations(live + 100, np.ascontiguousarray(x[:, live]))
    for first in range(0, len(layers), layers_a_call):
        y = forward(layers[first : first + layers_a_call], y, (100, 100 + x.shape[1]), processor)
        assert (np.diff(y.live) > 0).all()
    dense = np.zeros((layers[-1].rows, x.shape[1]), np.float32)
    dense[:, y.live - 100] = y.values
    return dense


@settings(deadline=None)
@given(
    networks(),
    st.sampled_from(KERNELS),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([GROUP, 2 * GROUP, 9 * GROUP]),
    st.sampled_from([1, 3, 99]),
    st.booleans(),
)
def test_equal_to_a_plain_loop_whatever_the_kernel_threads_blocks_and_waves(
    case: tuple[list[LayerWeights], NDArray[np.float32]],
    kernel: str,
    threads: int,
    block: int,
    layers_a_call: int,
    share_rows: bool,
) -> None:
    layers, x = case
    expected = x
    for layer in layers:
        expected = plain(layer, expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waves, "WIDE", block)
        patch.setattr(waves, "NARROWEST", GROUP)
        patch.setattr(waves, "ROW_SPLIT_WORK", 0 if share_rows else 1 << 62)
        with Processor(threads, choose_kernel(kernel)) as processor:
            got = run(layers, x, processor, layers_a_call)
    assert got.tobytes() == (expected + np.float32(0)).tobytes()


def large() -> tuple[list[LayerWeights], NDArray[np.float32]]:
    """A network of several blocks' width, whose samples die in all of its layers."""
    random = np.random.default_rng(7)
    layers = []
    for number in range(9):
        weight = random.normal(0, 0.4, (300, 300)).astype(np.float32)
        weight[random.random(weight.shape) < 0.9] = 0
        layers.append(layer_of(weight, number, bias=np.float32(-0.8), hi=np.float32(2)))
    x = (random.random((300, 1000)) < np.linspace(0, 1, 1000)).astype(np.float32)
    return layers, x


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_all_kernels_and_threads_give_the_same_bits_of_a_large_network(kernel: str, threads: int) -> None:
    layers, x = large()
    expected = x
    for layer in layers:
        expected = plain(layer, expected)
    alive = expected.any(axis=0).sum()
    assert 0 < alive < 900
    for caches in (Caches(), Caches(1 << 16, 1 << 17)):
        with Processor(threads, choose_kernel(kernel), caches) as processor:
            assert run(layers, x, processor).tobytes() == expected.tobytes()


def test_a_sample_that_died_stays_out() -> None:
    weight = np.eye(3, dtype=np.float32)
    x = np.array([[1, 0.1], [1, 0.1], [1, 0.1]], np.float32)
    got = forward([layer_of(weight, bias=np.float32(-0.5))] * 9, Activations(np.array([4, 7]), x), (0, 10))
    assert got.live.tolist() == []
    assert got.values.shape == (3, 0)


@pytest.mark.parametrize("kernel", KERNELS)
class TestNonFinite:
    def error_of(self, layers: list[LayerWeights], x: NDArray[np.float32], kernel: str) -> str:
        with pytest.raises(NonFiniteActivation) as caught:
            run(layers, x, Processor(kernel=choose_kernel(kernel)))
        return str(caught.value)

    def test_overflow_names_the_layer(self, kernel: str) -> None:
        fine, big = layer_of(np.eye(2, dtype=np.float32)), layer_of(np.full((2, 2), 3e38, np.float32), 17)
        assert "layer 17 " in self.error_of([fine, big, fine], np.ones((2, 40), np.float32), kernel)

    @pytest.mark.parametrize("activation", ["relu", "identity"])
    def test_nan_is_found_where_relu_or_a_clip_could_hide_it(self, kernel: str, activation: str) -> None:
        huge = layer_of(np.full((2, 2), 3e38, np.float32))
        fine = layer_of(np.array([[1, -1], [1, 1]], np.float32), 3, activation=activation, hi=np.float32(32))
        x = np.array([[3e38] * 20, [3e38] * 20], np.float32)
        difference = replace(fine, values=np.array([3e38, -3e38, 1, 1], np.float32))
        assert run([fine], x, Processor(kernel=choose_kernel(kernel))).max() == 32
        assert "layer 3 " in self.error_of([difference], x, kernel)
        assert "layer 0 " in self.error_of([huge, difference], x, kernel)

    def test_infinity_that_a_bound_cuts_is_none(self, kernel: str) -> None:
        big = layer_of(np.full((2, 2), 3e38, np.float32), hi=np.float32(32))
        got = run([big], np.ones((2, 3), np.float32), Processor(kernel=choose_kernel(kernel)))
        assert (got == 32).all()

    def test_one_in_a_thread_s_share_of_rows_ends_the_run(
        self, kernel: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waves, "ROW_SPLIT_WORK", 0)
        weight = np.eye(8, dtype=np.float32)
        weight[7] = 3e38
        with (
            Processor(2, choose_kernel(kernel)) as processor,
            pytest.raises(NonFiniteActivation, match="layer 5 "),
        ):
            run([layer_of(weight, 5)], np.ones((8, 4), np.float32), processor)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_is_over_ends_within_a_layer(threads: int) -> None:
    """And not after it: a layer of a large batch takes minutes."""
    layer, x = layer_of(np.eye(8, dtype=np.float32)), np.ones((8, 4096), np.float32)
    calls: list[int] = []

    def check() -> None:
        calls.append(len(calls))
        if len(calls) >= 4:
            raise RunAborted("over")

    with Processor(threads, check=check) as processor, pytest.raises(RunAborted):
        run([layer], x, processor)
    # There are 16 blocks of samples; several threads may each have begun one more.
    assert len(calls) == 4 or threads > 1


def test_blocks_are_as_wide_as_the_cache_holds() -> None:
    caches = Caches(l2_bytes=1 << 20)
    assert waves.block_width(1024, caches) == 128
    assert waves.block_width(100, caches) == waves.WIDE
    assert waves.block_width(65536, caches) == waves.NARROWEST


def test_a_wave_ends_where_its_weights_fill_half_of_the_last_cache() -> None:
    layers = [layer_of(np.ones((32, 32), np.float32)) for _ in range(10)]
    assert waves.wave_stop(layers, 0, 4, Caches()) == 4
    assert waves.wave_stop(layers, 2, 99, Caches()) == 10
    assert waves.wave_stop(layers, 2, 99, Caches(last_bytes=2 * 3 * 8 * 1024)) == 5
    assert waves.wave_stop(layers, 2, 99, Caches(last_bytes=1)) == 3


@given(st.integers(1, 3000), st.integers(1, 8), st.integers(1, 6))
def test_blocks_are_alike_and_as_many_for_each_thread(samples: int, groups: int, threads: int) -> None:
    widths = even_widths(samples, groups * GROUP, threads)
    assert sum(widths) == samples
    assert max(widths) <= groups * GROUP
    assert max(widths) - min(widths) < 2 * GROUP
    assert all(width % GROUP == 0 for width in widths[:-1])
    assert len(widths) % threads == 0 or max(widths) <= GROUP


def test_threads_are_as_many_as_lambda_gives_processors() -> None:
    assert threads_for(128) == threads_for(VCPU_MB) == 1
    assert 1 <= threads_for(10_240) <= 6


def test_this_machine_s_caches_are_of_sizes_that_caches_have() -> None:
    caches = caches_here()
    assert 1 << 16 <= caches.l2_bytes <= caches.last_bytes < 1 << 34
