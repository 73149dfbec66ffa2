"""Small models for tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model_prep.source import Source, SourceLayer, source_layer


def source_of(*layers: SourceLayer, description: str = "test") -> Source:
    """Layers as a source."""
    return Source(description, layers[0].inputs, len(layers), lambda k: layers[k])


def dense_source(*weights: Any, **behaviour: Any) -> Source:
    """Sparse layers of these matrices, alike in everything else."""
    layers = (
        source_layer(f"layer {k}", sparse.csr_array(np.array(w)), **behaviour) for k, w in enumerate(weights)
    )
    return source_of(*layers)


def random_source(widths: Sequence[int], density: float = 0.4, seed: int = 0) -> Source:
    """Ragged layers with a bias per row; ``widths`` are features, then rows of each layer."""
    draw = np.random.default_rng(seed)
    layers = []
    for k, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = draw.standard_normal((outputs, inputs)).astype(np.float32)
        weight[draw.random(weight.shape) > density] = 0
        bias = draw.standard_normal(outputs).astype(np.float32)
        layers.append(source_layer(f"layer {k}", sparse.csr_array(weight), bias=bias, hi=32.0))
    return source_of(*layers)


def write_edges(path: Path, weight: NDArray[np.float32]) -> None:
    """A layer (outputs x inputs) as a Graph Challenge file."""
    rows, columns = np.nonzero(weight)
    lines = [f"{c + 1}\t{r + 1}\t{weight[r, c]:.9e}\n" for r, c in zip(rows, columns, strict=True)]
    path.write_text("".join(lines))


def dense(layer: SourceLayer) -> NDArray[np.float32]:
    """A layer's weights as a plain array."""
    return layer.weight.toarray()
