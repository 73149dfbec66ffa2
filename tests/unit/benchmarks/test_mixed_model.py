"""The model in which no layer is like the next is what its description says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.mixed_model import SAMPLES, mixed_samples, write_mixed_model
from model_prep.dense import DenseWeight
from model_prep.readers import open_source
from model_prep.reference import plain_scipy


def test_samples_die_and_are_revived_and_differ_in_the_end(tmp_path: Path) -> None:
    source = open_source(str(write_mixed_model(tmp_path / "mixed")))
    live: dict[int, int] = {}
    output = plain_scipy(source, mixed_samples(tmp_path).matrix, live.__setitem__)
    assert [live[1] < SAMPLES, live[2] == SAMPLES, 0 < live[6] < SAMPLES, live[7] == SAMPLES] == [True] * 4
    assert len(np.unique(output, axis=0)) > SAMPLES / 10
    np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-4)


def test_layers_are_unlike_each_other(tmp_path: Path) -> None:
    layers = list(open_source(str(write_mixed_model(tmp_path / "mixed"))))
    assert len({layer.outputs for layer in layers}) == len(layers) == 10
    assert all(96 <= layer.outputs <= 400 for layer in layers)
    assert {layer.activation for layer in layers} == {"relu", "leaky_relu", "sigmoid", "softmax"}
    sparse = [layer.weight for layer in layers if not isinstance(layer.weight, DenseWeight)]
    assert len(sparse) == 7
    for weight in sparse:
        lengths = np.diff(weight.indptr)
        assert lengths.min() == 0
        assert lengths.max() > 5 * np.median(lengths)


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (write_mixed_model(tmp_path / name) for name in "ab")
    files = sorted(path.name for path in first.iterdir())
    assert files == sorted(path.name for path in second.iterdir())
    for name in ("model.json", "model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
