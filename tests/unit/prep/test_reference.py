from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

import model_prep.reference
from lamella.errors import BatchError
from model_prep.reference import plain_scipy
from model_prep.source import Source
from tests.unit.prep.sources import dense, dense_source, random_source
from tests.unit.prep.stored import same_bits


def by_hand(source: Source, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each sum one product after the other, in float32."""
    x: NDArray[np.float32] = batch.T.astype(np.float32)
    for layer in source:
        weight = dense(layer)
        y: NDArray[np.float32] = np.zeros((layer.outputs, x.shape[1]), np.float32)
        for column in range(layer.inputs):
            y += weight[:, [column]] * x[column]
        bias = np.broadcast_to(np.asarray(layer.bias, np.float32), layer.outputs)[:, None]
        y = y + bias if layer.bias_on == "all" else np.where(y != 0, y + bias, y)
        if layer.activation == "relu":
            y = np.maximum(y, 0)
        x = np.clip(y, layer.lo, layer.hi) if (layer.lo, layer.hi) != (None, None) else y
    return x.T


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("at_once", [7, 2048])
def test_same_bits_as_by_hand(monkeypatch: pytest.MonkeyPatch, share: float, at_once: int) -> None:
    monkeypatch.setattr(model_prep.reference, "SAMPLES_AT_ONCE", at_once)
    source = random_source((30, 40, 20, 25))
    batch = sparse.random_array((40, 30), density=share, dtype=np.float32, rng=2).tocsr()
    assert same_bits(plain_scipy(source, batch), by_hand(source, batch.toarray()))


@pytest.mark.parametrize(
    "behaviour",
    [
        {"bias": 0.5, "bias_on": "nonzero", "hi": 2},
        {"bias": 0.5, "bias_on": "all"},
        {"bias": [1, -1, 0], "activation": "identity", "bias_on": "nonzero"},
        {"lo": 0.25},
        {"lo": -0.5, "hi": 0.5, "activation": "identity"},
    ],
)
def test_bias_activation_and_bounds(behaviour: dict[str, Any]) -> None:
    # The second row's sum is zero for the second sample though its products are not.
    source = dense_source([[1, 0, 0], [1, -1, 0], [0, 0, 0]], [[1, 1, 1], [-1, 0, 2], [0, 0, 0]], **behaviour)
    batch = sparse.csr_array(np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1], [3, 0.5, 0]], np.float32))
    assert same_bits(plain_scipy(source, batch), by_hand(source, batch.toarray()))


def test_a_batch_of_nothing() -> None:
    assert plain_scipy(random_source((4, 3)), sparse.csr_array(np.zeros((0, 4), np.float32))).shape == (0, 3)


def test_features_must_fit() -> None:
    with pytest.raises(BatchError, match="has 5 features, test takes 4"):
        plain_scipy(random_source((4, 3)), sparse.csr_array(np.zeros((2, 5), np.float32)))
