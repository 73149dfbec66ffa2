"""A model of dense and sparse layers, on a deployed stack: the same bits however it is cut."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from lamella import client
from lamella.client import RunHandle, Stack
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration.runs import activations, begin

SAMPLES = 23


@dataclass(frozen=True)
class Mixed:
    model: Path
    batch: Path
    plain: NDArray[np.float32]


def describe(folder: Path) -> Path:
    """A folder with model.json: 30 features, 10 classes."""
    random = np.random.default_rng(11)

    def weight(rows: int, columns: int) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    pruned = weight(90, 520)
    pruned[random.random(pruned.shape) < 0.9] = 0
    sparse.save_npz(folder / "pruned.npz", sparse.csr_matrix(pruned))
    np.save(folder / "half.npy", weight(64, 90).astype(np.float16))
    tensors = {
        "first": weight(520, 30),
        "shift": random.standard_normal(520).astype(np.float32),
        "last": weight(10, 64),
    }
    save_file(tensors, folder / "model.safetensors")
    layers = [
        {"weight": "first", "bias": "shift", "activation": "gelu"},
        {"weight": "pruned.npz", "bias": 0.1, "activation": "leaky_relu", "slope": 0.2, "hi": 3},
        {"weight": "half.npy", "activation": "tanh"},
        {"weight": "last", "bias": -0.25, "activation": "softmax"},
    ]
    (folder / "model.json").write_text(json.dumps({"layers": layers}))
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "source").mkdir()
    source = open_source(str(describe(folder / "source")))
    write_model(source, folder / "model", workers=[3])
    x = np.random.default_rng(3).standard_normal((SAMPLES, 30)).astype(np.float32)
    x[4] = 0
    np.save(folder / "x.npy", x)
    return Mixed(folder / "model", folder / "x.npy", plain_scipy(source, sparse.csr_array(x)))


@pytest.fixture(scope="module")
def rows_run(stack: Stack, mixed: Mixed) -> RunHandle:
    handle = begin(stack, mixed.model, mixed.batch, strategy="rows", workers=3, activations=True)
    client.watch(handle, poll_s=0.05)
    return handle


def test_three_workers_give_the_bits_of_the_plain_loop(
    rows_run: RunHandle, mixed: Mixed, tmp_path: Path
) -> None:
    assert activations(rows_run, tmp_path).tobytes() == mixed.plain.tobytes()


@pytest.mark.parametrize(("strategy", "workers"), [("serial", 1), ("samples", 2)])
def test_so_do_other_strategies(
    stack: Stack, mixed: Mixed, tmp_path: Path, strategy: str, workers: int
) -> None:
    handle = begin(stack, mixed.model, mixed.batch, strategy=strategy, workers=workers, activations=True)
    assert activations(handle, tmp_path).tobytes() == mixed.plain.tobytes()


def test_predictions_are_probabilities(rows_run: RunHandle, mixed: Mixed, tmp_path: Path) -> None:
    client.fetch(rows_run, tmp_path)
    with (tmp_path / "predictions.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [int(row["argmax"]) for row in found] == mixed.plain.argmax(axis=1).tolist()
    assert [np.float32(row["score"]) for row in found] == mixed.plain.max(axis=1).tolist()
    assert [int(row["nonzero"]) for row in found] == [10] * SAMPLES
    np.testing.assert_allclose(mixed.plain.sum(axis=1), 1, rtol=1e-6)
    assert client.details(rows_run)["categories"] == SAMPLES
