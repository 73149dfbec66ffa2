"""Activation functions: accurate, alike in every kernel, and right where numbers end."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.activation_names import ActivationName
from lamella.activations import Activations
from lamella.kernel import LayerWeights, Processor, forward
from lamella.kernel.choice import available, choose_kernel
from lamella.kernel.curves import NUMBERS, activate, softmax
from lamella.kernel.fused import fused

SMALLEST = np.float32(1e-45)
LARGEST = np.finfo(np.float32).max
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


EXACT = {
    "sigmoid": logistic,
    "tanh": math.tanh,
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * logistic(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
}


def inputs() -> NDArray[np.float32]:
    random = np.random.default_rng(5)
    scales = [1e-44, 1e-30, 1e-4, 0.03, 0.3, 1, 4, 9, 60, 1e5, 1e37]
    drawn = np.concatenate([random.standard_normal(300) * scale for scale in scales])
    edges = [
        0.0,
        -0.0,
        SMALLEST,
        -SMALLEST,
        1 / 32,
        -1 / 32,
        20,
        -20,
        40,
        -40,
        88.7,
        -88.7,
        -103.9,
        -104,
        LARGEST,
        -LARGEST,
    ]
    return np.concatenate([drawn, edges]).astype(np.float32)


@pytest.mark.parametrize("name", EXACT)
def test_within_two_units_in_the_last_place(name: ActivationName) -> None:
    x = inputs()
    got = activate(name, np.float32(0), x)
    exact = np.array([EXACT[name](value) for value in x.tolist()])
    with np.errstate(over="ignore"):
        unit = np.maximum(np.spacing(np.abs(exact.astype(np.float32))), SMALLEST).astype(np.float64)
    assert (np.abs(got - exact) <= 2 * unit).all()


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("sigmoid", -np.inf, 0.0),
        ("sigmoid", np.inf, 1.0),
        ("sigmoid", 0.0, 0.5),
        ("tanh", -np.inf, -1.0),
        ("tanh", LARGEST, 1.0),
        ("tanh", SMALLEST, SMALLEST),
        ("gelu", -LARGEST, 0.0),
        ("gelu", LARGEST, LARGEST),
        ("gelu_tanh", -LARGEST, 0.0),
        ("gelu_tanh", LARGEST, LARGEST),
        ("relu", -3.0, 0.0),
        ("leaky_relu", -3.0, -1.5),
        ("leaky_relu", 3.0, 3.0),
        ("identity", -3.0, -3.0),
    ],
)
def test_at_the_ends(name: ActivationName, x: float, expected: float) -> None:
    assert activate(name, np.float32(0.5), np.array([x], np.float32)) == np.float32(expected)


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_stays_nan_to_be_found(name: ActivationName) -> None:
    assert np.isnan(activate(name, np.float32(0.5), np.full(3, np.nan, np.float32))).all()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("kernel", available())
def test_every_kernel_has_the_bits_of_numpy_s(kernel: str, name: ActivationName) -> None:
    x = inputs()[None]
    layer = LayerWeights(
        number=0,
        columns=1,
        starts=np.array([0, 1], np.int32),
        indices=np.zeros(1, np.int32),
        values=np.ones(1, np.float32),
        bias=np.float32(0),
        bias_on_nonzero=False,
        activation=name,
        slope=np.float32(-0.01),
        lo=None,
        hi=None,
        zeros_to_zeros=False,
    )
    samples = (0, x.shape[1])
    got = forward([layer], Activations(np.arange(*samples), x), samples, Processor(1, choose_kernel(kernel)))
    dense = np.zeros(x.shape[1], np.float32)
    dense[got.live] = got.values[0]
    # No activation is -0: what a message leaves out comes back as +0.
    assert dense.tobytes() == (activate(name, np.float32(-0.01), x[0]) + np.float32(0)).tobytes()


class TestSoftmax:
    def test_of_whole_columns(self) -> None:
        x = np.random.default_rng(1).normal(0, 5, (40, 7)).astype(np.float32)
        powers = np.exp(x.astype(np.float64) - x.max(axis=0))
        np.testing.assert_allclose(softmax(x), powers / powers.sum(axis=0), rtol=2e-7)

    def test_is_stable(self) -> None:
        x = np.array([[1e38, -1e38, 0], [1e38, 3e38, 0], [-3e38, 3e38, 0]], np.float32)
        assert softmax(x).T.tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5], [np.float32(1 / 3)] * 3]

    def test_of_nothing(self) -> None:
        assert softmax(np.zeros((3, 0), np.float32)).shape == (3, 0)

    def test_columns_do_not_depend_on_each_other(self) -> None:
        x = np.random.default_rng(1).normal(0, 5, (40, 33)).astype(np.float32)
        apart = [softmax(np.ascontiguousarray(x[:, [k]])) for k in range(33)]
        assert softmax(x).tobytes() == np.concatenate(apart, axis=1).tobytes()


def rounded(value: Fraction) -> np.float32:
    """To nearest, ties to even."""
    near = np.float32(float(value)) if abs(value) < 2**127 else np.float32(np.sign(float(value)) * LARGEST)
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    finite = [number for number in around if np.isfinite(number)]
    least = min(abs(Fraction(float(number)) - value) for number in finite)
    nearest = [number for number in finite if abs(Fraction(float(number)) - value) == least]
    return min(nearest, key=lambda number: int(np.float32(number).view(np.uint32)) & 1)


@given(FLOATS, FLOATS, FLOATS)
def test_fused_sums_are_rounded_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if abs(exact) >= LARGEST:
        return
    got = fused(*(np.array([value], np.float32) for value in (a, b, c)))[0]
    assert got == rounded(exact)


@given(st.integers(1, 2**24 - 1), st.integers(1, 2**24 - 1), st.integers(1, 2**24 - 1), st.integers(-60, 30))
def test_fused_sums_are_not_rounded_twice(a: int, b: int, c: int, exponent: int) -> None:
    addend = math.ldexp(c, exponent)
    got = fused(*(np.array([value], np.float32) for value in (a, b, addend)))[0]
    assert got == rounded(Fraction(a) * b + Fraction(addend))


def test_a_tie_that_float64_would_round_twice() -> None:
    # a b + c lies just above the middle of two float32 numbers, by less than float64 can show.
    a, b, c = np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(2**-60)
    naive = np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    got = fused(np.array([a]), np.array([b]), np.array([c]))[0]
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert got == rounded(exact) != naive


def test_infinity_and_nan_pass() -> None:
    got = fused(
        *(np.array(values, np.float32) for values in ([1e38, np.inf, 1], [1e38, 1, 1], [0, 1, np.nan]))
    )
    assert got[:2].tolist() == [np.inf, np.inf]
    assert np.isnan(got[2])
