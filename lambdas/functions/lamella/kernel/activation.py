"""Activations in numpy, step by step as kernel.c has them.

Each step is one float32 operation that IEEE 754 rounds, so both give the same bits. The exp and tanh of numpy
are not used: their last bits differ from processor to processor.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["identity", "relu", "leaky_relu", "sigmoid", "tanh", "gelu"]
CODES: dict[Activation, int] = {
    "identity": 0,
    "relu": 1,
    "leaky_relu": 2,
    "sigmoid": 3,
    "tanh": 4,
    "gelu": 5,
}
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)

Array = NDArray[np.float32]


def activate(x: Array, activation: Activation, slope: np.float32) -> Array:
    """The activation of each element; ``slope`` is leaky_relu's below zero."""
    zero = np.float32(0)
    if activation == "identity":
        return x
    if activation == "relu":
        return np.maximum(x, zero)
    if activation == "leaky_relu":
        return np.where(x < 0, x * slope, x) + zero
    curve = {"sigmoid": _sigmoid, "tanh": _tanh, "gelu": _gelu}[activation]
    return curve(x) + zero


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    first, second, *others = (np.float32(c) for c in coefficients)
    p = x * first + second
    for coefficient in others:
        p = p * x + coefficient
    return p


def _exp(x: Array) -> Array:
    """Of x <= 0: expf of the Cephes library."""
    x = np.where(x < -87, np.float32(-87), x)
    nearest = np.float32(12582912)
    n = (x * np.float32(1.44269504) + nearest) - nearest
    r = (x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = (_polynomial(r, _EXP) * (r * r) + r) + np.float32(1)
    return np.asarray(p * ((n.astype(np.int32) + 127) << 23).view(np.float32))


def _sigmoid(x: Array) -> Array:
    e = _exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, np.float32(1)) / (e + np.float32(1)))


def _tanh(x: Array) -> Array:
    """Tanhf of the Cephes library."""
    size = np.abs(x)
    s, e = x * x, _exp(size * np.float32(-2))
    far = (np.float32(1) - e) / (e + np.float32(1))
    return np.where(size < np.float32(0.625), _polynomial(s, _TANH) * s * x + x, np.where(x < 0, -far, far))


def _gelu(x: Array) -> Array:
    """X times the share of the normal distribution below x: Abramowitz and Stegun 7.1.26, to some 1e-7."""
    z = np.abs(x) * np.float32(0.707106781)
    t = np.float32(1) / (z * np.float32(0.3275911) + np.float32(1))
    tail = _polynomial(t, _ERFC) * t * _exp(-(z * z)) * np.float32(0.5)
    return np.asarray(x * np.where(x < 0, tail, np.float32(1) - tail))
