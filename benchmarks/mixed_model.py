"""A model in which no layer is like the next: what a strategy, a cut or a channel takes for granted fails.

Ten layers of 96 to 400 rows, sparse ones with rows of very different lengths (some empty) and columns that
nobody reads, dense ones in float32 and float16, a bias for each row or one for all or none, added everywhere
or where a sum is not zero. Samples die in the sparse layers with a negative bias, and dense layers revive
them. Softmax comes last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from benchmarks.samples import Samples

FEATURES, SAMPLES = 230, 600
SEED = 6


def write_mixed_model(folder: Path) -> Path:
    """A folder with ``model.json``, as ``lamella prep`` reads it."""
    draw = np.random.default_rng(SEED)
    tensors: dict[str, NDArray[Any]] = {}
    layers: list[dict[str, Any]] = []

    def named(values: NDArray[Any]) -> str:
        tensors[f"tensor-{len(tensors)}"] = values
        return f"tensor-{len(tensors) - 1}"

    def biases(rows: int, low: float, high: float) -> str:
        return named(draw.uniform(low, high, rows).astype(np.float32))

    def add(weight: NDArray[np.float32] | str, **described: Any) -> None:
        if isinstance(weight, str):
            layers.append({"weight": weight} | described)
            return
        name = f"layer-{len(layers)}.npz"
        sparse.save_npz(folder / name, sparse.csr_matrix(weight))
        layers.append({"weight": name} | described)

    def dense(rows: int, columns: int, dtype: type[np.floating[Any]] = np.float32) -> str:
        return named((draw.standard_normal((rows, columns)) * 4 / columns**0.5).astype(dtype))

    folder.mkdir(parents=True, exist_ok=True)
    add(_irregular(draw, 400, FEATURES), bias=-0.2, bias_on="nonzero", hi=4)
    add(_irregular(draw, 256, 400), bias=biases(256, -0.1, 0.1), activation="leaky_relu", slope=0.125)
    add(dense(192, 256, np.float16), bias=biases(192, -1, 1), activation="sigmoid")
    add(_irregular(draw, 320, 192), bias=biases(320, -1, 0.5), hi=2)
    add(_irregular(draw, 208, 320), bias=-1.4, bias_on="nonzero")
    add(_irregular(draw, 160, 208), bias=-0.05, bias_on="nonzero", hi=32)
    add(dense(128, 160), bias=biases(128, -1, 1), activation="sigmoid", hi=0.875)
    add(_irregular(draw, 288, 128), activation="leaky_relu", bias=biases(288, -0.25, 0.25), lo=-0.5)
    add(_irregular(draw, 96, 288), activation="relu")
    add(dense(120, 96), bias=biases(120, -0.5, 0.5), activation="softmax")
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps({"layers": layers}), encoding="utf-8")
    return folder


def mixed_samples(folder: Path) -> Samples:
    """Samples of every kind: all zero, of one feature, sparse, dense, large, negative."""
    draw = np.random.default_rng(SEED)
    values = draw.standard_normal((SAMPLES, FEATURES)).astype(np.float32)
    share = draw.choice([0.0, 0.005, 0.05, 0.3, 1.0], (SAMPLES, 1))
    values[draw.random(values.shape) >= share] = 0
    values *= draw.choice([0.05, 1.0, 20.0], (SAMPLES, 1)).astype(np.float32)
    matrix = sparse.csr_array(values)
    path = folder / "mixed-samples.npz"
    sparse.save_npz(path, matrix)
    return Samples(f"{SAMPLES:,} samples (seed {SEED})", matrix, path)


def _irregular(draw: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Rows of 0 to a third of the columns, most of them short; every tenth column is read by nobody."""
    lengths = np.minimum((draw.pareto(1.1, rows) * 4).astype(int), columns // 3)
    matrix = np.zeros((rows, columns), np.float32)
    read = np.flatnonzero(np.arange(columns) % 10 != 9)
    for row, length in enumerate(lengths):
        chosen = draw.choice(read, min(int(length), len(read)), replace=False)
        matrix[row, chosen] = draw.standard_normal(len(chosen)) / max(length, 1) ** 0.5
    return matrix
