"""A network that is everything the Graph Challenge's is not: unstructured, and no sample dies in it.

Ninety percent of its weights are pruned at random, so rows differ in length and in inputs, and no order of
them saves any halo. Biases are positive, and weights are scaled a little beyond what would keep the spread of
activations (He et al. 2015, variance 2 / inputs): they grow until a few percent are clipped at 32, and then
samples neither fade nor grow alike, however deep the network is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lamella.errors import ModelError
from model_prep.source import Source, SourceLayer, source_layer

DENSITY = 0.1
GAIN = 2.2
CLIP = 32.0
# Features are 0 or 1, activations some tens.
FIRST_LAYER_SCALE = 24.0
_MAX_NEURONS = 2**20


@dataclass(frozen=True)
class AliveNet:
    """A random pruned network; the same neurons, layers and seed give the same network.

    Raises
    ------
    ModelError
        If there is no such network.
    """

    neurons: int
    layers: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.neurons <= _MAX_NEURONS or self.layers < 1:
            raise ModelError(
                f"{self.description}: neurons must be 1 to {_MAX_NEURONS}, and layers 1 or more, "
                "as in alive:1024x120"
            )

    @property
    def description(self) -> str:
        """Its name as a source."""
        return f"alive:{self.neurons}x{self.layers}"

    def layer(self, k: int) -> SourceLayer:
        """Layer k (from 0)."""
        n = self.neurons
        draw = np.random.default_rng([self.seed, n, k])
        # Gaps between the entries of the flattened matrix, instead of a draw for each of its elements.
        gaps = draw.geometric(DENSITY, int(n * n * DENSITY + 6 * n + 64))
        cells = np.cumsum(gaps) - 1
        cells = cells[cells < n * n]
        reach = np.sqrt(3 * GAIN / (DENSITY * n)) * (1 if k else FIRST_LAYER_SCALE)
        weights = ((2 * draw.random(len(cells), np.float32) - 1) * np.float32(reach)).astype(np.float32)
        matrix = sparse.coo_array((weights, np.divmod(cells, n)), shape=(n, n))
        bias = 0.5 + draw.random(n, np.float32)
        return source_layer(f"{self.description} layer {k + 1}", matrix, bias=bias, hi=CLIP)

    def source(self) -> Source:
        """The network as a source."""
        return Source(self.description, self.neurons, self.layers, self.layer)
