"""Activations against the mathematics."""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, sqrt, tanh

import numpy as np
import pytest

from lamella.kernel.activation import CODES, Activation, activate

TRUTH: dict[Activation, Callable[[float], float]] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else float(np.float32(0.01)) * x,
    "sigmoid": lambda x: 1 / (1 + exp(-x)) if x > -700 else 0.0,
    "tanh": tanh,
    "gelu": lambda x: x * erfc(-x / sqrt(2)) / 2,
}
POINTS = np.concatenate(
    [
        np.linspace(-20, 20, 40_001),
        np.linspace(-1e-3, 1e-3, 1001),
        [-1e30, -200, -104, -88, -87, 0.625, 87, 88, 104, 200, 1e30],
    ]
).astype(np.float32)


@pytest.mark.parametrize("activation", CODES)
def test_values_are_those_of_the_function(activation: Activation) -> None:
    with np.errstate(over="ignore"):
        got = activate(POINTS, activation, np.float32(0.01))
    assert got.dtype == np.float32
    truth = np.array([TRUTH[activation](float(x)) for x in POINTS])
    # gelu is good to some 1e-7 of x, the others to a few units in the last place.
    size = np.abs(POINTS if activation == "gelu" else truth)
    assert (np.abs(got - truth) <= 4e-7 * size + 1e-37).all()


@pytest.mark.parametrize("activation", sorted(set(CODES) - {"sigmoid"}))
def test_zero_stays_plain_zero(activation: Activation) -> None:
    zeros = np.zeros(3, np.float32)
    assert activate(zeros, activation, np.float32(0.01)).tobytes() == zeros.tobytes()
