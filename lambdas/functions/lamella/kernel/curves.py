"""Activation functions in numpy, bit for bit those of the compiled kernel (activations.h), and softmax.

Curves are taken in float64 and rounded to float32 once, within 1 unit in the last place. They are made of
additions, multiplications, divisions and selections alone, which IEEE 754 settles: numpy's own exp and tanh
choose code by processor. Operations and their order are those of activations.h, where each is explained.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lamella.activation_names import ActivationName

Doubles = NDArray[np.float64]

# As activations.h numbers them.
NUMBERS: dict[ActivationName, int] = {
    "identity": 0,
    "relu": 1,
    "leaky_relu": 2,
    "sigmoid": 3,
    "tanh": 4,
    "gelu": 5,
    "gelu_tanh": 6,
}

_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_SHIFT = float.fromhex("0x1.8p+52")
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_SERIES = tuple(1 / math.factorial(k) for k in range(10, -1, -1))
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_SQRT_2_PI = float.fromhex("0x1.9884533d43651p-1")
_ERFCX = tuple(
    float.fromhex(coefficient)
    for coefficient in (
        "-0x1.90dbf441aad2cp-19",
        "-0x1.3591cab334e56p-17",
        "0x1.f725ef2be30ddp-15",
        "-0x1.4bb5eb38237c8p-16",
        "-0x1.540298aa82593p-12",
        "0x1.b715934f89af8p-12",
        "0x1.948e1300c822cp-10",
        "-0x1.a89bcff98223dp-9",
        "-0x1.606bff2091fdbp-7",
        "0x1.2a88da9011ba8p-6",
        "0x1.1e2decdf2ff3ap-3",
        "0x1.5fd3867930ca3p-2",
        "0x1.058671b6180dcp-1",
    )
)


def activate(name: ActivationName, slope: np.float32, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The activation of float32 sums; NaN stays NaN."""
    with np.errstate(all="ignore"):
        if name == "relu":
            return np.where(x < 0, np.float32(0), x)
        if name == "leaky_relu":
            return np.where(x < 0, x * slope, x)
        curve = _CURVES.get(name)
        return x if curve is None else curve(x.astype(np.float64)).astype(np.float32)


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each column's exponentials over their sum, taken over ascending rows; stable for large x."""
    if not x.size:
        return x
    with np.errstate(under="ignore"):
        above = x.astype(np.float64) - x.max(axis=0).astype(np.float64)
        powers = exponential(_between(above, -700.0, 0.0))
        total = np.zeros(x.shape[1], np.float64)
        for row in powers:
            total += row
        return (powers / total).astype(np.float32)


def exponential(x: Doubles) -> Doubles:
    """e^x for |x| <= 700."""
    shifted = x * _LOG2_E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _polynomial(_SERIES, r)
    bits: NDArray[np.uint64] = p.view(np.uint64) + (shifted.view(np.uint64) << np.uint64(52))
    value: Doubles = bits.view(np.float64)
    return value


def _polynomial(coefficients: tuple[float, ...], x: Doubles) -> Doubles:
    """By Horner, the highest power's coefficient first."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _between(x: Doubles, low: float, high: float) -> Doubles:
    return np.where(x < low, low, np.where(x > high, high, x))


def _at_least(x: Doubles, low: float) -> Doubles:
    return np.where(x < low, low, x)


def _sigmoid(x: Doubles) -> Doubles:
    return 1.0 / (1.0 + exponential(_between(-x, -700.0, 700.0)))


def _tanh(x: Doubles) -> Doubles:
    size = np.where(x < 0, -x, x)
    square = size * size
    large = 1.0 - 2.0 / (exponential(_between(2.0 * size, 0.0, 50.0)) + 1.0)
    small = size + size * square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315)))
    value = np.where(size < 0.03125, small, large)
    signed: Doubles = np.where(x < 0, -value, value)
    return signed


def _gelu(x: Doubles) -> Doubles:
    x = _at_least(x, -40.0)
    z = np.where(x < 0, -x, x) * _SQRT_HALF
    t = 2.0 / (2.0 + z)
    tail = 0.5 * t * _polynomial(_ERFCX, 2.0 * t - 1.0) * exponential(_between(-0.5 * (x * x), -700.0, 0.0))
    share: Doubles = np.where(x < 0, tail, 1.0 - tail)
    return x * share


def _gelu_tanh(x: Doubles) -> Doubles:
    x = _at_least(x, -40.0)
    return x * _sigmoid(2.0 * (_SQRT_2_PI * (x + 0.044715 * (x * x * x))))


_CURVES: dict[ActivationName, Callable[[Doubles], Doubles]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
